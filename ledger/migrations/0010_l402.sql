-- L402: a session whose deposit is the invoice of a challenge. Its token is a macaroon, made from the row.

alter table sessions
    add column is_l402 boolean not null default false,
    add constraint a_paid_token_is_nobodys check (not is_l402 or pubkey is null);
