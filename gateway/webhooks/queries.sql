-- name: insert_endpoint
-- The same id again is the same call again.
insert into webhook_endpoints (id, url, events) values ($1, $2, $3) on conflict (id) do nothing

-- name: change_endpoint
update webhook_endpoints set
    url = coalesce($2, url), events = coalesce($3, events), enabled = coalesce($4, enabled),
    disabled_reason = case when coalesce($4, enabled) then null else disabled_reason end, updated_at = now()
where id = $1
returning id, url, events, enabled, disabled_reason, created_at

-- name: endpoint
select id, url, events, enabled, disabled_reason, created_at from webhook_endpoints where id = $1

-- name: due_endpoints
-- Where something waits to be told; a process that died lost its lease.
select distinct endpoint.id
from webhook_endpoints endpoint
join webhook_deliveries delivery on delivery.endpoint_id = endpoint.id
where endpoint.enabled and delivery.state = 'pending' and delivery.next_attempt_at <= now()
  and (delivery.lease_until is null or delivery.lease_until < now())

-- name: lease_due
-- Counted before it is sent. Oldest first; nothing is promised of the order.
update webhook_deliveries as leased set attempts = attempts + 1, lease_until = now() + make_interval(secs => $3)
from webhook_endpoints endpoint, webhook_events event
where leased.id in (
        select id from webhook_deliveries
        where endpoint_id = $1 and state = 'pending' and next_attempt_at <= now()
          and (lease_until is null or lease_until < now())
        order by next_attempt_at limit $2 for update skip locked)
  and endpoint.id = leased.endpoint_id and endpoint.enabled and event.id = leased.event_id
returning leased.id, leased.event_id, leased.attempts, event.body::text as body, endpoint.url

-- name: delivered
-- Guarded by the attempt: a process whose lease went over says nothing of a later one, but an arrival is an arrival.
update webhook_deliveries set state = 'delivered', ended_at = now(), lease_until = null, last_status = $2, last_error = null
where id = $1 and state = 'pending'

-- name: try_again
update webhook_deliveries set next_attempt_at = now() + make_interval(secs => $3), lease_until = null,
    last_status = $4, last_error = $5
where id = $1 and state = 'pending' and attempts = $2

-- name: given_up
update webhook_deliveries set state = 'failed', ended_at = now(), lease_until = null, last_status = $3, last_error = $4
where id = $1 and state = 'pending' and attempts = $2

-- name: switch_off
update webhook_endpoints set enabled = false, disabled_reason = $2, updated_at = now() where id = $1 and enabled

-- name: redeliver
-- From the beginning, with the same id of the event.
update webhook_deliveries set state = 'pending', ended_at = null, attempts = 0, next_attempt_at = now(), lease_until = null
where id = $1 and state <> 'pending'
returning id

-- name: delivery
select state from webhook_deliveries where id = $1

-- name: forget_old
-- A month after everybody was told, or was given up.
delete from webhook_events where id in (
    select event.id from webhook_events event
    where event.created_at < now() - interval '30 days'
      and not exists (select from webhook_deliveries where event_id = event.id and state = 'pending')
    order by event.created_at limit 1000)

-- name: list_endpoints
select id as cursor, id, url, events, enabled, disabled_reason as "disabledReason", created_at as "createdAt"
from webhook_endpoints where $1::text is null or id > $1 order by id limit $2

-- name: list_deliveries
select delivery.id as cursor, delivery.id, delivery.endpoint_id as "endpointId", delivery.event_id as "eventId", event.type,
       event.body #>> '{data,jobId}' as "jobId", event.body #>> '{data,refundId}' as "refundId",
       delivery.state, delivery.attempts, delivery.last_status as "lastStatus", delivery.last_error as "lastError",
       case delivery.state when 'pending' then delivery.next_attempt_at end as "nextAttemptAt",
       delivery.created_at as "createdAt", delivery.ended_at as "endedAt"
from webhook_deliveries delivery join webhook_events event on event.id = delivery.event_id
where (delivery.created_at, delivery.id) < (
    select before.created_at, before.id from webhook_deliveries before where before.id = $1
    union all select 'infinity', '' where $1::text is null)
order by delivery.created_at desc, delivery.id desc limit $2
