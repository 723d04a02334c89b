-- name: forget_expired_challenges
-- A few with each new one: rows locked by another asker are that one's to delete.
delete from identity_challenges where challenge in (
    select challenge from identity_challenges where expires_at <= now() limit 100 for update skip locked)

-- name: new_challenge
-- No row: the address, or everybody together, has as many as are kept. Used ones count until they expire.
insert into identity_challenges (challenge, client_address, expires_at)
select $1, $2, now() + interval '5 minutes'
where (select count(*) from identity_challenges where client_address = $2 and expires_at > now()) < $3
  and (select count(*) from identity_challenges) < $4
returning expires_at

-- name: use_challenge
update identity_challenges set used_at = now()
where challenge = $1 and used_at is null and expires_at > now()
returning challenge

-- name: keep_newest_tokens
-- A key that logs in again and again keeps its newest tokens only.
delete from identity_tokens where token_hash in (
    select token_hash from identity_tokens where pubkey = $1 order by created_at desc offset $2)

-- name: new_token
insert into identity_tokens (token_hash, pubkey, expires_at) values ($1, $2, now() + interval '30 days')
returning expires_at

-- name: token_pubkey
select pubkey from identity_tokens where token_hash = $1 and expires_at > now()

-- name: forget_token
delete from identity_tokens where token_hash = $1

-- name: record_event
-- Waits for another transaction that holds the same id; no row: it was used.
insert into nostr_events (event_id) values ($1) on conflict do nothing returning event_id

-- name: forget_old_challenges
delete from identity_challenges where expires_at <= now()

-- name: forget_old_tokens
delete from identity_tokens where expires_at <= now()

-- name: forget_old_events
-- An event is refused as stale two minutes after it was first seen at the latest; the hour forgives clocks that differ.
delete from nostr_events where seen_at < now() - interval '1 hour'
