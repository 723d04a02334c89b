-- name: lock_session
-- Whoever moves a session's money holds this lock first; nobody else ever waits for its accounts.
select id, state, pubkey, refund_to from sessions where id = $1 for no key update

-- name: of_token
select id, state, pubkey, refund_key_hash from sessions where token_hash = $1

-- name: keys
select token_hash, refund_key_hash from sessions where id = $1 and not is_l402

-- name: insert_session
insert into sessions (id, token_hash, refund_key_hash, pubkey, client_address, deposit_sats, refund_to, is_l402)
values ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: insert_invoice
-- The preimage is stored first: an answer of LND that is lost can be asked for again. No row: the address has as many
-- open invoices as one may have ($9; soft, counted without a lock).
insert into invoices (payment_hash, preimage, purpose, session_id, client_address, amount_msat, memo, planned_expires_at)
select $1, $2, $3, $4, $5::inet, $6, $7, now() + make_interval(secs => $8)
where (select count(*) from (
    select from invoices where client_address = $5::inet and state in ('planned', 'open') limit $9) as open) < $9
returning payment_hash

-- name: last_deposit
-- The deposit invoice of a session whose creation was interrupted.
select preimage, amount_msat, memo, state, ceil(extract(epoch from planned_expires_at - now()))::int as expiry_s
from invoices where session_id = $1 and purpose = 'deposit' order by created_at desc limit 1

-- name: open_topup
-- An unpaid top-up that covers what is missing ($2 msat) without asking for twice as much, with time left to pay it.
select preimage, amount_msat, memo, ceil(extract(epoch from planned_expires_at - now()))::int as expiry_s
from invoices
where session_id = $1 and purpose = 'topup' and state in ('planned', 'open')
  and amount_msat between $2 and 2 * $2 and planned_expires_at > now() + make_interval(secs => $3)
order by amount_msat, created_at limit 1

-- name: activate
update sessions set state = 'active', last_used_at = now(), updated_at = now()
where id = $1 and state = 'awaiting_deposit'

-- name: touch
update sessions set last_used_at = now(), updated_at = now() where id = $1

-- name: expire_unpaid
-- Only when none of its invoices can be paid any more.
update sessions set state = 'expired', updated_at = now()
where id = $1 and state = 'awaiting_deposit'
  and not exists (select from invoices where session_id = $1 and state in ('planned', 'open'))
returning id

-- name: insert_refund
-- One debt, one cause.
insert into refunds (id, job_id, session_id, cause, amount_sats) values ($1, $2, $2, $3, $4)

-- name: insert_entry
-- The next line of the statement, under the session's lock.
insert into session_entries (session_id, number, kind, subject, change_msat, balance_msat)
select $1, coalesce(last.number, 0) + 1, $2, $3, $4, coalesce(last.balance_msat, 0) + $4
from (select) as always
left join lateral (
    select number, balance_msat from session_entries where session_id = $1 order by number desc limit 1) as last on true

-- name: session
-- Everything that a reader of a session sees, in one statement.
select session.*,
       coalesce((select balance_msat from accounts where code = 'available:' || session.id), 0) as available_msat,
       coalesce((select balance_msat from accounts where code = 'held:' || session.id), 0) as held_msat,
       (select jsonb_agg(jsonb_build_array(refund.state, refund.amount_sats)) from refunds refund
        where refund.job_id = session.id) as refunds,
       (select attempt.failure_reason from refund_attempts attempt where attempt.job_id = session.id
        order by attempt.created_at desc limit 1) as refund_failure,
       invoice.payment_request as invoice_request, encode(invoice.payment_hash, 'hex') as invoice_hash,
       invoice.amount_msat as invoice_amount_msat, invoice.expires_at as invoice_expires_at,
       invoice.state as invoice_state, invoice.amount_paid_msat as invoice_paid_msat
from sessions session
left join lateral (
    -- The newest that can still be paid; the deposit's stays to be seen while it is what the session waits for.
    select * from invoices where invoices.session_id = session.id and payment_request is not null
        and (invoices.state in ('planned', 'open') or session.state in ('awaiting_deposit', 'expired'))
    order by created_at desc limit 1
) as invoice on true
where session.id = $1

-- name: spent_msat
-- All that was charged, and what is held for requests that run. Under the session's lock.
select coalesce(-sum(change_msat) filter (where kind = 'request'), 0)::bigint
       + coalesce((select balance_msat from accounts where code = 'held:' || $1), 0)
from session_entries where session_id = $1

-- name: insert_request
-- The lease begins now, not when the transaction began to wait for the session's lock.
insert into session_requests (id, session_id, work, request_hash, pubkey, client_address, serve, estimate_sats,
                              absorb_sats, held_sats, owner, lease_until)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
        clock_timestamp() + make_interval(secs => $12))

