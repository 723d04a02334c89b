-- name: check_a_settled_invoice_is_booked_once
-- What LND says was paid on an invoice stands in the book, once and in full, and nothing else does.
select encode(coalesce(invoice.payment_hash, ''), 'hex') || coalesce(transfer.cause_id, '') as subject,
       format('invoice says %s msat, the book %s msat', invoice.amount_paid_msat, transfer.amount_msat) as detail
from (select * from invoices where state = 'settled') as invoice
full join (select * from transfers where cause_kind = 'settlement') as transfer
    on transfer.cause_id = encode(invoice.payment_hash, 'hex')
where invoice.amount_paid_msat is distinct from transfer.amount_msat
   or transfer.debit <> 'node'
   or transfer.credit <> coalesce('holding:' || invoice.job_id, 'available:' || invoice.session_id, 'pool')

-- name: break_a_settled_invoice_is_booked_once
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('settlement', repeat('ab', 32), 'node', 'pool', 1000);

-- name: break_a_settled_invoice_is_booked_once_2
insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address)
values ('self-test-self-test-self', 'x', '{}', 'awaiting_work_payment', 'gate', 1, 1, sha256('x'), '127.0.0.1');
insert into invoices (payment_hash, preimage, purpose, job_id, client_address, amount_msat, memo, state,
                      payment_request, planned_expires_at, expires_at, amount_paid_msat, settled_at)
values (sha256('self test'), 'self test', 'work', 'self-test-self-test-self', '127.0.0.1', 1000, 'x', 'settled', 'ln',
        now(), now(), 1000, now());

-- name: check_a_job_at_rest_holds_nothing
-- A job that is waiting for payment or has ended holds no money; one that is executing holds all that was paid.
select job.id as subject, format('%s holds %s msat, expected %s', job.state, held.msat, held.expected) as detail
from jobs job
cross join lateral (
    select coalesce((select sum(amount_msat) from transfers where credit = 'holding:' || job.id), 0)
         - coalesce((select sum(amount_msat) from transfers where debit = 'holding:' || job.id), 0) as msat,
           case when job.state in ('executing', 'evaluating') then coalesce((
               select sum(invoice.amount_paid_msat) from invoices invoice
               where invoice.job_id = job.id and invoice.state = 'settled'
                   and invoice.purpose = case job.state when 'executing' then 'work' else 'evaluation' end
                   and not exists (
                       select from refunds where cause = 'late:' || encode(invoice.payment_hash, 'hex'))), 0)
           else 0 end as expected
) as held
where held.msat <> held.expected

-- name: break_a_job_at_rest_holds_nothing
insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address, failure_reason)
values ('self-test-self-test-self', 'x', '{}', 'failed', 'gate', 1, 1, sha256('x'), '127.0.0.1', 'x');
insert into accounts (code, kind, limited) values ('holding:self-test-self-test-self', 'liability', true);
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('self_test', gen_random_uuid()::text, 'node', 'holding:self-test-self-test-self', 1);

-- name: check_refunds_payable_are_the_open_refunds
-- What the book owes to payers is the sum of the refunds that are neither paid nor given to the pool.
select 'refunds_payable' as subject,
       format('the book owes %s msat, open refunds are %s msat', book.msat, open.msat) as detail
from (
    select coalesce(sum(case when credit = 'refunds_payable' then amount_msat else -amount_msat end), 0) as msat
    from transfers where 'refunds_payable' in (debit, credit)
) as book, (
    select coalesce(sum(amount_sats), 0) * 1000 as msat from refunds where state not in ('paid', 'donated')
) as open
where book.msat <> open.msat

-- name: break_refunds_payable_are_the_open_refunds
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('self_test', gen_random_uuid()::text, 'node', 'refunds_payable', 1000);

-- name: check_a_refund_was_booked_as_owed
-- Every refund has its debt in the book, once, over the same sum.
select coalesce(refund.id, transfer.cause_id) as subject,
       format('refund of %s sats, booked %s msat', refund.amount_sats, transfer.amount_msat) as detail
