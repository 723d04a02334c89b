-- Sessions: a prepaid balance with a bearer token; each request is debited on its own. Rules: ARCHITECTURE.md, "Sessions".

create table sessions (
    id text primary key check (length(id) >= 22),
    state text not null default 'awaiting_deposit' check (state in (
        'awaiting_deposit', 'active', 'closing', 'closed', 'expired')),
    -- Only the hashes of the two tokens are kept; the second one alone can name a destination for the rest.
    token_hash bytea not null unique check (octet_length(token_hash) = 32),
    refund_key_hash bytea not null unique check (octet_length(refund_key_hash) = 32),
    -- Who opened it: its tier applies to each request.
    pubkey text references identities (pubkey),
    client_address inet not null,
    deposit_sats bigint not null check (deposit_sats >= 1),
    refund_to text,
    refund_to_error text,
    refund_to_retry_at timestamptz,
    last_used_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint session_tried_again_after_an_error check (refund_to_retry_at is null or refund_to_error is not null)
);

create index sessions_idle on sessions (last_used_at) where state = 'active';
create index sessions_closing on sessions (updated_at) where state = 'closing';

create table session_requests (
    id text primary key check (length(id) >= 22),
    session_id text not null references sessions (id),
    work text not null,
    request_hash bytea not null check (octet_length(request_hash) = 32),
    pubkey text references identities (pubkey),
    client_address inet not null,
    state text not null default 'running' check (state in ('running', 'complete', 'failed')),
    serve text not null check (serve in ('free', 'partial', 'gate')),
    estimate_sats bigint not null check (estimate_sats >= 1),
    -- The pool's part as it was decided: reserved when free, only advised when partial.
    absorb_sats bigint not null check (absorb_sats between 0 and estimate_sats),
    -- Set aside from the balance until the run has ended: the full estimate, or nothing when the pool pays all.
    held_sats bigint not null check (held_sats >= 0),
    -- Who runs it. A lease that lapsed means that its process is dead: a sweep ends the request.
    owner text not null,
    lease_until timestamptz not null,
    result jsonb,
    actual_cost_sats bigint check (actual_cost_sats between 0 and estimate_sats),
    absorbed_sats bigint check (absorbed_sats >= 0),
    charged_sats bigint check (charged_sats >= 0),
    -- What could be spent when it had ended: a repeated call gets the same answer.
    balance_sats bigint check (balance_sats >= 0),
    failure_reason text,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    constraint the_full_estimate_is_held check (held_sats = case serve when 'free' then 0 else estimate_sats end),
    constraint absorbs_as_served check (
        case serve when 'free' then absorb_sats = estimate_sats when 'gate' then absorb_sats = 0
        else absorb_sats > 0 and absorb_sats < estimate_sats end),
    constraint the_pool_pays_for_the_known check (serve = 'gate' or pubkey is not null),
    constraint ended_says_what_it_cost check (
        (state = 'running') = (ended_at is null)
        and (state = 'complete') = (actual_cost_sats is not null)
        and (state = 'running') = (balance_sats is null)
        and (state = 'running') = (charged_sats is null) and (state = 'running') = (absorbed_sats is null)
        and (state = 'failed') = (failure_reason is not null)),
    constraint charged_and_absorbed_are_the_cost check (charged_sats + absorbed_sats = coalesce(actual_cost_sats, 0)),
    constraint never_absorbed_above_the_advice check (absorbed_sats <= absorb_sats),
    constraint never_charged_above_the_hold check (charged_sats <= held_sats)
);

create index session_requests_running on session_requests (session_id) where state = 'running';
create index session_requests_leases on session_requests (lease_until) where state = 'running';
create index session_requests_results on session_requests (ended_at) where result is not null;

-- A request ends once: what was charged stands.
create function refuse_other_end_of_request() returns trigger language plpgsql as $$
begin
    raise exception 'request % has ended', old.id using errcode = 'restrict_violation';
end
$$;
create trigger session_requests_end_once before update on session_requests
    for each row when (old.state <> 'running' and (new.state, new.charged_sats, new.absorbed_sats)
                       is distinct from (old.state, old.charged_sats, old.absorbed_sats))
    execute function refuse_other_end_of_request();

-- The statement: all that changed a session's money (what can be spent and what is held, together), numbered without a
-- gap under the session's lock.
create table session_entries (
    session_id text not null references sessions (id),
    number integer not null check (number >= 1),
    kind text not null check (kind in ('deposit', 'topup', 'request', 'refund', 'sub_sat')),
    -- The invoice's payment hash, the request's id, or the refund's cause.
    subject text not null,
    change_msat bigint not null,
    balance_msat bigint not null check (balance_msat >= 0),
    created_at timestamptz not null default clock_timestamp(),
    primary key (session_id, number),
    constraint one_entry_per_subject unique (kind, subject),
    constraint change_has_its_sign check (
        case when kind in ('deposit', 'topup') then change_msat > 0 when kind = 'request' then change_msat <= 0
        else change_msat < 0 end)
);

create trigger session_entries_are_immutable before update or delete on session_entries
    for each row execute function refuse_change();
create trigger session_entries_are_never_truncated before truncate on session_entries
    for each statement execute function refuse_change();

-- Deposits and top-ups are invoices of a session.
alter table invoices
    add column session_id text references sessions (id),
    drop constraint invoices_purpose_check,
    add constraint invoices_purpose_check check (
        purpose in ('work', 'evaluation', 'donation', 'deposit', 'topup')),
    drop constraint a_job_or_a_donation,
    add constraint one_payee check (
        case when purpose = 'donation' then job_id is null and session_id is null
             when purpose in ('deposit', 'topup') then job_id is null and session_id is not null
             else job_id is not null and session_id is null end);

create index invoices_session on invoices (session_id, created_at) where session_id is not null;

-- A refund is owed by a job or by a session. `job_id` names the owner, whichever it is; a session's stands in
-- `session_id` too, and the reference to jobs is kept for all others.
alter table refunds
    add column session_id text references sessions (id),
    add column of_job text generated always as (case when session_id is null then job_id end) stored references jobs (id),
    drop constraint refunds_job_id_fkey,
    add constraint one_owner check (session_id is null or session_id = job_id);
alter table refund_attempts
    add column session_id text references sessions (id),
    add column of_job text generated always as (case when session_id is null then job_id end) stored references jobs (id),
    drop constraint refund_attempts_job_id_fkey,
    add constraint one_owner check (session_id is null or session_id = job_id);

create or replace function tell_job_changed() returns trigger language plpgsql as $$
begin
    if tg_table_name in ('jobs', 'sessions') then
        perform pg_notify('boltworks_job', new.id);
    elsif tg_table_name = 'invoices' then
        perform pg_notify('boltworks_job', coalesce(new.job_id, new.session_id, encode(new.payment_hash, 'hex')));
    else
        perform pg_notify('boltworks_job', new.job_id);
    end if;
    if tg_table_name = 'refunds' then
        perform pg_notify('boltworks_refund', '');
    end if;
    return null;
end
$$;

-- Not at each request: commits that notify are serialised by PostgreSQL.
create trigger sessions_changed after update of state, refund_to, refund_to_error on sessions
    for each row execute function tell_job_changed();
