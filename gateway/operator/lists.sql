-- The operator's lists, the same for pages and API: $1 the cursor of the page before, $2 how many, $3 state, $4 searched.
-- A page begins in an index where the one before ended; what is searched for is found by indexes of its own.

-- name: list_identities
select known.pubkey as cursor, known.pubkey, known.paid_sats, known.operator_tier, known.blocked,
       coalesce(today.absorbed_sats, 0) as absorbed_today_sats, known.first_seen_at
from identities known
left join gate_days today on today.kind = 'identity' and today.subject = known.pubkey
    and today.day = (now() at time zone 'utc')::date
where known.pubkey > coalesce($1::text, '')
  and ($3::text is null or ($3 = 'blocked' and known.blocked) or ($3 = 'tier set' and known.operator_tier is not null))
  and ($4::text is null or known.pubkey = $4)
order by known.pubkey limit $2

-- name: list_grants
select audit.id::text as cursor, audit.id, audit.reservation_id, audit.pubkey,
       encode(audit.request_hash, 'hex') as request_hash, audit.day, audit.reserved_sats, audit.absorbed_sats,
       audit.created_at
from grants audit
where audit.id < coalesce($1::text::bigint, 9223372036854775807) and $3::text is null
  and ($4::text is null or audit.pubkey = $4 or audit.reservation_id in ($4, 'job:' || $4, 'eval:' || $4)
       or encode(audit.request_hash, 'hex') = $4)
order by audit.id desc limit $2

-- name: list_transfers
-- The gateway's own accounts stand in so many lines that the newest are found from the end; those of a job or a session,
-- and what an id caused, by their own indexes.
with own as (
    select strpos($4::text, ':') = 0 and exists (select from accounts account where account.code = $4) as is_one
), accounts_of as (
    select kind || $4 as code from unnest(array['', 'holding:', 'available:', 'held:']) as kind
), searched as (
    select transfer.id from accounts_of join transfers transfer on transfer.debit = accounts_of.code
    union select transfer.id from accounts_of join transfers transfer on transfer.credit = accounts_of.code
    union select transfer.id from unnest(array[
        'settlement', 'charge', 'evaluation_fee', 'refund_owed', 'refund_paid', 'refund_donated', 'routing_fee', 'reserve',
        'grant', 'release', 'pool_share', 'topup', 'hold', 'unhold', 'overrun', 'sub_sat']) as kind
        join transfers transfer on transfer.cause_kind = kind and transfer.cause_id = $4
), page as (
    (select transfer.* from transfers transfer
     where ($4 is null or (select own.is_one from own)) and transfer.id < coalesce($1::text::bigint, 9223372036854775807)
       and ($3::text is null or transfer.cause_kind = $3) and ($4 is null or $4 in (transfer.debit, transfer.credit))
     order by transfer.id desc limit $2)
    union all
    select transfer.* from searched join transfers transfer on transfer.id = searched.id
    where not (select own.is_one from own) and transfer.id < coalesce($1::text::bigint, 9223372036854775807)
      and ($3 is null or transfer.cause_kind = $3)
)
select transfer.id::text as cursor, transfer.id, transfer.cause_kind, transfer.cause_id, transfer.debit, transfer.credit,
       transfer.amount_msat, transfer.created_at
from page transfer
order by transfer.id desc limit $2

-- name: list_jobs
with start as (
    select before.created_at, before.id from jobs before where before.id = $1
    union all select 'infinity', '' where $1::text is null
), payment as (
    select case when $4 ~ '^[0-9a-f]{64}$' then decode($4, 'hex') end as hash
), searched as (
    select $4 as id
    union select job.id from jobs job where job.pubkey = $4
    union select paid.job_id from invoices paid where paid.payment_hash = (select payment.hash from payment)
    union select tried.of_job from refund_attempts tried where tried.payment_hash = (select payment.hash from payment)
), page as (
    (select job.* from jobs job
     where $4::text is null and ($3::text is null or job.state = $3)
       and (job.created_at, job.id) < (select start.created_at, start.id from start)
     order by job.created_at desc, job.id desc limit $2)
    union all
    select job.* from searched join jobs job on job.id = searched.id
    where $4 is not null and ($3 is null or job.state = $3)
      and (job.created_at, job.id) < (select start.created_at, start.id from start)
)
select job.id as cursor, job.id, job.work, job.state, job.serve, job.estimate_sats, job.absorb_sats,
       job.work_amount_sats, job.pubkey, job.actual_cost_sats, job.absorbed_sats, job.user_charge_sats,
       job.failure_reason, job.created_at, job.updated_at
from page job
order by job.created_at desc, job.id desc limit $2

