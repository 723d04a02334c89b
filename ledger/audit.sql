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
alter table transfers disable trigger transfers_name_accounts;
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('self_test', gen_random_uuid()::text, 'node', 'nowhere', 5);

-- name: check_pool_reserved_is_the_open_reservations
-- What the pool has set aside is the sum of the reservations that have not ended.
select 'pool_reserved' as subject, format('kept %s msat, open reservations %s msat', kept.msat, open.msat) as detail
from (select balance_msat as msat from accounts where code = 'pool_reserved') as kept,
     (select coalesce(sum(reserved_sats), 0) * 1000 as msat from reservations where state = 'reserved') as open
where kept.msat <> open.msat

-- name: break_pool_reserved_is_the_open_reservations
update accounts set balance_msat = balance_msat + 1 where code = 'pool_reserved';

-- name: check_a_reservation_was_booked_and_ended_as_it_says
-- Reserve, grant and release stand in the book exactly as the reservation says; each recorded one has its grant row.
select coalesce(reservation.id, made.cause_id, given.cause_id, back.cause_id) as subject,
       format('%s: reserved %s, absorbed %s sats; booked %s, %s, %s msat', reservation.state,
              reservation.reserved_sats, reservation.absorbed_sats, made.amount_msat, given.amount_msat,
              back.amount_msat) as detail
from reservations reservation
full join (select * from transfers where cause_kind = 'reserve') as made on made.cause_id = reservation.id
full join (select * from transfers where cause_kind = 'grant') as given
    on given.cause_id = coalesce(reservation.id, made.cause_id)
full join (select * from transfers where cause_kind = 'release') as back
    on back.cause_id = coalesce(reservation.id, made.cause_id, given.cause_id)
left join grants audit on audit.reservation_id = reservation.id
where (reservation.reserved_sats * 1000) is distinct from made.amount_msat
   or made.debit <> 'pool' or made.credit <> 'pool_reserved'
   or coalesce(given.amount_msat, 0) <> coalesce(reservation.absorbed_sats, 0) * 1000
   or coalesce(back.amount_msat, 0) <> case reservation.state when 'reserved' then 0
        else (reservation.reserved_sats - coalesce(reservation.absorbed_sats, 0)) * 1000 end
   or audit.absorbed_sats is distinct from reservation.absorbed_sats

-- name: break_a_reservation_was_booked_and_ended_as_it_says
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('reserve', 'job:nobody', 'pool', 'pool_reserved', 1000);

-- name: break_a_reservation_was_booked_and_ended_as_it_says_2
insert into identities (pubkey) values (repeat('ab', 32));
insert into reservations (id, pubkey, client_address, day, request_hash, reserved_sats)
values ('job:nobody', repeat('ab', 32), '127.0.0.1', current_date, sha256('x'), 1);

-- name: check_a_day_counts_its_reservations
-- The daily counters are what the reservations of that day absorbed and still hold.
select coalesce(days.kind || ' ' || days.subject, counted.kind || ' ' || counted.subject) as subject,
       format('counter %s/%s, reservations %s/%s', days.absorbed_sats, days.reserved_sats,
              counted.absorbed, counted.reserved) as detail
from gate_days days
full join (
    select who.kind, who.subject, day,
           coalesce(sum(absorbed_sats), 0) as absorbed,
           coalesce(sum(reserved_sats) filter (where state = 'reserved'), 0) as reserved
    from reservations
    cross join lateral (values ('address', text(client_address)), ('identity', pubkey), ('pool', 'pool'))
        as who (kind, subject)
    group by 1, 2, 3
) as counted on counted.kind = days.kind and counted.subject = days.subject and counted.day = days.day
where coalesce(days.absorbed_sats, 0) <> coalesce(counted.absorbed, 0)
   or coalesce(days.reserved_sats, 0) <> coalesce(counted.reserved, 0)

-- name: break_a_day_counts_its_reservations
insert into gate_days (kind, subject, day, absorbed_sats) values ('identity', 'nobody', current_date, 1);

-- name: check_who_is_named_is_there
-- The accounts of transfers and the identities of reservations, which triggers look up in place of foreign keys.
select 'account ' || named.code as subject, 'a transfer names it, and it is not there' as detail
from (select debit as code from transfers union select credit from transfers) as named
where not exists (select from accounts where accounts.code = named.code)
union all
select 'identity ' || reservation.pubkey, format('%s names it, and it is not there', reservation.id)
from reservations reservation
where not exists (select from identities where identities.pubkey = reservation.pubkey)

-- name: break_who_is_named_is_there
alter table transfers disable trigger transfers_name_accounts;
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('self_test', gen_random_uuid()::text, 'nowhere', 'elsewhere', 5);

-- name: break_who_is_named_is_there_2
alter table reservations disable trigger reservations_are_somebodys;
insert into reservations (id, pubkey, client_address, day, request_hash, reserved_sats)
values ('job:nobody', repeat('ab', 32), '127.0.0.1', current_date, sha256('x'), 1);
