-- Outgoing webhooks: what happens to jobs and refunds, told to addresses that the operator named. An event is written by
-- a trigger, in the transaction of the change itself: it is told exactly when the change stands. Rules: ARCHITECTURE.md.

create table webhook_endpoints (
    id text primary key check (length(id) >= 22),
    url text not null check (url ~ '^https?://' and length(url) <= 2048),
    -- Types of events, or a prefix with a star (`job.*`, `*`).
    events text[] not null check (cardinality(events) between 1 and 50),
    enabled boolean not null default true,
    -- Why it was switched off by us: the address said that it is gone.
    disabled_reason text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint a_reason_is_for_what_is_off check (disabled_reason is null or not enabled)
);

create table webhook_events (
    id text primary key,
    type text not null,
    body jsonb not null,
    created_at timestamptz not null default clock_timestamp()
);
create index webhook_events_age on webhook_events (created_at);

create table webhook_deliveries (
    id text primary key,
    endpoint_id text not null references webhook_endpoints (id),
    event_id text not null references webhook_events (id) on delete cascade,
    state text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
    -- Counted before it is sent.
    attempts integer not null default 0 check (attempts >= 0),
    next_attempt_at timestamptz not null default now(),
    lease_until timestamptz,
    last_status integer,
    last_error text,
    ended_at timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    constraint told_once_to_each unique (endpoint_id, event_id),
    constraint ended_says_when check ((state = 'pending') = (ended_at is null))
);
create index webhook_deliveries_due on webhook_deliveries (endpoint_id, next_attempt_at) where state = 'pending';
create index webhook_deliveries_events on webhook_deliveries (event_id);

create function webhook_wanted(wanted text[], type text) returns boolean language sql immutable as $$
    select exists (select from unnest(wanted) as one
                   where one = type or (right(one, 1) = '*' and starts_with(type, left(one, -1))))
$$;

create function tell_webhooks(type text, data jsonb) returns void language plpgsql as $$
declare
    event_id text;
begin
    if not exists (select from webhook_endpoints where enabled and webhook_wanted(events, type)) then
        return;
    end if;
    event_id := 'evt_' || replace(gen_random_uuid()::text, '-', '');
    insert into webhook_events (id, type, body) values (event_id, type, jsonb_build_object(
        'type', type,
        'timestamp', to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'data', jsonb_strip_nulls(data)));
    insert into webhook_deliveries (id, endpoint_id, event_id)
    select 'dlv_' || replace(gen_random_uuid()::text, '-', ''), endpoint.id, event_id
    from webhook_endpoints endpoint where endpoint.enabled and webhook_wanted(endpoint.events, type);
end
$$;

create function tell_of_job() returns trigger language plpgsql as $$
begin
    perform tell_webhooks('job.' || new.state, jsonb_build_object(
        'jobId', new.id, 'work', new.work, 'state', new.state, 'serve', new.serve,
        'estimateSats', new.estimate_sats, 'workAmountSats', new.work_amount_sats,
        'actualCostSats', new.actual_cost_sats, 'absorbedSats', new.absorbed_sats,
        'userChargeSats', new.user_charge_sats, 'failureReason', new.failure_reason));
    return null;
end
$$;
create trigger jobs_told_when_made after insert on jobs for each row execute function tell_of_job();
create trigger jobs_told_when_moved after update on jobs
    for each row when (old.state is distinct from new.state) execute function tell_of_job();

create function tell_of_refund() returns trigger language plpgsql as $$
begin
    perform tell_webhooks('refund.' || new.state, jsonb_build_object(
        'refundId', new.id, 'jobId', new.of_job, 'sessionId', new.session_id, 'state', new.state,
        'amountSats', new.amount_sats, 'cause', split_part(new.cause, ':', 1)));
    return null;
end
$$;
create trigger refunds_told_when_made after insert on refunds for each row execute function tell_of_refund();
create trigger refunds_told_when_moved after update on refunds
    for each row when (old.state is distinct from new.state) execute function tell_of_refund();
