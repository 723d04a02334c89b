-- name: check_balance_is_the_sum_of_transfers
-- A balance kept in an account is what its transfers add up to.
select account.code as subject,
       format('kept %s msat, transfers say %s msat', account.balance_msat, summed.net) as detail
from accounts account
cross join lateral (
    select coalesce((select sum(amount_msat) from transfers where credit = account.code), 0)
         - coalesce((select sum(amount_msat) from transfers where debit = account.code), 0) as net
) as summed
where account.limited and account.balance_msat <> summed.net

-- name: break_balance_is_the_sum_of_transfers
update accounts set balance_msat = balance_msat + 1 where code = 'pool';

-- name: break_balance_is_the_sum_of_transfers_2
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('self_test', gen_random_uuid()::text, 'capital', 'pool', 1);

-- name: check_nothing_owed_is_negative
-- The pool, what it set aside, and everything owed to payers never go below zero.
select account.code as subject, format('%s msat', summed.net) as detail
from accounts account
cross join lateral (
    select coalesce((select sum(amount_msat) from transfers where credit = account.code), 0)
         - coalesce((select sum(amount_msat) from transfers where debit = account.code), 0) as net
) as summed
where account.kind in ('liability', 'pool') and summed.net < 0

-- name: break_nothing_owed_is_negative
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('self_test', gen_random_uuid()::text, 'pool', 'revenue', 9000000000000000);

-- name: break_nothing_owed_is_negative_2
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('self_test', gen_random_uuid()::text, 'refunds_payable', 'node', 9000000000000000);

-- name: check_the_book_balances
-- Assets + expenses = liabilities + pool + revenue + capital.
select 'book' as subject, format('the two sides differ by %s msat', difference) as detail
from (
    select coalesce(sum(amount_msat * (
        (select count(*) from accounts where code = debit) - (select count(*) from accounts where code = credit)
    )), 0) as difference
    from transfers
) as summed
where difference <> 0

-- name: break_the_book_balances
alter table transfers drop constraint transfers_credit_fkey;
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('self_test', gen_random_uuid()::text, 'node', 'nowhere', 5);
