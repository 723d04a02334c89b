-- Jobs, their invoices, and what is owed back. States and constraints as in ARCHITECTURE.md.

create table jobs (
    id text primary key check (length(id) >= 22),
    work text not null,
    input jsonb not null,
    state text not null check (state in (
        'awaiting_eval_payment', 'evaluating', 'awaiting_work_payment',
        'executing', 'complete', 'failed', 'rejected', 'expired')),
    serve text not null check (serve in ('free', 'partial', 'gate')),
    estimate_sats bigint not null check (estimate_sats >= 1),
    absorb_sats bigint not null default 0 check (absorb_sats >= 0),
    work_amount_sats bigint not null check (work_amount_sats >= 0),
    token_hash bytea not null check (octet_length(token_hash) = 32),
    client_address inet not null,
    -- Where the payer wants money back, kept until it is owed; the reason why it was found unusable, if it was.
    refund_to text,
    refund_to_error text,
    -- Number of the worker's run; a result that carries another number is late and discarded.
    attempt integer not null default 0 check (attempt >= 0),
    -- Runs that a stopping process gave back unharmed; they are no sign of work that can not be done.
    handed_back integer not null default 0 check (handed_back between 0 and attempt),
    result jsonb,
    actual_cost_sats bigint check (actual_cost_sats >= 0),
    absorbed_sats bigint check (absorbed_sats >= 0),
    user_charge_sats bigint check (user_charge_sats >= 0),
    failure_reason text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint price_is_shared check (absorb_sats + work_amount_sats = estimate_sats),
    constraint complete_has_a_result check (state <> 'complete' or (
        result is not null and actual_cost_sats is not null
        and absorbed_sats is not null and user_charge_sats is not null)),
    constraint failed_has_a_reason check (state not in ('failed', 'rejected') or failure_reason is not null),
    constraint cost_is_capped check (actual_cost_sats <= estimate_sats),
    constraint charge_is_no_more_than_cost check (user_charge_sats + absorbed_sats <= actual_cost_sats)
);

create index jobs_executing on jobs (updated_at) where state = 'executing';

create table invoices (
    payment_hash bytea primary key check (octet_length(payment_hash) = 32),
    -- Stored before AddInvoice, so that a lost answer can be asked for again.
    preimage bytea not null unique,
    purpose text not null check (purpose in ('work')),
    job_id text not null references jobs (id),
    client_address inet not null,
    amount_msat bigint not null check (amount_msat >= 1000),
    memo text not null,
    state text not null default 'planned' check (state in ('planned', 'open', 'settled', 'canceled')),
    payment_request text,
    planned_expires_at timestamptz not null,
    expires_at timestamptz,
    amount_paid_msat bigint check (amount_paid_msat > 0),
    settle_index bigint,
    settled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint preimage_hashes_to_payment_hash check (sha256(preimage) = payment_hash),
    constraint open_has_a_request check (state <> 'open' or (payment_request is not null and expires_at is not null)),
    constraint settled_says_what_was_paid check (
        (state = 'settled') = (amount_paid_msat is not null) and (state = 'settled') = (settled_at is not null))
);

create index invoices_job on invoices (job_id, created_at);
create index invoices_open_by_address on invoices (client_address) where state in ('planned', 'open');
create index invoices_not_final on invoices (created_at) where state in ('planned', 'open');

create table refund_attempts (
    id text primary key,
    job_id text not null references jobs (id),
    destination text not null,
    payment_request text not null,
    -- One payment hash belongs to one attempt, for ever.
    payment_hash bytea not null unique check (octet_length(payment_hash) = 32),
    amount_sats bigint not null check (amount_sats > 0),
    amountless boolean not null,
    fee_limit_msat bigint not null check (fee_limit_msat >= 0),
    expires_at timestamptz not null,
    state text not null default 'unfinished' check (state in ('unfinished', 'paid', 'failed', 'frozen')),
    -- Sends are counted before they leave; a FAILED of LND uses up one.
    sends integer not null default 0 check (sends >= 0),
    failed_sends integer not null default 0 check (failed_sends >= 0 and failed_sends <= sends),
    last_failed_index bigint not null default 0,
    -- LND once showed this payment: it can not be unknown to an intact history again.
    update_seen boolean not null default false,
    node_pubkey text,
    highest_payment_index bigint not null default 0,
    lease_owner text,
    lease_until timestamptz,
    next_look_at timestamptz not null default now(),
    preimage bytea,
    fee_msat bigint check (fee_msat >= 0),
    failure_reason text,
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    constraint paid_has_its_proof check (state <> 'paid' or (
        preimage is not null and fee_msat is not null and sha256(preimage) = payment_hash)),
    constraint failed_says_why check (state not in ('failed', 'frozen') or failure_reason is not null)
);

create index refund_attempts_unfinished on refund_attempts (next_look_at) where state = 'unfinished';

-- At most one attempt of a job is open, so no sum can be under way twice.
create unique index one_open_attempt_per_job on refund_attempts (job_id) where state in ('unfinished', 'frozen');

create table refunds (
    id text primary key,
    job_id text not null references jobs (id),
    -- One debt, one cause: rest:<job>, failed:<job>, late:<payment hash>.
    cause text not null unique,
    amount_sats bigint not null check (amount_sats > 0),
    state text not null default 'pending' check (state in ('pending', 'paying', 'paid')),
    attempt_id text references refund_attempts (id),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint claimed_by_its_attempt check ((state = 'pending') = (attempt_id is null))
);

create index refunds_job on refunds (job_id);
create index refunds_pending on refunds (job_id) where state = 'pending';

create table idempotency_keys (
    scope text not null,
    key_hash bytea not null,
    body_hash bytea not null,
    -- Made with the claim: a retry after the claimant's death resumes the same resource.
    resource_id text not null,
    owner text not null,
    lease_until timestamptz not null,
    status integer,
    response jsonb,
    created_at timestamptz not null default now(),
    primary key (scope, key_hash)
);

create index idempotency_keys_age on idempotency_keys (created_at);

-- The watcher's hint: all settle indices up to here were acknowledged. Only as good as its witness:
-- the payment hash that stood at that index.
create table watcher_cursor (
    node_pubkey text primary key,
    settle_index bigint not null check (settle_index >= 0),
    payment_hash bytea,
    updated_at timestamptz not null default now()
);

-- Events that kept failing: set aside with an alarm, retried slowly, holding up no other.
create table parked_events (
    payment_hash bytea primary key,
    node_pubkey text not null,
    webhook_id text not null,
    body text not null,
    attempts integer not null,
    last_error text not null,
    next_try_at timestamptz not null,
    parked_at timestamptz not null default now()
);

-- Whoever shows a job hears of every change of it, whatever wrote it.
create function tell_job_changed() returns trigger language plpgsql as $$
begin
    if tg_table_name = 'jobs' then
        perform pg_notify('boltworks_job', new.id);
    else
        perform pg_notify('boltworks_job', new.job_id);
    end if;
    if tg_table_name = 'refunds' then
        perform pg_notify('boltworks_refund', '');
    end if;
    return null;
end
$$;

-- Not at creation: nobody waits yet, and commits that notify are serialised by PostgreSQL.
create trigger jobs_changed after update on jobs
    for each row execute function tell_job_changed();
create trigger invoices_changed after update of state on invoices
    for each row when (new.state in ('settled', 'canceled') and new.state <> old.state)
    execute function tell_job_changed();
create trigger refunds_changed after insert or update on refunds
    for each row execute function tell_job_changed();
