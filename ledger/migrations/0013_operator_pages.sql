-- The operator's pages: who is logged in, how often a key was tried, and what was done.

create table operator_sessions (
    id text primary key check (length(id) >= 22),
    -- HMAC of the cookie's secret under the operator key: the cookie is not kept, and another key ends every session.
    token_hash bytea not null unique check (octet_length(token_hash) = 32),
    client_address inet not null,
    created_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),
    expires_at timestamptz not null,
    constraint operator_session_lives_twelve_hours check (
        expires_at > created_at and expires_at <= created_at + interval '12 hours'),
    constraint operator_session_seen_in_its_time check (last_seen_at >= created_at and last_seen_at < expires_at)
);

create index operator_sessions_expiry on operator_sessions (expires_at);

-- Each try of a key is counted before the key is compared; the one that was right is taken out again.
create table operator_login_tries (
    id bigint generated always as identity primary key,
    client_address inet not null,
    tried_at timestamptz not null default now()
);

create index operator_login_tries_time on operator_login_tries (tried_at);

-- What the operator did, by page, API or command. Sessions end and are deleted, this stays.
create table operator_actions (
    id bigint generated always as identity primary key,
    who text not null check (who in ('session', 'key', 'command')),
    session_id text check (length(session_id) >= 22),
    client_address inet,
    action text not null check (action ~ '^[a-z_]+$'),
    -- To whom or what it was done: a pubkey, a refund's id, the pool.
    subject text not null check (length(subject) <= 200),
    -- What was asked for, in words.
    said text not null check (length(said) <= 500),
    outcome text not null check (outcome in ('done', 'repeated', 'refused')),
    problem text,
    created_at timestamptz not null default now(),
    constraint a_session_is_named check ((who = 'session') = (session_id is not null)),
    constraint a_command_has_no_address check ((who = 'command') = (client_address is null)),
    constraint refused_says_why check ((outcome = 'refused') = (problem is not null))
);

create index operator_actions_logins on operator_actions (client_address, created_at) where action = 'login';

create trigger operator_actions_are_immutable before update or delete on operator_actions
    for each row execute function refuse_change();
create trigger operator_actions_are_never_truncated before truncate on operator_actions
    for each statement execute function refuse_change();

-- The plots sum the book by days. Its rows stand in the order of their time, so this index costs next to nothing.
create index transfers_time on transfers using brin (created_at);
