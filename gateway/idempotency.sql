-- name: claim
-- A new claim, or one taken over: after 24 h, or unanswered with its lease over and the same body.
-- A takeover of an unanswered claim keeps its resource id; a claim of a forgotten key gets the new one.
insert into idempotency_keys as known (scope, key_hash, body_hash, resource_id, owner, lease_until)
values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
on conflict (scope, key_hash) do update set
    body_hash = excluded.body_hash,
    resource_id = case when known.created_at < now() - interval '24 hours'
                       then excluded.resource_id else known.resource_id end,
    created_at = case when known.created_at < now() - interval '24 hours' then now() else known.created_at end,
    owner = excluded.owner, lease_until = excluded.lease_until, status = null, response = null
where known.created_at < now() - interval '24 hours'
   or (known.status is null and known.lease_until < now() and known.body_hash = excluded.body_hash)
returning resource_id

-- name: find_fresh
select body_hash, resource_id, status, response from idempotency_keys
where scope = $1 and key_hash = $2 and created_at >= now() - interval '24 hours'

-- name: find
select body_hash, resource_id, status, response from idempotency_keys where scope = $1 and key_hash = $2

-- name: finish
update idempotency_keys set status = $4, response = $5
where scope = $1 and key_hash = $2 and owner = $3 and status is null

-- name: release
update idempotency_keys set lease_until = now() - interval '1 second'
where scope = $1 and key_hash = $2 and owner = $3 and status is null

-- name: forget_old
-- A forgotten key would be taken over anyway; this keeps the table small.
delete from idempotency_keys where created_at < now() - interval '25 hours'
