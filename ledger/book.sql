-- name: post
-- A whole posting. Accounts with a limit are locked in the order given by the caller (by code, the pool last), before
-- anything is written; FOR NO KEY UPDATE, as everywhere. If one of them is not there (or not yet: this statement's snapshot
-- may be older than its locks), nothing is. A known cause is skipped, and compared by the caller. The
-- CHECK stops an account that would go below zero. Holdings that may not be there yet ($7) are made with what they get.
with locked as materialized (
    select account.code
    from unnest($6::text[]) with ordinality as wanted (code, place)
    join accounts account on account.code = wanted.code and account.limited
    order by wanted.place
    for no key update of account
), posted as (
    insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
    where (select count(*) from locked) = cardinality($6::text[])
    on conflict on constraint one_transfer_per_cause do nothing
    returning cause_kind, cause_id, debit, credit, amount_msat
), moved as materialized (
    select code, sum(msat)::bigint as msat
    from (select credit, amount_msat from posted union all select debit, -amount_msat from posted) as side (code, msat)
    group by code
), kept as (
    update accounts set balance_msat = accounts.balance_msat + moved.msat
    from moved
    where accounts.code = moved.code and accounts.limited and moved.msat <> 0 and moved.code <> all ($7::text[])
), made as (
    insert into accounts as holding (code, kind, limited, balance_msat)
    select code, 'liability', true, coalesce(moved.msat, 0)
    from unnest($7::text[]) as opened (code) left join moved using (code)
    order by code
    on conflict (code) do update set balance_msat = holding.balance_msat + excluded.balance_msat
)
select cause_kind, cause_id from posted

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
