

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
from jobs job where (job.created_at, job.id) < (
    select before.created_at, before.id from jobs before where before.id = $1
    union all select 'infinity', '' where $1::text is null)
order by job.created_at desc, job.id desc limit $2

-- name: list_sessions
select session.id as cursor, session.id, session.state, session.pubkey, session.deposit_sats as "depositSats",
       coalesce((select balance_msat from accounts where code = 'available:' || session.id), 0) as "balanceMsat",
       coalesce((select balance_msat from accounts where code = 'held:' || session.id), 0) as "heldMsat",
       session.last_used_at as "lastUsedAt", session.created_at as "createdAt", session.updated_at as "updatedAt"
from sessions session where (session.created_at, session.id) < (
    select before.created_at, before.id from sessions before where before.id = $1
    union all select 'infinity', '' where $1::text is null)
order by session.created_at desc, session.id desc limit $2

-- name: list_refunds
select refund.id as cursor, refund.id, refund.of_job as "jobId", refund.session_id as "sessionId", refund.cause, refund.amount_sats as "amountSats",
       refund.state, attempt.state as "attemptState", attempt.failure_reason as "failureReason",
       case refund.state when 'pending' then coalesce(job.refund_to_error, session.refund_to_error,
                                                      tried.failure_reason) end as "refundProblem",
       attempt.sends, refund.created_at as "createdAt", refund.updated_at as "updatedAt"
from refunds refund
left join jobs job on job.id = refund.of_job
left join sessions session on session.id = refund.session_id
left join refund_attempts attempt on attempt.id = refund.attempt_id
left join lateral (
    select last.failure_reason from refund_attempts last where last.job_id = refund.job_id
    order by last.created_at desc limit 1) as tried on true
where (refund.created_at, refund.id) < (
    select before.created_at, before.id from refunds before where before.id = $1
    union all select 'infinity', '' where $1::text is null)
order by refund.created_at desc, refund.id desc limit $2