from refunds refund
full join (select * from transfers where cause_kind = 'refund_owed') as transfer on transfer.cause_id = refund.cause
where (refund.amount_sats * 1000) is distinct from transfer.amount_msat
   or transfer.credit <> 'refunds_payable'
   or transfer.debit <> coalesce('holding:' || refund.of_job, 'available:' || refund.session_id)

-- name: break_a_refund_was_booked_as_owed
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('refund_owed', 'rest:nobody', 'node', 'refunds_payable', 1000);

-- name: check_a_donated_refund_is_the_pools
-- A refund that its owner gave to the pool was booked so, once and in full, and was never sent to anybody.
select coalesce(refund.id, transfer.cause_id) as subject,
       format('donated refund of %s sats, booked %s msat', refund.amount_sats, transfer.amount_msat) as detail
from (select * from refunds where state = 'donated') as refund
full join (select * from transfers where cause_kind = 'refund_donated') as transfer on transfer.cause_id = refund.id
where (refund.amount_sats * 1000) is distinct from transfer.amount_msat
   or transfer.debit <> 'refunds_payable' or transfer.credit <> 'pool'

-- name: break_a_donated_refund_is_the_pools
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('refund_donated', 'nobody', 'refunds_payable', 'pool', 1000);

-- name: break_a_donated_refund_is_the_pools_2
insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address, failure_reason)
values ('self-test-self-test-self', 'x', '{}', 'failed', 'gate', 1, 1, sha256('x'), '127.0.0.1', 'x');
insert into refunds (id, job_id, cause, amount_sats, state)
values ('self-test', 'self-test-self-test-self', 'rest:self-test', 1, 'donated');

-- name: check_a_paid_attempt_is_booked_with_its_fee
-- What left the node for a refund stands in the book, with its routing fee, exactly once.
select coalesce(attempt.id, paid.cause_id, fee.cause_id) as subject,
       format('attempt paid %s sats + fee %s msat, booked %s + %s msat',
              attempt.amount_sats, attempt.fee_msat, paid.amount_msat, fee.amount_msat) as detail
from (select * from refund_attempts where state = 'paid') as attempt
full join (select * from transfers where cause_kind = 'refund_paid') as paid on paid.cause_id = attempt.id
full join (select * from transfers where cause_kind = 'routing_fee') as fee
    on fee.cause_id = coalesce(attempt.id, paid.cause_id)
where (attempt.amount_sats * 1000) is distinct from paid.amount_msat
   or coalesce(attempt.fee_msat, 0) <> coalesce(fee.amount_msat, 0)

-- name: break_a_paid_attempt_is_booked_with_its_fee
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('refund_paid', 'nobody', 'node', 'pool', 1000);

-- name: break_a_paid_attempt_is_booked_with_its_fee_2
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('routing_fee', 'nobody', 'routing_fees', 'node', 1);

-- name: check_a_refund_follows_its_attempt
-- A refund is paid, paying or pending exactly as the attempt that claims it; the attempt pays the sum of its refunds.
select refund.id as subject, format('%s, its attempt %s is %s', refund.state, attempt.id, attempt.state) as detail
from refunds refund left join refund_attempts attempt on attempt.id = refund.attempt_id
where refund.state <> 'donated' and refund.state <> case coalesce(attempt.state, 'none')
    when 'paid' then 'paid' when 'unfinished' then 'paying' when 'frozen' then 'paying' else 'pending' end
union all
select attempt.id, format('attempt over %s sats claims %s sats', attempt.amount_sats, claimed.sats)
from refund_attempts attempt
cross join lateral (select coalesce(sum(amount_sats), 0) as sats from refunds where attempt_id = attempt.id) as claimed
where attempt.state <> 'failed' and attempt.amount_sats <> claimed.sats

-- name: break_a_refund_follows_its_attempt
insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address, failure_reason)
values ('self-test-self-test-self', 'x', '{}', 'failed', 'gate', 1, 1, sha256('x'), '127.0.0.1', 'x');
insert into refund_attempts (id, job_id, destination, payment_request, payment_hash, amount_sats, amountless,
                             fee_limit_msat, expires_at)
