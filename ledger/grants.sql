-- name: look_round
-- Before anything is locked: the day by the database's clock, and how many of these are there. Nothing is ever
-- removed, so what is there now will be there under the locks.
select (now() at time zone 'utc')::date as today,
    (select count(*) from identities where pubkey = any($1::text[])) as known,
    (select count(*) from unnest($2::text[], $3::text[]) as wanted (kind, subject) join gate_days days
        on days.kind = wanted.kind and days.subject = wanted.subject
        and days.day = (now() at time zone 'utc')::date) as open

-- name: know_identities
-- Whoever asks is known from then on. Sorted by the caller, so that two first asks can not deadlock; who is known
-- already is only read, because most of a group is, and an insert that conflicts costs several times a look.
insert into identities (pubkey)
select wanted.pubkey from unnest($1::text[]) with ordinality as wanted (pubkey, place)
where not exists (select from identities known where known.pubkey = wanted.pubkey)
order by wanted.place
on conflict do nothing

-- name: lock_identities
select pubkey, paid_sats, operator_tier, blocked,
       floor(extract(epoch from now() - first_seen_at) / 86400)::int as days_known
from identities where pubkey = any($1::text[]) order by pubkey for no key update

-- name: read_identities
select pubkey, paid_sats, operator_tier, blocked,
       floor(extract(epoch from now() - first_seen_at) / 86400)::int as days_known
from identities where pubkey = any($1::text[])

-- name: open_days
-- Lock what is not there yet: rows of zero, in the order in which they are locked.
insert into gate_days (kind, subject, day)
select wanted.kind, wanted.subject, $3 from unnest($1::text[], $2::text[]) as wanted (kind, subject)
where not exists (select from gate_days open
    where open.kind = wanted.kind and open.subject = wanted.subject and open.day = $3)
order by wanted.kind, wanted.subject
on conflict do nothing

-- name: lock_days
select days.kind, days.subject, days.absorbed_sats, days.reserved_sats
from gate_days days join unnest($1::text[], $2::text[]) as wanted (kind, subject)
    on days.kind = wanted.kind and days.subject = wanted.subject
where days.day = $3
order by days.kind, days.subject
for no key update of days

-- name: read_days
select days.kind, days.subject, days.absorbed_sats, days.reserved_sats
from gate_days days join unnest($1::text[], $2::text[]) as wanted (kind, subject)
    on days.kind = wanted.kind and days.subject = wanted.subject
where days.day = $3

-- name: move_days
update gate_days days set
    absorbed_sats = days.absorbed_sats + moved.absorbed, reserved_sats = days.reserved_sats + moved.reserved
from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) as moved (kind, subject, absorbed, reserved)
where days.kind = moved.kind and days.subject = moved.subject and days.day = $5

-- name: insert_reservations
insert into reservations (id, pubkey, client_address, day, request_hash, reserved_sats)
select id, pubkey, address::inet, $6, request_hash, sats
from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[])
    as made (id, pubkey, address, request_hash, sats)
where sats > 0

-- name: find_reservations
select id, reserved_sats from reservations where id = any($1::text[])

-- name: lock_reservation
select id, pubkey, client_address, day, request_hash, reserved_sats, state
from reservations where id = $1 for no key update

-- name: end_reservation
-- Guarded: each reservation ends exactly once.
update reservations set state = $2, absorbed_sats = $3, ended_at = now()
where id = $1 and state = 'reserved' returning id

-- name: insert_grant
insert into grants (reservation_id, pubkey, request_hash, day, reserved_sats, absorbed_sats)
values ($1, $2, $3, $4, $5, $6)

-- name: recognise_charge
update identities set paid_sats = paid_sats + $2, updated_at = now() where pubkey = $1

-- name: today
-- The database's clock, in UTC.
select (now() at time zone 'utc')::date
