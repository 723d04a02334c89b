-- Logging in by Nostr keys: challenges, tokens, and the events that were used up.

create table identity_challenges (
    challenge text primary key check (length(challenge) >= 43),
    client_address inet not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    -- Used once. The row stays until it expires and counts against its address, so that logging in is bounded too.
    used_at timestamptz,
    constraint challenge_lives_five_minutes check (
        expires_at > created_at and expires_at <= created_at + interval '5 minutes'),
    constraint challenge_used_in_its_time check (used_at >= created_at and used_at < expires_at)
);

create index identity_challenges_address on identity_challenges (client_address);
create index identity_challenges_expiry on identity_challenges (expires_at);

-- Only the hash of a token is kept.
create table identity_tokens (
    token_hash bytea primary key check (octet_length(token_hash) = 32),
    pubkey text not null check (pubkey ~ '^[0-9a-f]{64}$'),
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    constraint token_lives_thirty_days check (
        expires_at > created_at and expires_at <= created_at + interval '30 days')
);

create index identity_tokens_pubkey on identity_tokens (pubkey, created_at);
create index identity_tokens_expiry on identity_tokens (expires_at);

-- NIP-98 events that a call was made with: an id is accepted once. Kept longer than any event stays fresh.
create table nostr_events (
    event_id text primary key check (event_id ~ '^[0-9a-f]{64}$'),
    seen_at timestamptz not null default now()
);

create index nostr_events_seen on nostr_events (seen_at);