values ('self-test', 'self-test-self-test-self', 'ln', 'ln', sha256('self test'), 1, false, 0, now());

-- name: break_a_refund_follows_its_attempt_2
insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address, failure_reason)
values ('self-test-self-test-self', 'x', '{}', 'failed', 'gate', 1, 1, sha256('x'), '127.0.0.1', 'x');
insert into refund_attempts (id, job_id, destination, payment_request, payment_hash, amount_sats, amountless,
                             fee_limit_msat, expires_at, state, failure_reason)
values ('self-test', 'self-test-self-test-self', 'ln', 'ln', sha256('self test'), 1, false, 0, now(), 'failed', 'x');
insert into refunds (id, job_id, cause, amount_sats, state, attempt_id)
values ('self-test', 'self-test-self-test-self', 'rest:self-test', 1, 'paying', 'self-test');

-- name: check_routing_fees_keep_their_budgets
-- What the refunds of a UTC day cost or may still cost is within the largest budget in force on it; so for each payee.
select subject, format('%s msat, the budget is %s msat', counted_msat, budget_msat) as detail
from (
    select 'fees of ' || fee_day as subject, max(fee_day_budget_msat) as budget_msat,
           -- What the operator says of a frozen refund by hand may be more than its limit.
           sum(least(fee_counted_msat, fee_limit_msat)) as counted_msat
    from refund_attempts where fee_day_budget_msat is not null group by fee_day
    union all
    select 'fees of ' || fee_day || ' to ' || payee, max(fee_payee_budget_msat),
           sum(least(fee_counted_msat, fee_limit_msat))
    from refund_attempts where fee_payee_budget_msat is not null group by fee_day, payee
) as counted
where counted_msat > budget_msat

-- name: break_routing_fees_keep_their_budgets
insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address, failure_reason)
values ('self-test-self-test-self', 'x', '{}', 'failed', 'gate', 1, 1, sha256('x'), '127.0.0.1', 'x');
insert into refund_attempts (id, job_id, destination, payment_request, payment_hash, amount_sats, amountless,
                             fee_limit_msat, fee_day_budget_msat, expires_at, state, preimage, fee_msat)
select 'self-test-' || n, 'self-test-self-test-self', 'ln', 'ln', sha256(n::text::bytea), 1, false,
       1000, 1000, now(), 'paid', n::text::bytea, 1000 from generate_series(1, 2) as n;

-- name: break_routing_fees_keep_their_budgets_2
insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address, failure_reason)
values ('self-test-self-test-self', 'x', '{}', 'failed', 'gate', 1, 1, sha256('x'), '127.0.0.1', 'x');
insert into refund_attempts (id, job_id, destination, payment_request, payment_hash, amount_sats, amountless, payee,
                             fee_limit_msat, fee_payee_budget_msat, expires_at, state, preimage, fee_msat)
select 'self-test-' || n, 'self-test-self-test-self', 'ln', 'ln', sha256(n::text::bytea), 1, false,
       '02' || repeat('ab', 32), 1000, 1000, now(), 'paid', n::text::bytea, 1000 from generate_series(1, 2) as n;

-- name: check_paid_is_charged_or_owed_back
-- For a job that has ended: all that was paid is its charge, its refunds and its sub-sat rest. No sat is left or added.
select job.id as subject,
       format('paid %s msat, charged %s, evaluation fee %s, owed back %s, sub-sat %s',
              paid.msat, moved.charged, moved.fee, moved.owed, moved.rest) as detail
from jobs job
left join evaluations evaluation on evaluation.job_id = job.id
cross join lateral (
    select coalesce(sum(amount_paid_msat), 0) as msat from invoices where job_id = job.id and state = 'settled'
) as paid
cross join lateral (
    select coalesce(sum(amount_msat) filter (where cause_kind = 'charge'), 0) as charged,
           coalesce(sum(amount_msat) filter (where cause_kind = 'evaluation_fee'), 0) as fee,
           coalesce(sum(amount_msat) filter (where cause_kind = 'refund_owed'), 0) as owed,
           coalesce(sum(amount_msat) filter (where cause_kind = 'sub_sat'), 0) as rest
    from transfers where debit = 'holding:' || job.id
) as moved
where job.state in ('complete', 'failed', 'rejected', 'expired')
  and (paid.msat <> moved.charged + moved.fee + moved.owed + moved.rest
       or moved.charged <> coalesce(job.user_charge_sats, 0) * 1000
       or moved.fee <> coalesce(evaluation.charged_sats, 0) * 1000)

