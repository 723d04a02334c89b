-- name: with_posting
-- The only way in which transfers are written: those in `wanted` (cause_kind, cause_id, debit, credit, amount_msat).
-- Accounts with a limit, in `limits` (code, place), are locked in this order (by code, the pool last) before anything is
-- written; FOR NO KEY UPDATE, as everywhere. If one of them is not there (or not yet: this statement's snapshot may be older
-- than its locks), nothing is. A known cause is skipped, and compared by the caller. The CHECK stops an account that would go
-- below zero. Holdings that may not be there yet, in `opening` (code), are made with what they get.
locked_accounts as materialized (
    select account.code from limits join accounts account on account.code = limits.code and account.limited
    order by limits.place
    for no key update of account
), posted as (
    insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
    select cause_kind, cause_id, debit, credit, amount_msat from wanted
    where (select count(*) from locked_accounts) = (select count(*) from limits)
    on conflict on constraint one_transfer_per_cause do nothing
    returning cause_kind, cause_id, debit, credit, amount_msat
), moved as materialized (
    select code, sum(msat)::bigint as msat
    from (select credit, amount_msat from posted union all select debit, -amount_msat from posted) as side (code, msat)
    group by code
), kept as (
    update accounts set balance_msat = accounts.balance_msat + moved.msat
    from moved
    where accounts.code = moved.code and accounts.limited and moved.msat <> 0
      and moved.code not in (select code from opening)
), made as (
    insert into accounts as holding (code, kind, limited, balance_msat)
    select code, 'liability', true, coalesce(moved.msat, 0)
    from opening left join moved using (code)
    order by code
    on conflict (code) do update set balance_msat = holding.balance_msat + excluded.balance_msat
)

-- name: post
-- A whole posting.
with wanted as materialized (
    select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
        as wanted (cause_kind, cause_id, debit, credit, amount_msat)
), limits as materialized (
    select * from unnest($6::text[]) with ordinality as limits (code, place)
), opening as materialized (
    select * from unnest($7::text[]) as opening (code)
),
-- include: ledger book.sql with_posting
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