-- name: request
select * from session_requests where id = $1

-- name: session_of_request
select session_id from session_requests where id = $1

-- name: lock_request
-- After its session. What a dead process left running is known by its lease.
select *, lease_until < now() as is_lost from session_requests where id = $1 for no key update

-- name: end_request
-- Guarded: each request ends exactly once.
update session_requests set state = $2, result = $3, actual_cost_sats = $4, absorbed_sats = $5, charged_sats = $6,
    failure_reason = $7, ended_at = now(),
    balance_sats = coalesce((select balance_msat from accounts where code = 'available:' || session_id), 0) / 1000
where id = $1 and state = 'running' returning id

-- name: renew_leases
-- Of what this process really runs; a request that it lost track of lapses.
update session_requests set lease_until = clock_timestamp() + make_interval(secs => $3)
where id = any($2::text[]) and owner = $1 and state = 'running'

-- name: lost_requests
-- What this process ($1) runs ($2) is not lost, however late its lease is renewed.
select id from session_requests
where state = 'running' and lease_until < now() and not (owner = $1 and id = any($2::text[]))
order by lease_until limit 100

-- name: forget_results
-- Kept for a repeated call with the same Idempotency-Key, which is answered for a day.
update session_requests set result = null where id in (
    select id from session_requests where result is not null and ended_at < now() - interval '25 hours' limit 1000)

-- name: planned_topup
-- A top-up whose answer by LND was lost: asked for again by the same call.
select preimage, amount_msat, memo, ceil(extract(epoch from planned_expires_at - now()))::int as expiry_s
from invoices
where session_id = $1 and purpose = 'topup' and state = 'planned' and amount_msat = $2
  and planned_expires_at > now() + interval '10 seconds'
order by created_at desc limit 1

-- name: begin_closing
update sessions set state = 'closing', updated_at = now() where id = $1 and state = 'active'

-- name: set_refund_to
-- The last word counts; it was checked, and came with the refund key.
update sessions set refund_to = $2, refund_to_error = null, refund_to_retry_at = null, updated_at = now()
where id = $1

-- name: balance_msat
select balance_msat from accounts where code = 'available:' || $1

-- name: end_closing
-- Under the session's lock, in a statement of its own: what runs was begun before the lock was taken.
update sessions set state = 'closed', updated_at = now()
where id = $1 and state = 'closing'
  and not exists (select from session_requests where session_id = $1 and state = 'running')
returning id

-- name: closing_sessions
select id from sessions where state = 'closing' order by updated_at limit 100

-- name: idle_sessions
select id from sessions where state = 'active' and last_used_at < now() - make_interval(days => $1)
order by last_used_at limit 100

-- name: expire_idle
-- Under the session's lock. Its balance stays, to be paid when its owner closes it.
update sessions set state = 'expired', updated_at = now()
where id = $1 and state = 'active' and last_used_at < now() - make_interval(days => $2)
  and not exists (select from session_requests where session_id = $1 and state = 'running')
returning id

-- name: last_request
-- What the session's page shows; the result is kept for a day.
select * from session_requests where session_id = $1 order by created_at desc, id desc limit 1

-- name: last_number
select coalesce(max(number), 0) from session_entries where session_id = $1

-- name: totals
-- paid in = charged + owed back + what is left, but for what is below a sat.
select coalesce(sum(change_msat) filter (where kind in ('deposit', 'topup')), 0)::bigint as paid_in_msat,
       coalesce(-sum(change_msat) filter (where kind = 'request'), 0)::bigint as charged_msat,
       coalesce(-sum(change_msat) filter (where kind = 'refund'), 0)::bigint as refunded_msat,
       coalesce((select sum(absorbed_sats) from session_requests where session_id = $1), 0)::bigint as absorbed_sats,
       coalesce((select balance_msat from accounts where code = 'available:' || $1), 0) as available_msat,
       coalesce((select balance_msat from accounts where code = 'held:' || $1), 0) as held_msat
from session_entries where session_id = $1

-- name: statement
-- The lines after number $2, with what each one was about.
select line.number, line.kind, line.subject, line.change_msat, line.balance_msat, line.created_at,
       request.work, request.state as request_state, request.serve, request.estimate_sats, request.actual_cost_sats,
       request.absorbed_sats, request.failure_reason, refund.state as refund_state
from session_entries line
left join session_requests request on line.kind = 'request' and request.id = line.subject
left join refunds refund on line.kind = 'refund' and refund.cause = line.subject
where line.session_id = $1 and line.number > $2
order by line.number limit $3