-- name: break_paid_is_charged_or_owed_back
insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address,
                  result, actual_cost_sats, absorbed_sats, user_charge_sats)
values ('self-test-self-test-self', 'x', '{}', 'complete', 'gate', 1, 1, sha256('x'), '127.0.0.1', '{}', 1, 0, 1);

-- name: check_work_is_paid_for
-- Nothing runs, or has run, that was neither paid in full nor served free; what waits or expired took no money for work.
select job.id as subject, format('%s, paid %s of %s sats', job.state, paid.msat / 1000, job.work_amount_sats) as detail
from jobs job
cross join lateral (
    select coalesce(sum(amount_paid_msat), 0) as msat from invoices
    where job_id = job.id and state = 'settled' and purpose = 'work'
) as paid
where (job.state in ('executing', 'complete') and paid.msat < job.work_amount_sats * 1000)
   or (job.state = 'awaiting_work_payment' and paid.msat > 0)

-- name: break_work_is_paid_for
insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address)
values ('self-test-self-test-self', 'x', '{}', 'executing', 'gate', 1, 1, sha256('x'), '127.0.0.1');

-- name: check_the_node_account_is_what_moved_over_lightning
-- The book's node account is settled − refunded − routing fees, hash by hash.
select 'node' as subject, format('the book says %s msat, the payments %s msat', book.msat, payments.msat) as detail
from (
    select coalesce(sum(case when debit = 'node' then amount_msat else -amount_msat end), 0) as msat
    from transfers where 'node' in (debit, credit)
) as book, (
    select coalesce((select sum(amount_paid_msat) from invoices where state = 'settled'), 0)
         - coalesce((select sum(amount_sats * 1000 + fee_msat) from refund_attempts where state = 'paid'), 0) as msat
) as payments
where book.msat <> payments.msat

-- name: break_the_node_account_is_what_moved_over_lightning
insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)
values ('self_test', gen_random_uuid()::text, 'node', 'capital', 1);

-- name: check_an_expired_job_has_no_open_invoice
-- `expired` is said only when LND can no longer take money for the job.
select job.id as subject, format('invoice %s is %s', encode(invoice.payment_hash, 'hex'), invoice.state) as detail
from jobs job join invoices invoice on invoice.job_id = job.id
where job.state = 'expired' and invoice.state in ('planned', 'open')

-- name: break_an_expired_job_has_no_open_invoice
insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address)
values ('self-test-self-test-self', 'x', '{}', 'expired', 'gate', 1, 1, sha256('x'), '127.0.0.1');
insert into invoices (payment_hash, preimage, purpose, job_id, client_address, amount_msat, memo, planned_expires_at)
values (sha256('self test'), 'self test', 'work', 'self-test-self-test-self', '127.0.0.1', 1000, 'x', now());

-- name: check_a_reservation_belongs_to_running_work
-- The pool's money is set aside exactly for the jobs that run with its help; no reservation is left without an end.
select coalesce(job.id, reservation.id) as subject,
       format('job is %s (%s), its reservation %s', job.state, job.serve, reservation.state) as detail
from (select * from jobs where serve <> 'gate') as job
full join (select * from reservations where id like 'job:%') as reservation on reservation.id = 'job:' || job.id
where job.id is null
   or (job.state = 'executing') <> (coalesce(reservation.state, '') = 'reserved')
   or (job.state = 'complete') <> (coalesce(reservation.state, '') = 'recorded')
   or (job.state = 'complete' and reservation.absorbed_sats <> job.absorbed_sats)

-- name: break_a_reservation_belongs_to_running_work
insert into identities (pubkey) values (repeat('ab', 32));
insert into reservations (id, pubkey, client_address, day, request_hash, reserved_sats)
values ('job:nobody', repeat('ab', 32), '127.0.0.1', current_date, sha256('x'), 1);

