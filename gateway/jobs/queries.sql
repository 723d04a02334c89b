-- name: with_seen
-- What readers see of a job's own row, and what decides who may: not its input, which may be long.
    job.id, job.work, job.state, job.serve, job.estimate_sats, job.absorb_sats, job.work_amount_sats, job.token_hash,
    job.pubkey, job.refund_to, job.refund_to_error, job.result, job.actual_cost_sats, job.absorbed_sats,
    job.user_charge_sats, job.failure_reason, job.created_at, job.updated_at,

-- name: existing_jobs
-- Creations that stand already: a repeated group, or a retry of an idempotent request.
select id, serve, absorb_sats, work_amount_sats from jobs where id = any($1::text[])

-- name: before_sales
-- What a group of sales looks at first, in one statement and without a lock: what stands already, how much each address
-- has open, and whose work keeps failing ($4, as in slowing.sql). Open is counted up to the cap only ($3): a soft cap.
-- An input that is being looked at takes up as much room as an invoice, because looking may be free.
select (select array_agg(id) from jobs where id = any($1::text[])) as standing,
       (select array_agg((select count(*) from (
            (select from invoices where client_address = address and state in ('planned', 'open') limit $3)
            union all
            (select from jobs where client_address = address and state = 'evaluating' limit $3)) as open) order by place)
        from unnest($2::inet[]) with ordinality as asked (address, place)) as open,
       failed.subjects, failed.failures, failed.since_s
from (
    select array_agg(subject) as subjects, array_agg(failures) as failures,
           array_agg(extract(epoch from now() - last_failed_at)::float8) as since_s
    from work_failures
    where kind in ('address', 'identity') and subject = any($4::text[]) and last_failed_at > now() - interval '1 day'
) as failed

-- name: insert_invoices
-- The preimage is stored first: an answer of LND that is lost can be asked for again.
insert into invoices (payment_hash, preimage, purpose, job_id, client_address, amount_msat, memo, planned_expires_at)
select hash, preimage, purpose, job_id, address, msat, memo, now() + make_interval(secs => expiry_s)
from unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[]::inet[], $5::bigint[], $6::text[], $7::int[], $8::text[])
    as planned (hash, preimage, job_id, address, msat, memo, expiry_s, purpose)

-- name: open_invoices
-- What LND answered to a group. A settlement that was quicker has set a later state, which stays. Answers the jobs as
-- the block `jobs` does: one that was just created owes nothing yet.
update invoices invoice set
    state = case when invoice.state = 'planned' then 'open' else invoice.state end,
    payment_request = opened.payment_request, expires_at = opened.expires_at, updated_at = now()
from unnest($1::bytea[], $2::text[], $3::timestamptz[]) as opened (payment_hash, payment_request, expires_at),
     jobs job left join evaluations evaluation on evaluation.job_id = job.id
where invoice.payment_hash = opened.payment_hash and job.id = invoice.job_id
returning
    -- include: gateway.jobs queries.sql with_seen
          null::jsonb as refunds, null as refund_failure,
          invoice.payment_request as invoice_request, encode(invoice.payment_hash, 'hex') as invoice_hash,
          invoice.amount_msat as invoice_amount_msat, invoice.expires_at as invoice_expires_at,
          invoice.state as invoice_state, invoice.amount_paid_msat as invoice_paid_msat,
       evaluation.fee_sats, evaluation.outcome as evaluation_outcome, evaluation.charged_sats as fee_charged_sats,
       evaluation.absorbed_sats as fee_absorbed_sats

-- name: record_open
-- LND knows an invoice whose answer we never saw.
update invoices set state = 'open', payment_request = $2, expires_at = $3, updated_at = now()
where payment_hash = $1 and state = 'planned'

-- name: insert_donation
insert into invoices (payment_hash, preimage, purpose, client_address, amount_msat, memo, planned_expires_at)
select $1, $2, 'donation', $3::inet, $4, $5, now() + make_interval(secs => $6)
where (select count(*) from (
    select from invoices where client_address = $3::inet and state in ('planned', 'open') limit $7) as open) < $7
on conflict do nothing
returning payment_hash

-- name: begun_donation
-- A retry of a request that stored its invoice before.
select state, memo, ceil(extract(epoch from planned_expires_at - now()))::int as expiry_s
from invoices where payment_hash = $1 and purpose = 'donation'

