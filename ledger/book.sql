-- name: open_holding
-- Holdings are limited: more can never leave one than was paid into it.
insert into accounts (code, kind, limited)
select code, 'liability', true from unnest($1::text[]) as code
on conflict do nothing

-- name: lock_limited
-- Locks in the order given by the caller (by code, the pool last); FOR NO KEY UPDATE, because transfers
-- hold foreign keys on these rows.
select account.code, account.balance_msat
from unnest($1::text[]) with ordinality as wanted (code, place)
join accounts account on account.code = wanted.code and account.limited
order by wanted.place
for no key update of account

-- name: insert_transfers
-- One statement for the whole posting; a known cause is skipped and compared afterwards.
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
on conflict on constraint one_transfer_per_cause do nothing
returning cause_kind, cause_id

-- name: move_limited
-- Only accounts that keep a balance; the CHECK stops one that would go below zero.
update accounts set balance_msat = accounts.balance_msat + moved.msat
from unnest($1::text[], $2::bigint[]) as moved (code, msat)
where accounts.code = moved.code and accounts.limited and moved.msat <> 0

-- name: post_reserves
-- Both balances and all transfers of a group's reservations; the unique cause and the CHECKs hold as everywhere.
with reserved as materialized (
    select id, sats * 1000 as msat
    from unnest(string_to_array($1, e'\x1f'), string_to_array($2, e'\x1f')::bigint[]) as reserved (id, sats)
    where sats > 0
), moved as (
    update accounts set balance_msat = balance_msat + case code when 'pool' then -total.msat else total.msat end
    from (select sum(msat)::bigint as msat from reserved) as total
    where code in ('pool', 'pool_reserved')
)
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
select 'reserve', id, 'pool', 'pool_reserved', msat from reserved

-- name: find_causes
-- What stands in the book under these causes.
select cause_kind, cause_id, debit, credit, amount_msat
from transfers
join unnest($1::text[], $2::text[]) as wanted (kind, id) on cause_kind = wanted.kind and cause_id = wanted.id

-- name: kept_balances
select code, balance_msat from accounts where code = any($1) and limited

-- name: balances
-- Every account on its normal side, the holdings of single jobs as one line.
select split_part(code, ':', 1) as code,
       sum(case when kind in ('asset', 'expense') then -net else net end)::bigint as balance_msat
from (
    select account.code, account.kind,
           coalesce((select sum(amount_msat) from transfers where credit = account.code), 0)
         - coalesce((select sum(amount_msat) from transfers where debit = account.code), 0) as net
    from accounts account
) as summed
group by split_part(code, ':', 1)
order by 1

-- name: moves
-- What moved an account lately, without a word on whom.
select cause_kind, credit = $1 as into_it, amount_msat, created_at
from transfers where $1 in (debit, credit) order by id desc limit $2