-- name: check_an_evaluation_is_paid_for_once
-- A look at an input is paid for by the buyer or by a grant of its own; its fee is kept for an answer, and only then.
select coalesce(evaluation.job_id, reservation.id) as subject,
       format('job is %s, evaluation %s of %s sats (granted: %s), paid %s msat, booked %s msat, reservation %s',
              job.state, evaluation.outcome, evaluation.fee_sats, evaluation.granted, paid.msat, fee.amount_msat,
              reservation.state) as detail
from evaluations evaluation
join jobs job on job.id = evaluation.job_id
cross join lateral (
    select coalesce(sum(amount_paid_msat), 0) as msat from invoices
    where job_id = job.id and state = 'settled' and purpose = 'evaluation'
) as paid
full join (select * from reservations where id like 'eval:%') as reservation
    on reservation.id = 'eval:' || evaluation.job_id
left join transfers fee on fee.cause_kind = 'evaluation_fee' and fee.cause_id = evaluation.job_id
where evaluation.job_id is null
   or (evaluation.granted <> (reservation.id is not null))
   or (evaluation.granted and reservation.state <> case evaluation.outcome
           when 'failed' then 'released' when 'accepted' then 'recorded' when 'rejected' then 'recorded'
           else 'reserved' end)
   or (job.state in ('awaiting_eval_payment', 'evaluating') and evaluation.outcome is not null)
   or (job.state in ('awaiting_work_payment', 'executing', 'complete') and evaluation.outcome is distinct from 'accepted')
   or (job.state = 'rejected' and evaluation.outcome is distinct from 'rejected')
   or (job.state = 'failed' and coalesce(evaluation.outcome, 'none') not in ('failed', 'accepted'))
   or (job.state = 'expired' and evaluation.outcome in ('rejected', 'failed'))
   or (job.state = 'awaiting_eval_payment' and evaluation.granted)
   or (evaluation.granted and reservation.reserved_sats <> evaluation.fee_sats)
   or (evaluation.outcome = 'accepted' and job.estimate_sats > evaluation.cap_sats)
   or (job.state = 'awaiting_eval_payment' and paid.msat > 0)
   or ((job.state = 'evaluating' or evaluation.outcome is not null) and not evaluation.granted
       and paid.msat < evaluation.fee_sats * 1000)
   or coalesce(fee.amount_msat, 0) <> coalesce(evaluation.charged_sats, 0) * 1000

-- name: break_an_evaluation_is_paid_for_once
insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address)
values ('self-test-self-test-self', 'x', '{}', 'evaluating', 'gate', 1, 1, sha256('x'), '127.0.0.1');
insert into evaluations (job_id, fee_sats, granted, cap_sats) values ('self-test-self-test-self', 5, false, 1);

-- name: break_an_evaluation_is_paid_for_once_2
insert into identities (pubkey) values (repeat('ab', 32));
insert into reservations (id, pubkey, client_address, day, request_hash, reserved_sats)
values ('eval:nobody', repeat('ab', 32), '127.0.0.1', current_date, sha256('x'), 1);

-- name: check_a_job_that_is_evaluated_says_so
-- The states of the evaluation step belong to jobs that have one.
select job.id as subject, format('job is %s and has no evaluation', job.state) as detail
from jobs job left join evaluations evaluation on evaluation.job_id = job.id
where job.state in ('awaiting_eval_payment', 'evaluating', 'rejected') and evaluation.job_id is null

-- name: break_a_job_that_is_evaluated_says_so
insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address)
values ('self-test-self-test-self', 'x', '{}', 'evaluating', 'gate', 1, 1, sha256('x'), '127.0.0.1');

-- name: check_a_statement_is_what_the_book_says
-- A session's statement is numbered without a gap, each balance follows from the one before, and the last one is what
-- can be spent and what is held, as the transfers add up.
select session.id as subject,
       format('statement: %s lines, the last is number %s, changes of %s msat, balance %s msat; the book says %s msat',
              said.lines, said.last, said.changes, said.balance, kept.msat) as detail
