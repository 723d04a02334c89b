-- name: lock_job
-- Locks go job (or session) first, then refunds.
select id, state, refund_to, state in ('complete', 'failed', 'rejected', 'expired') as has_ended
from jobs where id = $1 for no key update

-- name: lock_session
select id, state, refund_to, state in ('closed', 'expired') as has_ended from sessions where id = $1 for no key update

-- name: with_last_attempt
-- The newest attempt of an owner ($1). Between sends: the node told how each of them ended, and the next is not due yet.
last as (
    select id, state, destination, coalesce(lease_until > now(), false) as leased,
           state = 'unfinished' and sends > 0 and sends = failed_sends as between_sends
    from refund_attempts where job_id = $1 order by created_at desc limit 1
)

-- name: last_attempt
with
-- include: gateway.refunds queries.sql with_last_attempt
select id, state, destination, leased, between_sends from last

-- name: claim_facts
-- Under the owner's lock: who has this payment hash (it belongs to one attempt, for ever), how the newest attempt stands, and
-- what is pending, locked.
with pending as materialized (
    select id, amount_sats from refunds where job_id = $1 and state = 'pending' order by id for no key update
),
-- include: gateway.refunds queries.sql with_last_attempt
select (select job_id from refund_attempts where payment_hash = $2) as claimant,
       (select jsonb_agg(jsonb_build_array(id, amount_sats) order by id) from pending) as pending,
       last.id, last.state, last.destination, last.leased, last.between_sends
from (select) as one left join last on true

-- name: lock_pending
select id, amount_sats from refunds where job_id = $1 and state = 'pending' order by id for no key update

-- name: owed
-- Also what waits for an attempt's next send: that attempt gives way to a new destination.
select refund.id, refund.amount_sats
from refunds refund left join refund_attempts attempt on attempt.id = refund.attempt_id
where refund.job_id = $1 and (refund.state = 'pending' or (
    refund.state = 'paying' and attempt.state = 'unfinished' and attempt.sends > 0
    and attempt.sends = attempt.failed_sends and coalesce(attempt.lease_until < now(), true)))

-- name: give_way
-- Finally failed, because its owner gave another destination: the node told how each of its sends ended, and nobody
-- holds its lease, so none can leave any more.
update refund_attempts set state = 'failed', failure_reason = coalesce(failure_reason, $2), finished_at = now(),
    lease_owner = null, lease_until = null
where id = $1 and state = 'unfinished' and sends > 0 and sends = failed_sends and coalesce(lease_until < now(), true)
returning id

