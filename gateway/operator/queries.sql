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

-- name: lock_tries
-- One try at a time is counted, so that a hundred at once are not all the first.
select pg_advisory_xact_lock(hashtext('boltworks operator login'))

-- name: count_try
-- Not above $2 from one address and $3 in all, within $4 seconds. An address that was let in of late only has its own
-- limit, so that strangers can not shut the operator out.
insert into operator_login_tries (client_address)
select $1::inet
where (select count(*) from operator_login_tries
       where tried_at > now() - make_interval(secs => $4) and client_address = $1) < $2::int
  and ((select count(*) from operator_login_tries where tried_at > now() - make_interval(secs => $4)) < $3::int
       or exists (select from operator_actions where action = 'login' and client_address = $1
                  and created_at > now() - interval '30 days'))
returning id

-- name: wait_s
-- Until the oldest try that counts is out of the window: the address's own when it is at its limit, else any.
select greatest(1, ceil(extract(epoch from
    coalesce(case when count(*) filter (where client_address = $1::inet) >= $2::int
                  then min(tried_at) filter (where client_address = $1) end, min(tried_at), now())
    + make_interval(secs => $3) - now())))::int
from operator_login_tries where tried_at > now() - make_interval(secs => $3)

-- name: tries
select count(*) from operator_login_tries where tried_at > now() - make_interval(secs => $1)

-- name: forget_try
delete from operator_login_tries where id = $1

-- name: open_session
insert into operator_sessions (id, token_hash, client_address, expires_at)
values ($1, $2, $3, now() + make_interval(secs => $4))

-- name: keep_newest_sessions
delete from operator_sessions where id not in (select id from operator_sessions order by created_at desc limit $1)

-- name: session_of
-- When it was last seen is written once a minute, not at each page.
with seen as (
    update operator_sessions set last_seen_at = now()
    where token_hash = $1 and expires_at > now() and last_seen_at < now() - interval '1 minute'
)
select id, expires_at from operator_sessions where token_hash = $1 and expires_at > now()

-- name: end_session
delete from operator_sessions where id = $1 returning id

-- name: forget_old_sessions
delete from operator_sessions where expires_at <= now()

-- name: forget_old_tries
delete from operator_login_tries where tried_at < now() - interval '1 day'

-- name: open_sessions
select id, host(client_address) as address, created_at, last_seen_at, expires_at
from operator_sessions where expires_at > now() order by created_at desc
