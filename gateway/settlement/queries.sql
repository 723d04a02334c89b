-- name: cursor
select settle_index, payment_hash from watcher_cursor where node_pubkey = $1

-- name: store_cursor
insert into watcher_cursor (node_pubkey, settle_index, payment_hash) values ($1, $2, $3)
on conflict (node_pubkey) do update set
    settle_index = excluded.settle_index, payment_hash = excluded.payment_hash, updated_at = now()

-- name: park
insert into parked_events (node_pubkey, payment_hash, webhook_id, body, attempts, last_error, next_try_at)
values ($2, $1, $3, $4, 1, $5, now() + interval '5 seconds')
on conflict (payment_hash) do update set attempts = parked_events.attempts + 1, last_error = excluded.last_error

-- name: parked_due
select payment_hash, webhook_id, body from parked_events where next_try_at <= now() order by next_try_at limit 50

-- name: parked_again
-- Ever more slowly, up to five minutes.
update parked_events set attempts = attempts + 1, last_error = $2,
    next_try_at = now() + least(interval '5 minutes', interval '5 seconds' * power(2, least(attempts, 10)))
where payment_hash = $1

-- name: unpark
delete from parked_events where payment_hash = $1

-- name: count_parked
select count(*) from parked_events