-- name: pin
-- This invoice and no other is paid by this attempt: its hash is unique for ever. It claims these refunds ($14), and
-- $15 is on file from here on.
with attempt as (
    insert into refund_attempts (id, job_id, session_id, destination, payment_request, payment_hash, amount_sats, amountless,
                                 fee_limit_msat, expires_at, payee, fee_bound, fee_day_budget_msat, fee_payee_budget_msat)
    values ($1, $2, (select id from sessions where id = $2), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
), job as (
    update jobs set refund_to = $15, refund_to_error = null, refund_to_retry_at = null, updated_at = now() where id = $2
), session as (
    update sessions set refund_to = $15, refund_to_error = null, refund_to_retry_at = null, updated_at = now() where id = $2
)
update refunds set state = 'paying', attempt_id = $1, updated_at = now() where id = any($14) and state = 'pending'

-- name: seen_before_claim
-- An owner ($1) before it is claimed what is owed to it, nothing locked: as a job, when it changed last; what is pending; whether
-- anything was claimed before; and whose attempt has this payment hash ($2).
select (select job_id from refund_attempts where payment_hash = $2) as claimant,
       (select updated_at from jobs where id = $1) as changed_at,
       (select jsonb_agg(jsonb_build_array(id, amount_sats) order by id) from refunds where job_id = $1 and state = 'pending')
           as pending,
       exists (select from refund_attempts where job_id = $1) as was_claimed

-- name: pin_first
-- The first claim on a job, of all that was seen pending on it ($12), in one statement. Locks: job, refunds, fees, and each
-- is looked at again under its lock. A job that changed since ($13), or a budget that has less than the usual limit left:
-- nothing is written. Rows are found by $2 itself: a plan made on small tables would join all of them, under the locks.
with owner as materialized (
    select id from jobs where id = $2 and updated_at = $13 for no key update
), owed as materialized (
    select refund.id, refund.amount_sats from owner, refunds refund
    where refund.job_id = $2 and refund.state = 'pending' and refund.id = any($12::text[])
    order by refund.id for no key update of refund
), fees as materialized (
    select all_msat, payee_msat from fees_counted($14, $10) where (select count(*) from owed) = cardinality($12::text[])
), attempt as (
    insert into refund_attempts (id, job_id, destination, payment_request, payment_hash, amount_sats, amountless,
                                 fee_limit_msat, expires_at, payee, fee_day_budget_msat, fee_payee_budget_msat)
    select $1, owner.id, $3, $4, $5, $6, $7, $8::bigint, $9, $10, $11::bigint, $15::bigint
    from owner, fees
    where all_msat + $8::bigint <= coalesce($11::bigint, all_msat + $8::bigint)
      and payee_msat + $8::bigint <= coalesce($15::bigint, payee_msat + $8::bigint)
    returning job_id, amount_sats
), job as (
    update jobs set refund_to = $16, refund_to_error = null, refund_to_retry_at = null, updated_at = now()
    from attempt where jobs.id = $2
), claimed as (
    update refunds set state = 'paying', attempt_id = $1, updated_at = now()
    from attempt, owed where refunds.id = owed.id
    returning refunds.amount_sats
)
select true from attempt
where must_hold('an attempt pays what it claims', amount_sats = (select sum(claimed.amount_sats) from claimed))

-- name: fees_counted
-- Under the lock of all claims, in all processes, until the commit: what is left of a budget is granted once.
select all_msat, payee_msat from fees_counted($1, $2)

-- name: sends_in_flight
-- Under the lock of all sends, in all processes, until the commit, so that the cap on what is in flight holds.
select attempt_id, sats from sends_in_flight($1)

-- name: count_sends
-- Sends, if they keep within the cap ($2; null: that was decided) all together: each is counted, its lease checked and renewed,
-- in the step before it leaves, by the clock of then (the lock may have been waited for). What its owner counted and got no
-- answer to counts once: a lease is for one send. One row at least; `fits` false: none was counted, because of the cap.
with flight as (
    select attempt_id, sats from sends_in_flight($1)
), total as materialized (
    select $2::bigint is null or coalesce(sum(sats), 0) <= $2 as fits
    from (select * from flight union select id, amount_sats from refund_attempts where id = any($3::text[])) as together
), counted as (
    update refund_attempts attempt set sends = asked.sends + 1, failure_reason = null, node_pubkey = asked.node_pubkey,
        highest_payment_index = asked.highest_payment_index,
        lease_until = clock_timestamp() + make_interval(secs => $8)
    from unnest($3::text[], $4::text[], $5::int[], $6::text[], $7::bigint[])
        as asked (id, owner, sends, node_pubkey, highest_payment_index)
    where (select fits from total) and attempt.id = asked.id and attempt.lease_owner = asked.owner
      and attempt.lease_until > clock_timestamp() and attempt.state = 'unfinished'
      and attempt.sends in (asked.sends, asked.sends + 1)
    returning attempt.*, clock_timestamp() as now
)
select total.fits, counted.* from total left join counted on true

-- name: set_refund_to
-- Of the owner, whichever it is.
with job as (
    update jobs set refund_to = $2, refund_to_error = null, refund_to_retry_at = null, updated_at = now() where id = $1)
update sessions set refund_to = $2, refund_to_error = null, refund_to_retry_at = null, updated_at = now() where id = $1

-- name: due_on_file
-- Enough is owed ($1 sats), nothing is under way, the payer said where to, and nobody asks there now ($2). Those first that were
-- never asked: addresses that do not answer, however many, take no turn of theirs.
select owner.id, owner.refund_to
from (select job_id from refunds where state = 'pending' group by job_id having sum(amount_sats) >= $1) as owed
join (
    select id, refund_to, refund_to_error, refund_to_retry_at, updated_at from jobs where refund_to is not null
    union all
    select id, refund_to, refund_to_error, refund_to_retry_at, updated_at from sessions where refund_to is not null
) as owner on owner.id = owed.job_id
where coalesce(owner.refund_to_retry_at <= now(), owner.refund_to_error is null) and owner.id <> all($2::text[])
  and not exists (select from refund_attempts attempt where attempt.job_id = owner.id
                  and (attempt.state in ('unfinished', 'frozen') or attempt.lease_until > now()))
order by owner.refund_to_retry_at nulls first, owner.updated_at limit $3

-- name: ask_later
-- Of the owner, whichever it is. Nobody is told, so updated_at stays.
with job as (
    update jobs set refund_to_retry_at = now() + make_interval(secs => $3) where id = $1 and refund_to = $2)
update sessions set refund_to_retry_at = now() + make_interval(secs => $3) where id = $1 and refund_to = $2

-- name: reject_on_file
with job as (
    update jobs set refund_to_error = $3, refund_to_retry_at = null, updated_at = now() where id = $1 and refund_to = $2)
update sessions set refund_to_error = $3, refund_to_retry_at = null, updated_at = now() where id = $1 and refund_to = $2

-- name: reject_tried
-- The address that gave the attempt's invoice says why it failed. Asked again ($3): tomorrow, when the next day's budget is
-- there (at once if the attempt counted on a day that is over); or soon, after $4 s.
with tried as (
    select job_id, destination, case $3 when 'tomorrow' then (fee_day + 1)::timestamp at time zone 'utc'
                                        when 'soon' then now() + make_interval(secs => $4) end as again_at
    from refund_attempts where id = $1
), job as (
    update jobs set refund_to_error = $2, updated_at = now(), refund_to_retry_at = again_at
    from tried where jobs.id = tried.job_id and refund_to = tried.destination)
update sessions set refund_to_error = $2, updated_at = now(), refund_to_retry_at = again_at
from tried where sessions.id = tried.job_id and refund_to = tried.destination

-- name: lease_due
-- One executor per attempt: the lease is taken in one guarded step, whoever else looks.
update refund_attempts set lease_owner = $1, lease_until = now() + make_interval(secs => $2)
where id in (
    select id from refund_attempts
    where state = 'unfinished' and next_look_at <= now() and (lease_until is null or lease_until < now())
    order by next_look_at limit $3
    for no key update skip locked)
returning *, now() as now

-- name: highest_recorded_index
-- What this node's history is known to have reached.
select coalesce(max(highest_payment_index), 0) from refund_attempts where node_pubkey = $1

-- name: look_again
-- Nothing is decided: give the lease back.
update refund_attempts set update_seen = update_seen or $3, lease_owner = null, lease_until = null,
    next_look_at = now() + make_interval(secs => $4)
where id = $1 and lease_owner = $2 and state = 'unfinished'

-- name: count_failure
-- LND's terminal FAILED uses up one counted send; $5: why, for whoever waits.
update refund_attempts set failed_sends = failed_sends + 1, last_failed_index = $3, update_seen = true,
    failure_reason = $5,
    lease_owner = null, lease_until = null, next_look_at = now() + make_interval(secs => $4)
where id = $1 and lease_owner = $2 and state = 'unfinished' and failed_sends < sends and last_failed_index < $3

-- name: record_paid
-- Attempts, their refunds, and a word to whoever watches their owners, in one statement: owners are locked first ($5, jobs,
-- then sessions, each by id). What is to be posted for each that won ($6 to $12) is what its attempt was for, and is posted
-- whole, or the statement fails. Answers those that won.
with job_first as materialized (
    select id from jobs where id = any($5::text[]) order by id for no key update
), session_next as materialized (
    select id from sessions where id = any($5::text[]) and (select count(*) from job_first) >= 0
    order by id for no key update
), paid as (
    update refund_attempts attempt set state = 'paid', preimage = ended.preimage, fee_msat = ended.fee_msat,
        finished_at = now(), lease_owner = null, lease_until = null
    from unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[]) as ended (id, owner, preimage, fee_msat)
    where attempt.id = ended.id and attempt.lease_owner = ended.owner and attempt.state = 'unfinished'
      and (select count(*) from session_next) >= 0
    returning attempt.id, ended.owner, attempt.job_id, attempt.amount_sats, attempt.fee_msat
), refund as (
    update refunds set state = 'paid', updated_at = now() from paid where attempt_id = paid.id and state = 'paying'
), job as (
    update jobs set updated_at = now() from paid where jobs.id = paid.job_id
), session as (
    update sessions set updated_at = now() from paid where sessions.id = paid.job_id
), wanted as materialized (
    select cause_kind, cause_id, debit, credit, amount_msat
    from unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[])
        as transfer (attempt_id, owner, cause_kind, cause_id, debit, credit, amount_msat)
    join paid on paid.id = transfer.attempt_id and paid.owner = transfer.owner
), limits as (
    select null::text as code, 0 as place where false
), opening as (
    select null::text as code where false
),
-- include: ledger book.sql with_posting
select id, owner from paid
where must_hold('a refund that arrived is booked whole', (select count(*) from posted) = (select count(*) from wanted))
  and must_hold('what is booked is what its attempt was for', (amount_sats * 1000, fee_msat) = (
        select coalesce(sum(amount_msat) filter (where debit = 'refunds_payable'), 0),
               coalesce(sum(amount_msat) filter (where debit = 'routing_fees'), 0)
        from wanted where cause_id = paid.id))

-- name: record_failed
update refund_attempts set state = 'failed', failure_reason = $3, finished_at = now(),
    lease_owner = null, lease_until = null
where id = $1 and lease_owner = $2 and state = 'unfinished' returning job_id

-- name: record_frozen
update refund_attempts set state = 'frozen', failure_reason = $3, lease_owner = null, lease_until = null
where id = $1 and lease_owner = $2 and state = 'unfinished' returning job_id

-- name: refunds_paid
update refunds set state = 'paid', updated_at = now() where attempt_id = $1 and state = 'paying'

-- name: refunds_pending_again
-- Only LND's terminal word leads here.
update refunds set state = 'pending', attempt_id = null, updated_at = now() where attempt_id = $1 and state = 'paying'

-- name: donate_refunds
-- Terminal: no claim can take them any more.
update refunds set state = 'donated', updated_at = now() where id = any($1) and state = 'pending'

-- name: touch_job
with job as (update jobs set updated_at = now() where id = $1)
update sessions set updated_at = now() where id = $1

-- name: frozen
select count(*) from refund_attempts where state = 'frozen'
