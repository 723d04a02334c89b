-- name: look_round
-- Before anything is locked: the day by the database's clock, and how many identities and days are there. Nothing is
-- ever removed, so what is there now will be there under the locks.
select (now() at time zone 'utc')::date as today,
    (select count(*) from unnest(string_to_array($1, e'\x1f')) as pubkey join identities using (pubkey)) as known,
    (select count(*) from (
            select 'identity' as kind, unnest(string_to_array($1, e'\x1f')) as subject
            union all select 'address', unnest(string_to_array($2, e'\x1f'))
            union all values ('pool', 'pool')
        ) as wanted join gate_days using (kind, subject)
        where day = (now() at time zone 'utc')::date) as opened

-- name: lock_identities
select pubkey, paid_sats, operator_tier, blocked,
       floor(extract(epoch from now() - first_seen_at) / 86400)::int as days_known
from unnest(string_to_array($1, e'\x1f')) as pubkey join identities using (pubkey)
order by pubkey
for no key update of identities

-- name: lock_world
-- After the identities: the days, then the accounts, the pool last. The accounts need the count of the days, so that
-- none of them is locked before all days are. A statement of its own: what was committed while the identities were
-- waited for is in its snapshot, so a counter needs no second look, and a reservation that stands already ($4, of
-- one of these identities) is found.
with days as materialized (
    select kind, subject, absorbed_sats, reserved_sats
    from (
        select 'identity' as kind, unnest(string_to_array($1, e'\x1f')) as subject
        union all select 'address', unnest(string_to_array($2, e'\x1f'))
        union all values ('pool', 'pool')
    ) as wanted join gate_days using (kind, subject)
    where day = $3
    order by kind, subject
    for no key update of gate_days
), kept as materialized (
    select code, balance_msat from accounts
    where code in ('pool_reserved', 'pool') and (select count(*) from days) >= 0
    order by code = 'pool', code
    for no key update
)
select kind, subject, absorbed_sats, reserved_sats, null::bigint as balance_msat from days
union all select 'balance', code, null, null, balance_msat from kept where code = 'pool'
union all select 'reservation', id, null, reserved_sats, null
    from reservations where id = any((select string_to_array($4, e'\x1f'))::text[])

-- name: know_identities
-- Whoever asks is known from then on. Sorted by the caller, so that two first asks can not deadlock; who is known
-- already is only read, because most of a group is, and an insert that conflicts costs several times a look.
insert into identities (pubkey)
select wanted.pubkey from unnest($1::text[]) with ordinality as wanted (pubkey, place)
where not exists (select from identities known where known.pubkey = wanted.pubkey)
order by wanted.place
on conflict do nothing

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

-- name: reserve
-- A group's reservations, and the days on which they count, whose rows are locked.
with made as materialized (
    select id, pubkey, address, request_hash, sats
    from unnest(string_to_array($1, e'\x1f'), string_to_array($2, e'\x1f'), string_to_array($3, e'\x1f'),
                string_to_array($4, e'\x1f'), string_to_array($5, e'\x1f')::bigint[])
        as made (id, pubkey, address, request_hash, sats)
    where sats > 0
), counted as (
    update gate_days days set reserved_sats = days.reserved_sats + moved.sats
    from (
        select 'address' as kind, address as subject, sum(sats)::bigint as sats from made group by address
        union all select 'identity', pubkey, sum(sats)::bigint from made group by pubkey
        union all select 'pool', 'pool', sum(sats)::bigint from made
    ) as moved
    where days.kind = moved.kind and days.subject = moved.subject and days.day = $6
)
insert into reservations (id, pubkey, client_address, day, request_hash, reserved_sats)
select id, pubkey, address::inet, $6, decode(request_hash, 'hex'), sats from made

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