-- name: list_sessions
with start as (
    select before.created_at, before.id from sessions before where before.id = $1
    union all select 'infinity', '' where $1::text is null
), payment as (
    select case when $4 ~ '^[0-9a-f]{64}$' then decode($4, 'hex') end as hash
), searched as (
    select $4 as id
    union select session.id from sessions session where session.pubkey = $4
    union select paid.session_id from invoices paid where paid.payment_hash = (select payment.hash from payment)
    union select tried.session_id from refund_attempts tried where tried.payment_hash = (select payment.hash from payment)
), page as (
    (select session.* from sessions session
     where $4::text is null and ($3::text is null or session.state = $3)
       and (session.created_at, session.id) < (select start.created_at, start.id from start)
     order by session.created_at desc, session.id desc limit $2)
    union all
    select session.* from searched join sessions session on session.id = searched.id
    where $4 is not null and ($3 is null or session.state = $3)
      and (session.created_at, session.id) < (select start.created_at, start.id from start)
)
select session.id as cursor, session.id, session.state, session.deposit_sats,
       coalesce((select balance_msat from accounts where code = 'available:' || session.id), 0) as balance_msat,
       coalesce((select balance_msat from accounts where code = 'held:' || session.id), 0) as held_msat,
       session.pubkey, session.refund_to_error as reason, session.last_used_at, session.created_at,
       session.updated_at
from page session
order by session.created_at desc, session.id desc limit $2

-- name: list_refunds
-- A refund whose attempt is frozen is paying by its own word.
with start as (
    select before.created_at, before.id from refunds before where before.id = $1
    union all select 'infinity', '' where $1::text is null
), payment as (
    select case when $4 ~ '^[0-9a-f]{64}$' then decode($4, 'hex') end as hash
), owners as (
    select $4 as id
    union select job.id from jobs job where job.pubkey = $4
    union select session.id from sessions session where session.pubkey = $4
    union select tried.job_id from refund_attempts tried where tried.payment_hash = (select payment.hash from payment)
    union select coalesce(paid.job_id, paid.session_id) from invoices paid
          where paid.payment_hash = (select payment.hash from payment)
), searched as (
    select refund.id from refunds refund where refund.id = $4
    union select refund.id from owners join refunds refund on refund.job_id = owners.id
), page as (
    (select refund.* from refunds refund
     where $4::text is null and (refund.created_at, refund.id) < (select start.created_at, start.id from start)
       and ($3::text is null or refund.state = case $3 when 'rejected' then 'pending' when 'frozen' then 'paying' else $3 end)
       and ($3 is distinct from 'rejected' or coalesce(
           (select job.refund_to_error from jobs job where job.id = refund.of_job and job.refund_to is not null),
           (select session.refund_to_error from sessions session
            where session.id = refund.session_id and session.refund_to is not null)) is not null)
       and (coalesce($3, '') not in ('paying', 'frozen') or ($3 = 'frozen') = (
           (select attempt.state from refund_attempts attempt where attempt.id = refund.attempt_id) = 'frozen'))
     order by refund.created_at desc, refund.id desc limit $2)
    union all
    select refund.* from searched join refunds refund on refund.id = searched.id
    where $4 is not null and (refund.created_at, refund.id) < (select start.created_at, start.id from start)
), shown as (
    select refund.id as cursor, refund.id, refund.job_id as owner,
           case when refund.session_id is null then 'job' else 'session' end as of,
           refund.of_job as job_id, refund.session_id, refund.cause, split_part(refund.cause, ':', 1) as cause_kind,
           refund.amount_sats, refund.state, case when attempt.state = 'frozen' then 'frozen' else refund.state end as stands,
           attempt.state as attempt_state, attempt.failure_reason, attempt.sends,
           case refund.state when 'pending' then coalesce(owner.refund_to_error, tried.failure_reason) end as refund_problem,
           case when refund.state = 'pending' and owner.refund_to is null then 'Its payer has not said where it goes.' end
               as waits_for,
           refund.state = 'pending' and owner.refund_to is not null and owner.refund_to_error is not null as retryable,
           case when attempt.state = 'frozen' then attempt.id end as frozen_attempt,
           refund.created_at, refund.updated_at
    from page refund
    left join lateral (
        select job.refund_to, job.refund_to_error from jobs job where job.id = refund.of_job
        union all
        select session.refund_to, session.refund_to_error from sessions session where session.id = refund.session_id
        limit 1) as owner on true
    left join lateral (
        select now.id, now.state, now.sends, now.failure_reason from refund_attempts now where now.id = refund.attempt_id
        limit 1) as attempt on true
    left join lateral (
        select last.failure_reason from refund_attempts last where last.job_id = refund.job_id
        order by last.created_at desc limit 1) as tried on true
)
select shown.*, coalesce(shown.failure_reason, shown.refund_problem, shown.waits_for) as reason from shown
where $3 is null or $3 in (shown.state, shown.stands) or ($3 = 'rejected' and shown.retryable)
order by shown.created_at desc, shown.id desc limit $2
