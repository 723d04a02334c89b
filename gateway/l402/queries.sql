-- name: lock_address
-- Who asks twice at once gets one invoice. Held to the end of the transaction.
select pg_advisory_xact_lock(hashtextextended('l402:' || $1::inet::text, 0))

-- name: open_challenge
-- The address's unpaid invoice that is worth what is asked ($2 msat), and not more than a quarter more, with time left
-- to pay it.
select session.created_at, session.deposit_sats, invoice.payment_hash, invoice.preimage, invoice.amount_msat,
       invoice.memo, invoice.state, invoice.payment_request, invoice.expires_at,
       ceil(extract(epoch from invoice.planned_expires_at - now()))::int as expiry_s
from invoices invoice join sessions session on session.id = invoice.session_id
where invoice.client_address = $1::inet and invoice.state in ('planned', 'open') and invoice.purpose = 'deposit'
  and session.is_l402 and session.state = 'awaiting_deposit'
  and invoice.amount_msat between $2 and $2 + $2 / 4 and invoice.planned_expires_at > now() + make_interval(secs => $3)
order by invoice.amount_msat, invoice.created_at limit 1

-- name: created_at
select created_at from sessions where id = $1

-- name: hold
-- The first token that came with the preimage has the session, for ever.
update sessions set l402_holder = $2 where id = $1 and l402_holder is null

-- name: of_payment
-- The session that a token's payment opened.
select session.id, session.state, session.pubkey, session.refund_key_hash, session.l402_holder,
       invoice.state as invoice_state, invoice.preimage
from invoices invoice join sessions session on session.id = invoice.session_id
where invoice.payment_hash = $1 and invoice.purpose = 'deposit' and session.is_l402