-- name: planned_invoice
-- The invoice of a job whose creation was interrupted, as long as its preimage may still be used.
select payment_hash, preimage, amount_msat, memo, state,
       ceil(extract(epoch from planned_expires_at - now()))::int as expiry_s
from invoices where job_id = $1 order by created_at desc limit 1

-- name: due
-- What a job waits to be paid, and what for.
select case job.state when 'awaiting_work_payment' then job.work_amount_sats else evaluation.fee_sats end as amount_sats,
       case job.state when 'awaiting_work_payment' then 'work' else 'evaluation' end as purpose
from jobs job left join evaluations evaluation on evaluation.job_id = job.id
where job.id = $1 and job.state in ('awaiting_work_payment', 'awaiting_eval_payment')

-- name: jobs
-- Everything that readers of jobs see, in one statement.
select
    -- include: gateway.jobs queries.sql with_seen
       (select jsonb_agg(jsonb_build_array(refund.state, refund.amount_sats)) from refunds refund
        where refund.job_id = job.id) as refunds,
       (select case when attempt.state <> 'frozen' then attempt.failure_reason end
        from refund_attempts attempt where attempt.job_id = job.id
        order by attempt.created_at desc limit 1) as refund_failure,
       invoice.payment_request as invoice_request, encode(invoice.payment_hash, 'hex') as invoice_hash,
       invoice.amount_msat as invoice_amount_msat, invoice.expires_at as invoice_expires_at,
       invoice.state as invoice_state, invoice.amount_paid_msat as invoice_paid_msat,
       evaluation.fee_sats, evaluation.outcome as evaluation_outcome, evaluation.charged_sats as fee_charged_sats,
       evaluation.absorbed_sats as fee_absorbed_sats
from jobs job
left join evaluations evaluation on evaluation.job_id = job.id
left join lateral (
    -- The invoice that is to be paid, or was: an evaluation's no longer, once the price of the work is known.
    select * from invoices where invoices.job_id = job.id and payment_request is not null
        and (purpose = 'work' or evaluation.outcome is distinct from 'accepted')
    order by created_at desc limit 1
) as invoice on true
where job.id = any($1::text[])

-- name: keys_of_jobs
select id, token_hash, pubkey from jobs where id = any($1::text[])

-- name: payment_proof
-- Proof of payment: both halves belong to one settled invoice of this job.
select preimage, payment_request from invoices where job_id = $1 and state = 'settled'

-- name: proof_of_hash
-- As payment_proof, of whatever was paid: a job, or a session whose token is no macaroon. Of a session its deposit only: with the
-- token alone anybody can ask for a top-up and pay it, and the token is not to be enough to take the balance.
select invoice.preimage, invoice.payment_request, invoice.job_id, invoice.session_id
from invoices invoice left join sessions session on session.id = invoice.session_id
where invoice.payment_hash = $1 and invoice.state = 'settled' and invoice.payment_request is not null
  and (invoice.job_id is not null or (invoice.purpose = 'deposit' and not session.is_l402))

-- name: receipt_payments
select encode(payment_hash, 'hex') as payment_hash, purpose, amount_paid_msat, settled_at
from invoices where job_id = $1 and state = 'settled' order by settled_at, payment_hash

-- name: receipt_refunds
select refund.amount_sats, refund.state, encode(attempt.payment_hash, 'hex') as payment_hash,
       case refund.state when 'paid' then attempt.finished_at end as paid_at
from refunds refund
left join refund_attempts attempt on attempt.id = refund.attempt_id and refund.state = 'paid'
where refund.job_id = $1 order by refund.created_at, refund.id

-- name: invoices_of_hashes
-- Which job or session an invoice belongs to, before anything is locked (locks go job first).
select invoice.payment_hash, invoice.job_id, invoice.session_id, invoice.state, invoice.purpose, invoice.amount_msat,
       job.serve, job.state as job_state
from invoices invoice left join jobs job on job.id = invoice.job_id
where invoice.payment_hash = any($1::bytea[])

-- name: lock_job
select id, state, serve, estimate_sats, absorb_sats, work_amount_sats, attempt, handed_back, work, input,
       pubkey, request_hash, client_address
from jobs where id = $1 for no key update

-- name: lock_job_of_invoice
-- Whoever writes an invoice locks its job first; the invoice itself is guarded by settle_invoice.
select job.id, job.state, job.serve, job.estimate_sats, job.absorb_sats, job.pubkey, job.request_hash,
       job.client_address, invoice.amount_msat, invoice.purpose
