-- A payment that arrived ends the refunds of its attempt: found by an index, not by reading all that were ever paid.

create index refunds_of_attempt on refunds (attempt_id) where state = 'paying';
