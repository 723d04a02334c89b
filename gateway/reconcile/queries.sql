-- name: installation_id
select id from installation

-- name: booked_invoices
-- Every invoice of ours, with what the book received under its hash; also hashes that stand in the book alone.
select coalesce(invoice.payment_hash, decode(transfer.cause_id, 'hex')) as payment_hash,
       coalesce(invoice.state = 'settled', false) as is_settled, coalesce(transfer.amount_msat, 0) as booked_msat
from invoices invoice
full join (select * from transfers where cause_kind = 'settlement') as transfer
    on transfer.cause_id = encode(invoice.payment_hash, 'hex')

-- name: booked_attempts
-- Every refund attempt, with what the book paid out for it.
select attempt.id, attempt.payment_hash, attempt.state,
       coalesce(paid.amount_msat, 0) as paid_msat, coalesce(fee.amount_msat, 0) as fee_msat
from refund_attempts attempt
left join transfers paid on paid.cause_kind = 'refund_paid' and paid.cause_id = attempt.id
left join transfers fee on fee.cause_kind = 'routing_fee' and fee.cause_id = attempt.id

-- name: node_account
select coalesce(sum(case when debit = 'node' then amount_msat else -amount_msat end), 0)::bigint
from transfers where 'node' in (debit, credit)

-- name: not_in_database
-- Which of these payment hashes no invoice of ours has.
select hash from unnest($1::bytea[]) as hash
where not exists (select from invoices where payment_hash = hash)

-- name: debt_of_another_history
-- A debt that is not younger than an invoice which this database lacks may have been paid in the history that was
-- lost. Not so once the operator has said of one of the job's attempts, after that, that it was not paid ($3).
select exists (select from refunds where attempt_id = $1 and created_at <= $2)
   and not exists (
       select from refund_attempts said, refund_attempts attempt
       where attempt.id = $1 and said.job_id = attempt.job_id and said.state = 'failed'
         and said.failure_reason = $3 and said.finished_at > $2)

-- name: attempt
select id, job_id, state, payment_hash, amount_sats, failure_reason, destination, expires_at
from refund_attempts where id = $1

-- name: accept_paid
-- Only the operator ends a frozen attempt.
update refund_attempts set state = 'paid', preimage = $2, fee_msat = $3, finished_at = now(),
    lease_owner = null, lease_until = null
where id = $1 and state = 'frozen' returning id

-- name: accept_failed
update refund_attempts set state = 'failed', failure_reason = $2, finished_at = now(),
    lease_owner = null, lease_until = null
where id = $1 and state = 'frozen' returning id
