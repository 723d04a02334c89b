-- The free-tier gate: who is known, what was set aside and given, day by day. Rules: ARCHITECTURE.md, "The gate".

create table identities (
    pubkey text primary key check (pubkey ~ '^[0-9a-f]{64}$'),
    -- Recognised user charges, never deposits or refunded sums: what a tier is earned by.
    paid_sats bigint not null default 0 check (paid_sats >= 0),
    -- The operator's word stands above what was earned.
    operator_tier text,
    blocked boolean not null default false,
    first_seen_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- What one identity, one client address and the whole pool were given on a UTC day, and hold reserved of it.
create table gate_days (
    kind text not null check (kind in ('address', 'identity', 'pool')),
    subject text not null,
    day date not null,
    absorbed_sats bigint not null default 0 check (absorbed_sats >= 0),
    reserved_sats bigint not null default 0 check (reserved_sats >= 0),
    primary key (kind, subject, day)
);

-- Pool money set aside for one owner (job:<id>): made once, then recorded or released, exactly once.
create table reservations (
    id text primary key,
    pubkey text not null references identities (pubkey),
    client_address inet not null,
    -- The day on which it was made: it counts there, even if it is recorded after midnight.
    day date not null,
    request_hash bytea not null check (octet_length(request_hash) = 32),
    reserved_sats bigint not null check (reserved_sats > 0),
    state text not null default 'reserved' check (state in ('reserved', 'recorded', 'released')),
    absorbed_sats bigint check (absorbed_sats between 0 and reserved_sats),
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    constraint recorded_says_what_was_absorbed check ((state = 'recorded') = (absorbed_sats is not null)),
    constraint ended_says_when check ((state = 'reserved') = (ended_at is null))
);

create index reservations_open on reservations (created_at) where state = 'reserved';

-- A reservation ends once: what has ended is immutable.
create function refuse_second_end() returns trigger language plpgsql as $$
begin
    if old.state <> 'reserved' then
        raise exception 'reservation % has ended', old.id using errcode = 'restrict_violation';
    end if;
    return new;
end
$$;
create trigger reservations_end_once before update on reservations
    for each row execute function refuse_second_end();

-- The audit row of what the pool really paid.
create table grants (
    id bigint generated always as identity primary key,
    reservation_id text not null unique references reservations (id),
    pubkey text not null,
    request_hash bytea not null,
    day date not null,
    reserved_sats bigint not null,
    absorbed_sats bigint not null check (absorbed_sats between 0 and reserved_sats),
    created_at timestamptz not null default now()
);
create trigger grants_are_immutable before update or delete on grants
    for each row execute function refuse_change();

create index grants_pubkey on grants (pubkey, id);

-- Work that kept failing at the worker slows its buyer down.
create table work_failures (
    kind text not null check (kind in ('address', 'identity')),
    subject text not null,
    failures integer not null check (failures > 0),
    last_failed_at timestamptz not null default now(),
    primary key (kind, subject)
);

alter table jobs
    add column pubkey text references identities (pubkey),
    add column request_hash bytea check (octet_length(request_hash) = 32),
    add constraint pool_pays_for_the_known check (serve = 'gate' or (pubkey is not null and request_hash is not null)),
    add constraint served_as_shared check (
        case serve when 'free' then work_amount_sats = 0 when 'gate' then absorb_sats = 0
        else absorb_sats > 0 and work_amount_sats > 0 end);

create index jobs_pubkey on jobs (pubkey, created_at) where pubkey is not null;

-- A donation is an invoice of no job: settled, it is the pool's.
alter table invoices
    alter column job_id drop not null,
    drop constraint invoices_purpose_check,
    add constraint invoices_purpose_check check (purpose in ('work', 'donation')),
    add constraint a_job_or_a_donation check ((purpose = 'donation') = (job_id is null));

create or replace function tell_job_changed() returns trigger language plpgsql as $$
begin
    if tg_table_name = 'jobs' then
        perform pg_notify('boltworks_job', new.id);
    elsif new.job_id is not null then
        perform pg_notify('boltworks_job', new.job_id);
    elsif tg_table_name = 'invoices' then
        perform pg_notify('boltworks_job', encode(new.payment_hash, 'hex'));
    end if;
    if tg_table_name = 'refunds' then
        perform pg_notify('boltworks_refund', '');
    end if;
    return null;
end
$$;
