-- name: lock_identity
select pubkey, paid_sats, operator_tier, blocked,
       floor(extract(epoch from now() - first_seen_at) / 86400)::int as days_known
from identities where pubkey = $1 for update

-- name: lock_pool
select balance_msat from accounts where code = 'pool' for update

-- name: open_days
insert into gate_days (kind, subject, day) values ('address', $1, current_date), ('identity', $2, current_date),
    ('pool', 'pool', current_date) on conflict do nothing

-- name: read_days
select kind, subject, absorbed_sats, reserved_sats from gate_days
where day = current_date and (kind, subject) in (('address', $1), ('identity', $2), ('pool', 'pool'))

-- name: count_days
update gate_days set reserved_sats = reserved_sats + $3
where day = current_date and (kind, subject) in (('address', $1), ('identity', $2), ('pool', 'pool'))

-- name: insert_reservation
insert into reservations (id, pubkey, client_address, day, request_hash, reserved_sats)
values ($1, $2, $3, current_date, $4, $5)

-- name: insert_transfer
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('reserve', $1, 'pool', 'pool_reserved', $2)

-- name: move_balances
update accounts set balance_msat = balance_msat + case code when 'pool' then -$1::bigint else $1 end
where code in ('pool', 'pool_reserved')
