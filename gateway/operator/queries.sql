-- name: log_action
insert into operator_actions (who, session_id, client_address, action, subject, said, outcome, problem)
values ($1, $2, $3, $4, $5, $6, $7, $8) returning id

-- name: set_identity
-- The operator's word; $3 and $5 say whether tier and block were given.
insert into identities as known (pubkey, operator_tier, blocked) values ($1, $2, coalesce($4, false))
on conflict (pubkey) do update set
    operator_tier = case when $3 then $2 else known.operator_tier end,
    blocked = case when $5 then coalesce($4, false) else known.blocked end, updated_at = now()
returning pubkey, operator_tier, blocked, paid_sats,
          floor(extract(epoch from now() - first_seen_at) / 86400)::int as days_known

-- name: refund_to_retry
select refund.id, refund.job_id as owner_id, refund.amount_sats, refund.state,
       coalesce(job.refund_to, session.refund_to) as refund_to,
       coalesce(job.refund_to_error, session.refund_to_error) as refund_to_error
from refunds refund
left join jobs job on job.id = refund.of_job
left join sessions session on session.id = refund.session_id
where refund.id = $1

-- name: retry_refund
-- The destination stays, the reason why it was rejected goes.
with due as (select job_id, amount_sats from refunds where id = $1 and state = 'pending'),
job as (
    update jobs set refund_to_error = null, refund_to_retry_at = null, updated_at = now() from due
    where jobs.id = due.job_id and refund_to is not null and refund_to_error is not null
    returning jobs.id as job_id, refund_to, amount_sats
),
session as (
    update sessions set refund_to_error = null, refund_to_retry_at = null, updated_at = now() from due
    where sessions.id = due.job_id and refund_to is not null and refund_to_error is not null
    returning sessions.id as job_id, refund_to, amount_sats
)
select * from job union all select * from session
