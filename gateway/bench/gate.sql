-- name: lock_identity
select pubkey, paid_sats, operator_tier, blocked from identities where pubkey = $1 for update

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

-- name: move_balance
update accounts set balance_msat = balance_msat + $2 where code = $1
