-- name: insert_evaluations
insert into evaluations (job_id, fee_sats, granted, cap_sats)
select * from unnest($1::text[], $2::bigint[], $3::bool[], $4::bigint[])

-- name: start_evaluation
update jobs set state = 'evaluating', updated_at = now()
where id = $1 and state = 'awaiting_eval_payment' returning id

-- name: next_evaluation
-- Each run of the evaluator has a number of its own; answers of earlier runs are late from here on.
update evaluations evaluation set attempt = evaluation.attempt + 1
from jobs job
where evaluation.job_id = $1 and outcome is null and job.id = evaluation.job_id and job.state = 'evaluating'
returning job.id, job.work, job.input, evaluation.cap_sats, evaluation.attempt, evaluation.handed_back

-- name: hand_back_evaluation
update evaluations set handed_back = handed_back + 1 where job_id = $1 and attempt = $2 and outcome is null

-- name: lock_evaluating
-- Both rows: `next_evaluation` numbers a new run without the job's lock, and waits here for the end of this one.
select job.id, job.state, job.pubkey, job.request_hash, job.client_address,
       evaluation.fee_sats, evaluation.granted, evaluation.cap_sats, evaluation.attempt
from jobs job join evaluations evaluation on evaluation.job_id = job.id
where job.id = $1 for no key update of job, evaluation

-- name: end_evaluation
-- Guarded: an evaluation is answered once.
update evaluations set outcome = $3, charged_sats = $4, absorbed_sats = $5, answered_at = now()
where job_id = $1 and attempt = $2 and outcome is null returning job_id

-- name: price_evaluated
-- What the evaluator said is the price, and how the gate shares it; one statement, because the shares must add up.
update jobs set state = case when $5::bigint = 0 then 'executing' else 'awaiting_work_payment' end,
    estimate_sats = $2, serve = $3, absorb_sats = $4, work_amount_sats = $5, updated_at = now()
where id = $1 and state = 'evaluating' returning id

-- name: end_evaluating_job
update jobs set state = $2, failure_reason = $3, absorbed_sats = 0, user_charge_sats = 0, updated_at = now()
where id = $1 and state = 'evaluating' returning id

-- name: lock_job_of_planned
select job.id from jobs job join invoices invoice on invoice.job_id = job.id
where invoice.payment_hash = $1 for no key update of job

-- name: unopened_work_invoice
-- The newest planned invoice of an evaluated job, which nobody but us can open; one that ran out unseen is replaced.
-- Under the job's lock, in a statement of its own: what another sweep replaced meanwhile is seen.
select job.id, job.client_address, job.work_amount_sats, invoice.preimage, invoice.amount_msat,
       invoice.memo, ceil(extract(epoch from invoice.planned_expires_at - now()))::int as expiry_s,
       round(extract(epoch from invoice.planned_expires_at - invoice.created_at))::int as lifetime_s
from jobs job
join evaluations evaluation on evaluation.job_id = job.id
join invoices invoice on invoice.job_id = job.id and invoice.purpose = 'work' and invoice.state = 'planned'
where invoice.payment_hash = $1 and job.state = 'awaiting_work_payment' and not exists (
    select from invoices other where other.job_id = job.id and other.purpose = 'work'
        and (other.state = 'open' or (other.state = 'planned'
            and (other.created_at, other.payment_hash) > (invoice.created_at, invoice.payment_hash))))
