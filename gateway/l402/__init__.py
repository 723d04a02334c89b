"""L402: pay, then ask with the macaroon and the payment's preimage. A paid token is a session of its own."""
