-- name: set_identity
-- The operator's word; $3 and $5 say whether tier and block were given.
insert into identities as known (pubkey, operator_tier, blocked) values ($1, $2, coalesce($4, false))
on conflict (pubkey) do update set
    operator_tier = case when $3 then $2 else known.operator_tier end,
    blocked = case when $5 then coalesce($4, false) else known.blocked end, updated_at = now()
returning pubkey, operator_tier, blocked, paid_sats,
          floor(extract(epoch from now() - first_seen_at) / 86400)::int as days_known

-- name: list_identities
select pubkey as cursor, pubkey, paid_sats as "paidSats", operator_tier as "operatorTier", blocked,
       first_seen_at as "firstSeenAt"
from identities where $1::text is null or pubkey > $1 order by pubkey limit $2

-- name: list_grants
select id::text as cursor, id, reservation_id as "reservationId", pubkey, encode(request_hash, 'hex') as "requestHash",
       day, reserved_sats as "reservedSats", absorbed_sats as "absorbedSats", created_at as "createdAt"
from grants where $1::text is null or id < $1::text::bigint order by id desc limit $2

-- name: list_transfers
select id::text as cursor, id, cause_kind as "causeKind", cause_id as "causeId", debit, credit,
       amount_msat as "amountMsat", created_at as "createdAt"
from transfers where $1::text is null or id < $1::text::bigint order by id desc limit $2

-- name: list_jobs
select job.id as cursor, job.id, job.work, job.state, job.serve, job.estimate_sats as "estimateSats",
       job.absorb_sats as "absorbSats", job.work_amount_sats as "workAmountSats", job.pubkey,
       job.actual_cost_sats as "actualCostSats", job.absorbed_sats as "absorbedSats",
       job.user_charge_sats as "userChargeSats", job.failure_reason as "failureReason",
       job.created_at as "createdAt", job.updated_at as "updatedAt"
from jobs job where $1::text is null
   or (job.created_at, job.id) < (select before.created_at, before.id from jobs before where before.id = $1)
order by job.created_at desc, job.id desc limit $2

-- name: list_refunds
select refund.id as cursor, refund.id, refund.job_id as "jobId", refund.cause, refund.amount_sats as "amountSats",
       refund.state, attempt.state as "attemptState", attempt.failure_reason as "failureReason",
       case refund.state when 'pending' then coalesce(job.refund_to_error, tried.failure_reason) end as "refundProblem",
       attempt.sends, refund.created_at as "createdAt", refund.updated_at as "updatedAt"
from refunds refund
join jobs job on job.id = refund.job_id
left join refund_attempts attempt on attempt.id = refund.attempt_id
left join lateral (
    select last.failure_reason from refund_attempts last where last.job_id = refund.job_id
    order by last.created_at desc limit 1) as tried on true
where $1::text is null
   or (refund.created_at, refund.id) < (select before.created_at, before.id from refunds before where before.id = $1)
order by refund.created_at desc, refund.id desc limit $2

-- name: refund_to_retry
select refund.state, job.refund_to from refunds refund join jobs job on job.id = refund.job_id where refund.id = $1

-- name: retry_refund
-- The destination stays, the reason why it was rejected goes.
update jobs job set refund_to_error = null, refund_to_retry_at = null, updated_at = now()
from refunds refund
where refund.id = $1 and refund.job_id = job.id and refund.state = 'pending'
  and job.refund_to is not null and job.refund_to_error is not null
returning job.id as job_id, job.refund_to, refund.amount_sats
