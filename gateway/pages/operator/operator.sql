-- name: balances
-- By kind of account, on its normal side. Limited accounts keep their sum; the few others are summed.
select split_part(code, ':', 1) as code, sum(balance_msat)::bigint as balance_msat
from accounts where limited group by 1
union all
select account.code, ((case when account.kind in ('asset', 'expense') then -1 else 1 end) * (
           coalesce((select sum(amount_msat) from transfers where credit = account.code), 0)
         - coalesce((select sum(amount_msat) from transfers where debit = account.code), 0)))::bigint
from accounts account where not account.limited

-- name: refunds_by_state
-- A frozen one is paying by its own word; its attempt is the operator's to decide.
select case when attempt.state = 'frozen' then 'frozen' else refund.state end as state,
       count(*) as count, sum(refund.amount_sats)::bigint as sats
from refunds refund left join refund_attempts attempt on attempt.id = refund.attempt_id
where refund.state in ('pending', 'paying') group by 1

-- name: open_invoices
select count(*) as count, coalesce(sum(amount_msat), 0)::bigint as msat from invoices where state in ('planned', 'open')

-- name: parked_events
select count(*) from parked_events

-- name: frozen_attempts
-- What only the operator can decide, and the words for it.
select id, job_id, amount_sats, failure_reason, created_at from refund_attempts where state = 'frozen' order by created_at

-- name: list_invoices
with start as (
    select before.created_at, before.payment_hash from invoices before where before.payment_hash = case when $1 ~ '^[0-9a-f]{64}$' then decode($1, 'hex') end
    union all select 'infinity', ''::bytea where $1::text is null
), searched as (
    select case when $4 ~ '^[0-9a-f]{64}$' then decode($4, 'hex') end as payment_hash
    union select invoice.payment_hash from invoices invoice where invoice.job_id = $4
    union select invoice.payment_hash from invoices invoice where invoice.session_id = $4
), page as (
    (select invoice.* from invoices invoice
     where $4::text is null and ($3::text is null or invoice.state = $3)
       and (invoice.created_at, invoice.payment_hash) < (select start.created_at, start.payment_hash from start)
     order by invoice.created_at desc, invoice.payment_hash desc limit $2)
    union all
    select invoice.* from searched join invoices invoice on invoice.payment_hash = searched.payment_hash
    where $4 is not null and ($3 is null or invoice.state = $3)
      and (invoice.created_at, invoice.payment_hash) < (select start.created_at, start.payment_hash from start)
)
select encode(invoice.payment_hash, 'hex') as cursor, encode(invoice.payment_hash, 'hex') as payment_hash,
       invoice.purpose, coalesce(invoice.job_id, invoice.session_id) as owner,
       case when invoice.job_id is not null then 'job' when invoice.session_id is not null then 'session' end as of,
       invoice.state, invoice.amount_msat, invoice.amount_paid_msat, invoice.expires_at, invoice.settled_at,
       invoice.created_at
from page invoice
order by invoice.created_at desc, invoice.payment_hash desc limit $2

-- name: list_webhooks
select endpoint.id as cursor, endpoint.id, endpoint.url, array_to_string(endpoint.events, ', ') as events,
       case when endpoint.enabled then 'on' else 'off' end as state,
       (select count(*) from webhook_deliveries waits where waits.endpoint_id = endpoint.id and waits.state = 'pending')
           as waiting,
       endpoint.disabled_reason as reason, endpoint.created_at
from webhook_endpoints endpoint
where ($1::text is null or endpoint.id > $1)
  and ($3::text is null or endpoint.enabled = ($3 = 'on'))
  and ($4::text is null or endpoint.id = $4)
order by endpoint.id limit $2

