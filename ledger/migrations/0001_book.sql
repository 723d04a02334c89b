-- The book: accounts and immutable transfers, double entry in msat.
-- A transfer moves `amount_msat` from `debit` to `credit`; its cause is unique, so one event posts once.

create table accounts (
    code text primary key check (code ~ '^[a-z_]+(:[0-9a-zA-Z_-]+)?$'),
    kind text not null check (kind in ('asset', 'expense', 'liability', 'pool', 'revenue', 'capital')),
    -- A limited account keeps its balance here, under the CHECK; the others are summed from their transfers.
    limited boolean not null default false,
    balance_msat bigint not null default 0,
    constraint limited_account_never_negative check (balance_msat >= 0),
    constraint only_limited_accounts_keep_a_balance check (limited or balance_msat = 0),
    -- Limited accounts are all credit-normal: what is owed or set aside.
    constraint limited_accounts_are_owed check (not limited or kind in ('liability', 'pool'))
);

insert into accounts (code, kind, limited) values
    ('node', 'asset', false),
    ('routing_fees', 'expense', false),
    ('overruns', 'expense', false),
    ('refunds_payable', 'liability', false),
    ('sub_sat', 'liability', false),
    ('revenue', 'revenue', false),
    ('capital', 'capital', false),
    ('pool', 'pool', true),
    ('pool_reserved', 'pool', true);

create table transfers (
    id bigint generated always as identity primary key,
    cause_kind text not null check (cause_kind ~ '^[a-z_]+$'),
    cause_id text not null check (cause_id <> ''),
    debit text not null references accounts (code),
    credit text not null references accounts (code),
    amount_msat bigint not null check (amount_msat > 0),
    created_at timestamptz not null default now(),
    constraint one_transfer_per_cause unique (cause_kind, cause_id),
    constraint two_accounts check (debit <> credit)
);

create index transfers_debit on transfers (debit);
create index transfers_credit on transfers (credit);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'rows of % are immutable', tg_table_name using errcode = 'restrict_violation';
end
$$;

create trigger transfers_are_immutable before update or delete on transfers
    for each row execute function refuse_change();
create trigger transfers_are_never_truncated before truncate on transfers
    for each statement execute function refuse_change();

-- One row: who this database is. Its random id stands in the memo of every invoice it opens.
create table installation (
    only_row boolean primary key default true check (only_row),
    id text not null default encode(substring(sha256(uuid_send(gen_random_uuid())) from 1 for 8), 'hex'),
    -- Fingerprint of TOKEN_SECRET: all processes of one database must hold the same one.
    token_secret_fingerprint bytea,
    created_at timestamptz not null default now()
);

insert into installation default values;