from invoices invoice join jobs job on job.id = invoice.job_id
where invoice.payment_hash = $1 for no key update of job

-- name: settle_invoice
-- Guarded: only one settlement of a hash is ever recorded.
update invoices set state = 'settled', amount_paid_msat = $2, settle_index = $3, settled_at = $4,
    payment_request = coalesce(payment_request, $5), expires_at = coalesce(expires_at, $6), updated_at = now()
where payment_hash = $1 and state <> 'settled'
returning true

-- name: start_work
update jobs set state = 'executing', updated_at = now()
where id = $1 and state = 'awaiting_work_payment' returning id

-- name: fail_unfunded
-- Paid, but the pool could not pay its part any more: the worker is never called.
update jobs set state = 'failed', failure_reason = $2, absorbed_sats = 0, user_charge_sats = 0, updated_at = now()
where id = $1 and state = 'awaiting_work_payment' returning id

-- name: insert_refund
-- One debt, one cause. Under the job's lock, and the job is touched: a claim that saw less goes the long way.
with owed as (
    insert into refunds (id, job_id, cause, amount_sats) values ($1, $2, $3, $4) returning job_id
)
update jobs set updated_at = now() from owed where jobs.id = owed.job_id

-- name: next_runs
-- Each run of the worker has a number of its own; results of earlier runs are late from here on. In the order of ids.
-- Nobody is told, so updated_at stays. Also what is held for the job ($2: where), and whose work it is.
update jobs set attempt = attempt + 1
from (
    select id, holding, coalesce(account.balance_msat, 0) as held_msat
    from jobs join unnest($1::text[], $2::text[]) as wanted (id, holding) using (id)
    left join accounts account on account.code = holding
    where state = 'executing' order by id for no key update of jobs
) as due
where jobs.id = due.id
returning jobs.id, work, input, estimate_sats, attempt, handed_back, serve, pubkey, client_address, held_msat

-- name: hand_back
update jobs set handed_back = handed_back + 1 where id = $1 and state = 'executing' and attempt = $2

-- name: holding_msat
-- What is held for the job: all that was paid for its work and not owed back already. Read under the job's lock.
select coalesce((select balance_msat from accounts where code = $1), 0)

-- name: complete_job
update jobs set state = 'complete', result = $3, actual_cost_sats = $4, absorbed_sats = $5, user_charge_sats = $6,
    updated_at = now()
where id = $1 and state = 'executing' and attempt = $2 returning id

-- name: fail_job
update jobs set state = 'failed', failure_reason = $3, absorbed_sats = 0, user_charge_sats = 0, updated_at = now()
where id = $1 and state = 'executing' and attempt = $2 returning id

-- name: cancel_invoice
-- LND said CANCELED, or does not know it past its expiry: from here on it can not be paid.
update invoices set state = 'canceled', updated_at = now()
where payment_hash = $1 and state in ('planned', 'open') returning job_id

-- name: expire_job
-- Only when no invoice of the job can be paid any more, and the one that it waits for was not.
update jobs set state = 'expired', updated_at = now()
where id = $1 and state in ('awaiting_eval_payment', 'awaiting_work_payment')
  and not exists (
    select from invoices where job_id = $1 and (state in ('planned', 'open') or (
        state = 'settled' and (purpose = 'work' or jobs.state = 'awaiting_eval_payment'))))
returning id

-- name: forget_inputs
-- What nobody paid for need not be kept: asking for invoices would otherwise fill the disk at no cost.
update jobs set input = '{}' where id in (
    select id from jobs where state = 'expired' and input <> '{}' and updated_at < now() - interval '7 days' limit 1000)

-- name: open_invoices_of_job
-- Or of a session.
select payment_hash, state from invoices where (job_id = $1 or session_id = $1) and state in ('planned', 'open')

-- name: invoices_to_look_up
-- Our own invoices that are not final, oldest first; planned ones only once their creation must be over. An
-- invoice that LND does not know is past its expiry only when no AddInvoice of it can be under way any more.
select payment_hash, state, planned_expires_at < now() - interval '60 seconds' as past_expiry
from invoices
where state = 'open' or (state = 'planned' and created_at < now() - interval '30 seconds')
order by created_at
limit $1 offset $2