from sessions session
cross join lateral (
    select count(*) as lines, coalesce(max(number), 0) as last, coalesce(sum(change_msat), 0) as changes,
           coalesce((array_agg(balance_msat order by number desc))[1], 0) as balance
    from session_entries where session_id = session.id
) as said
cross join lateral (
    select coalesce((select sum(amount_msat) from transfers
                     where credit in ('available:' || session.id, 'held:' || session.id)), 0)
         - coalesce((select sum(amount_msat) from transfers
                     where debit in ('available:' || session.id, 'held:' || session.id)), 0) as msat
) as kept
where said.lines <> said.last or said.changes <> kept.msat or said.balance <> kept.msat

-- name: break_a_statement_is_what_the_book_says
insert into sessions (id, token_hash, refund_key_hash, client_address, deposit_sats)
values ('self-test-self-test-self', sha256('x'), sha256('y'), '127.0.0.1', 1);
insert into session_entries (session_id, number, kind, subject, change_msat, balance_msat)
values ('self-test-self-test-self', 1, 'deposit', 'x', 1000, 1000);

-- name: break_a_statement_is_what_the_book_says_2
insert into sessions (id, token_hash, refund_key_hash, client_address, deposit_sats)
values ('self-test-self-test-self', sha256('x'), sha256('y'), '127.0.0.1', 1);
insert into session_entries (session_id, number, kind, subject, change_msat, balance_msat)
values ('self-test-self-test-self', 2, 'request', 'x', 0, 0);

-- name: check_a_statement_names_every_payment_request_and_refund
-- Each settled invoice, each request that ended and each refund of a session is one line of its statement, over its sum.
select coalesce(line.subject, moved.subject) as subject,
       format('%s of %s msat, the statement says %s msat', coalesce(moved.kind, line.kind), moved.msat, line.change_msat)
           as detail
from (select * from session_entries where kind <> 'sub_sat') as line
full join (
    select session_id, purpose as kind, encode(payment_hash, 'hex') as subject, amount_paid_msat as msat
    from invoices where session_id is not null and state = 'settled'
    union all
    select session_id, 'request', id, -charged_sats * 1000 from session_requests where state <> 'running'
    union all
    select session_id, 'refund', cause, -amount_sats * 1000 from refunds where session_id is not null
) as moved using (session_id, kind, subject)
where line.change_msat is distinct from moved.msat

-- name: break_a_statement_names_every_payment_request_and_refund
insert into sessions (id, token_hash, refund_key_hash, client_address, deposit_sats)
values ('self-test-self-test-self', sha256('x'), sha256('y'), '127.0.0.1', 1);
insert into session_entries (session_id, number, kind, subject, change_msat, balance_msat)
values ('self-test-self-test-self', 1, 'topup', 'nobody paid', 1000, 1000);

-- name: check_held_sats_are_of_running_requests
-- What is held of a session's balance is the sum of its requests that run; none is left behind, none is missing.
select session.id as subject, format('held %s msat, running requests hold %s msat', held.msat, running.msat) as detail
from sessions session
cross join lateral (
    select coalesce((select sum(amount_msat) from transfers where credit = 'held:' || session.id), 0)
         - coalesce((select sum(amount_msat) from transfers where debit = 'held:' || session.id), 0) as msat
) as held
cross join lateral (
    select coalesce(sum(held_sats), 0) * 1000 as msat from session_requests
    where session_id = session.id and state = 'running'
) as running
where held.msat <> running.msat

-- name: break_held_sats_are_of_running_requests
insert into sessions (id, token_hash, refund_key_hash, client_address, deposit_sats, state)
values ('self-test-self-test-self', sha256('x'), sha256('y'), '127.0.0.1', 1, 'active');
insert into session_requests (id, session_id, work, request_hash, client_address, serve, estimate_sats, absorb_sats,
                              held_sats, owner, lease_until)
values ('self-test-self-test-self', 'self-test-self-test-self', 'x', sha256('x'), '127.0.0.1', 'gate', 5, 0, 5, 'x', now());

