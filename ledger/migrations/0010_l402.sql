-- L402: a session whose deposit is the invoice of a challenge. Its token is a macaroon.

alter table sessions
    add column is_l402 boolean not null default false,
    -- Whose token came with the preimage first: others that were given out for the same invoice open nothing any more.
    add column l402_holder bytea check (octet_length(l402_holder) = 32),
    add constraint only_a_paid_token_has_a_holder check (l402_holder is null or is_l402),
    add constraint a_paid_token_is_nobodys check (not is_l402 or pubkey is null);