-- name: list_deliveries
select delivery.id as cursor, delivery.id, event.type, delivery.state, delivery.attempts, delivery.last_status,
       delivery.last_error as reason,
       coalesce(event.body #>> '{data,jobId}', event.body #>> '{data,sessionId}') as owner,
       case when event.body #>> '{data,jobId}' is not null then 'job' else 'session' end as of,
       case delivery.state when 'pending' then delivery.next_attempt_at end as next_attempt_at,
       delivery.state <> 'pending' as again, delivery.created_at
from webhook_deliveries delivery join webhook_events event on event.id = delivery.event_id
where (delivery.created_at, delivery.id) < (
      select before.created_at, before.id from webhook_deliveries before where before.id = $1
      union all select 'infinity', '' where $1::text is null)
  and ($3::text is null or delivery.state = $3)
  and ($4::text is null or $4 in (delivery.id, delivery.endpoint_id, delivery.event_id, event.body #>> '{data,jobId}',
                                  event.body #>> '{data,sessionId}'))
order by delivery.created_at desc, delivery.id desc limit $2

-- name: list_actions
select act.id::text as cursor, act.id, act.action, act.subject, act.said, act.outcome, act.problem,
       case act.who when 'session' then act.session_id else act.who end as who, host(act.client_address) as address,
       act.created_at
from operator_actions act
where act.id < coalesce($1::text::bigint, 9223372036854775807)
  and ($3::text is null or act.outcome = $3)
  and ($4::text is null or $4 in (act.subject, act.session_id, act.action))
order by act.id desc limit $2

-- name: action
select action, subject, said, outcome, problem from operator_actions where id = $1

-- name: identity
select pubkey, paid_sats, operator_tier, blocked, first_seen_at,
       floor(extract(epoch from now() - first_seen_at) / 86400)::int as days_known
from identities where pubkey = $1

-- name: days
-- Per UTC day of the last $1: what was earned (charges, fees, grants, less what went to the pool), sent back, and
-- what moved the pool (in it: what it holds and what it set aside), and how many jobs took a payment.
with days as (
    select day::date as day
    from generate_series((now() at time zone 'utc')::date - ($1::int - 1), (now() at time zone 'utc')::date,
                         interval '1 day') as day
), moved as (
    select (created_at at time zone 'utc')::date as day,
           coalesce(sum(amount_msat) filter (where credit = 'revenue' and cause_kind <> 'overrun'), 0)
             - coalesce(sum(amount_msat) filter (where debit = 'revenue'), 0) as revenue_msat,
           coalesce(sum(amount_msat) filter (where cause_kind = 'refund_paid'), 0) as refunds_msat,
           coalesce(sum(amount_msat) filter (where credit in ('pool', 'pool_reserved')), 0)
             - coalesce(sum(amount_msat) filter (where debit in ('pool', 'pool_reserved')), 0) as pool_msat,
           count(*) filter (where cause_kind = 'charge' and debit like 'holding:%') as jobs
    from transfers
    where created_at >= ((now() at time zone 'utc')::date - ($1::int - 1)) at time zone 'utc'
    group by 1
)
select days.day, coalesce(revenue_msat, 0)::bigint as revenue_msat, coalesce(refunds_msat, 0)::bigint as refunds_msat,
       coalesce(pool_msat, 0)::bigint as pool_msat, coalesce(jobs, 0)::bigint as jobs
from days left join moved on moved.day = days.day order by days.day

-- name: events
-- The newest $1 of all kinds. Each source is read from its own newest end; a job and a session show how they stand now.
with moved as (
    select id, created_at, cause_kind as kind, amount_msat, cause_id,
           case when debit ~ '^(holding|available|held):' then split_part(debit, ':', 2)
                when credit ~ '^(holding|available|held):' then split_part(credit, ':', 2) end as owner
    from transfers
    where cause_kind in ('settlement', 'evaluation_fee', 'charge', 'grant', 'overrun', 'refund_owed', 'refund_paid',
                         'refund_donated')
    order by id desc limit $1
), happened as (
    select created_at, kind, amount_msat, null as state, null as words, id as number,
           case when owner is not null then owner
                when kind = 'refund_paid' then (select job_id from refund_attempts where id = cause_id)
                when kind = 'refund_donated' then (select job_id from refunds where id = cause_id)
                when kind in ('grant', 'overrun') then coalesce(
                    (select session_id from session_requests
                     where id = regexp_replace(cause_id, '^request:', '')), regexp_replace(cause_id, '^(job|eval):', ''))
           end as owner
    from moved
    union all
    (select created_at, 'job', work_amount_sats * 1000, state, work, null, id from jobs
     order by jobs.created_at desc, jobs.id desc limit $1)
    union all
    (select created_at, 'session', deposit_sats * 1000, state, null, null, id from sessions
     order by sessions.created_at desc, sessions.id desc limit $1)
    union all
    (select created_at, 'action', null, outcome, concat_ws(' ', action || ':', said, problem), id, null
     from operator_actions order by operator_actions.id desc limit $1)
), newest as (
    select * from happened order by created_at desc, number desc nulls last, owner limit $1
)
select created_at, kind, amount_msat, state, words, owner,
       case when (select id from sessions where id = owner) is null then 'job' else 'session' end as of
from newest order by created_at desc, number desc nulls last, owner
