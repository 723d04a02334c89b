-- What the gate writes by the hundred is guarded as before, for less.
--
-- A foreign key looks its target up and locks it for every single row: a third of a group's time in the database.
-- Accounts and identities are never deleted and never renamed. From here on a trigger refuses that, and so one look when
-- a row is written proves as much as the foreign key did: whoever was there then is there for ever.

create function refuse_to_go() returns trigger language plpgsql as $$
begin
    raise exception 'rows of % are never deleted or renamed', tg_table_name using errcode = 'restrict_violation';
end
$$;

create trigger accounts_stay before delete or update of code on accounts
    for each row execute function refuse_to_go();
create trigger accounts_are_never_truncated before truncate on accounts
    for each statement execute function refuse_to_go();
create trigger identities_stay before delete or update of pubkey on identities
    for each row execute function refuse_to_go();
create trigger identities_are_never_truncated before truncate on identities
    for each statement execute function refuse_to_go();

-- Accounts that exist since the first migration, and stay, need no look; all others are looked up.
create function transfer_names_accounts() returns trigger language plpgsql as $$
begin
    if not exists (select from accounts where code = new.debit)
            or not exists (select from accounts where code = new.credit) then
        raise exception 'there is no account % or no account %', new.debit, new.credit
            using errcode = 'foreign_key_violation';
    end if;
    return null;
end
$$;

create trigger transfers_name_accounts after insert on transfers for each row
    when (new.debit not in ('node', 'revenue', 'refunds_payable', 'capital', 'pool', 'pool_reserved')
          or new.credit not in ('node', 'revenue', 'refunds_payable', 'capital', 'pool', 'pool_reserved'))
    execute function transfer_names_accounts();

alter table transfers drop constraint transfers_debit_fkey, drop constraint transfers_credit_fkey;

-- All reservations of a statement are looked up together. Whose a reservation is never changes.
create function reservations_are_somebodys() returns trigger language plpgsql as $$
begin
    if exists (select from made left join identities known on known.pubkey = made.pubkey where known.pubkey is null) then
        raise exception 'a reservation of an identity that is not there' using errcode = 'foreign_key_violation';
    end if;
    return null;
end
$$;

create trigger reservations_are_somebodys after insert on reservations
    referencing new table as made for each statement execute function reservations_are_somebodys();
create trigger reservations_keep_their_identity before update of pubkey on reservations
    for each row when (new.pubkey <> old.pubkey) execute function refuse_to_go();

alter table reservations drop constraint reservations_pubkey_fkey;

-- Counters are updated all day: room on each page keeps the new version beside the old one, and the index untouched.
alter table gate_days set (fillfactor = 50);
alter table accounts set (fillfactor = 50);

-- No statement looks for open reservations by their age.
drop index reservations_open;
