-- LNURL-withdraw: a wallet scans a code and fetches what is owed on its job.

create table lnurl_withdrawals (
    -- The secret k1 follows from the id and the gateway's token secret; only its hash is kept.
    id text primary key check (length(id) >= 22),
    k1_hash bytea not null unique check (octet_length(k1_hash) = 32),
    job_id text not null references jobs (id),
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    -- Used up in the transaction that claims the refund: once.
    used_at timestamptz,
    constraint withdrawal_lives_a_day check (
        expires_at > created_at and expires_at <= created_at + interval '1 day'),
    constraint withdrawal_used_in_its_time check (used_at >= created_at and used_at < expires_at)
);

create index lnurl_withdrawals_job on lnurl_withdrawals (job_id, expires_at);
create index lnurl_withdrawals_expiry on lnurl_withdrawals (expires_at);