-- name: check_a_request_is_charged_as_booked
-- A request held its full estimate; when it ended, its charge became revenue and the rest could be spent again.
select request.id as subject,
       format('%s, held %s sats and charged %s; booked: held %s msat, charged %s, given back %s', request.state,
              request.held_sats, request.charged_sats, booked.held, booked.charged, booked.back) as detail
from session_requests request
cross join lateral (
    select coalesce(sum(amount_msat) filter (where cause_kind = 'hold'), 0) as held,
           coalesce(sum(amount_msat) filter (where cause_kind = 'charge'), 0) as charged,
           coalesce(sum(amount_msat) filter (where cause_kind = 'unhold'), 0) as back
    from transfers where cause_kind in ('hold', 'charge', 'unhold') and cause_id = request.id
) as booked
where booked.held <> request.held_sats * 1000
   or booked.charged <> coalesce(request.charged_sats, 0) * 1000
   or booked.back <> case request.state when 'running' then 0 else (request.held_sats - request.charged_sats) * 1000 end

-- name: break_a_request_is_charged_as_booked
insert into sessions (id, token_hash, refund_key_hash, client_address, deposit_sats, state)
values ('self-test-self-test-self', sha256('x'), sha256('y'), '127.0.0.1', 1, 'active');
insert into session_requests (id, session_id, work, request_hash, client_address, serve, estimate_sats, absorb_sats,
                              held_sats, owner, lease_until, state, charged_sats, absorbed_sats, balance_sats,
                              failure_reason, ended_at)
values ('self-test-self-test-self', 'self-test-self-test-self', 'x', sha256('x'), '127.0.0.1', 'gate', 5, 0, 5, 'x', now(),
        'failed', 0, 0, 0, 'x', now());

-- name: check_a_session_at_rest_holds_nothing
-- Before its deposit and once it is closed, a session has no money and runs nothing.
select session.id as subject, format('%s, has %s msat and %s running requests', session.state, has.msat, runs.running) as detail
from sessions session
cross join lateral (
    select coalesce(sum(change_msat), 0) as msat from session_entries where session_id = session.id
) as has
cross join lateral (
    select count(*) as running from session_requests where session_id = session.id and state = 'running'
) as runs
where (session.state in ('awaiting_deposit', 'closed') and (has.msat <> 0 or runs.running > 0))
   or (session.state = 'expired' and runs.running > 0)

-- name: break_a_session_at_rest_holds_nothing
insert into sessions (id, token_hash, refund_key_hash, client_address, deposit_sats, state)
values ('self-test-self-test-self', sha256('x'), sha256('y'), '127.0.0.1', 1, 'closed');
insert into session_entries (session_id, number, kind, subject, change_msat, balance_msat)
values ('self-test-self-test-self', 1, 'deposit', 'x', 1000, 1000);

-- name: check_the_grant_of_a_request_is_what_it_absorbed
-- Free requests reserve when they begin, partial ones when they are done; what was absorbed is recorded, once.
select coalesce(request.id, reservation.id) as subject,
       format('request is %s (%s), absorbed %s sats, its reservation %s of %s sats', request.state, request.serve,
              request.absorbed_sats, reservation.state, reservation.absorbed_sats) as detail
from session_requests request
full join (select * from reservations where id like 'request:%') as reservation
    on reservation.id = 'request:' || request.id
where request.id is null
   or coalesce(reservation.state, 'none') <> case
          when request.serve = 'free' and request.state = 'running' then 'reserved'
          when request.serve = 'free' and request.state = 'failed' then 'released'
          when request.serve = 'free' or request.absorbed_sats > 0 then 'recorded' else 'none' end
   or (request.state = 'complete' and coalesce(reservation.absorbed_sats, 0) <> request.absorbed_sats)

-- name: break_the_grant_of_a_request_is_what_it_absorbed
insert into identities (pubkey) values (repeat('ab', 32));
insert into reservations (id, pubkey, client_address, day, request_hash, reserved_sats)
values ('request:nobody', repeat('ab', 32), '127.0.0.1', current_date, sha256('x'), 1);
