"""`make mutants`: money rules broken on purpose, one at a time, in a copy of the tree; a named test must go red.

A mutant that survives, or whose text is no longer there, is a failure. `python -m tests.mutants [NAME…]`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 300
COPIED = ("gateway", "ledger", "lightning", "templates", "tests", "pyproject.toml")
LEASE = "tests/db/test_refund_lease.py::"
POSTING = "tests/db/test_posting_locks.py::"
BOOK = "tests/db/test_book.py::"
STEP = "tests/unit/test_refund_decisions.py::test_next_step"
REFUND = "tests/web/test_refunds.py::"
BUDGET = "tests/db/test_refund_budget.py::"
SETTLE = "tests/web/test_settlement.py::"
RECONCILE = "tests/web/test_reconcile.py::"
LEASES = "gateway/refunds/queries.sql"
LOOKS_LOCKED = "ledger/migrations/0018_looks_under_a_lock.sql"
FIRST = "tests/db/test_refund_first_claim.py::"
DECISIONS = "gateway/refunds/decisions.py"
FREE_TIER = "ledger/free_tier.py"
POLICY = "tests/unit/test_free_tier.py::"
LOOKS = "tests/web/test_evaluation.py::"
JOBS = "tests/web/test_free_tier_jobs.py::"
SALES = "tests/web/test_sales_in_groups.py::"
GROUPS = "gateway/jobs/groups.sql"
GROUPED = "tests/web/test_settlements_in_groups.py::"
ENDS = "tests/web/test_works_done_in_groups.py::"
SESSIONS = "gateway/sessions/"
REQUESTS = "tests/web/test_session_requests.py::"
OPERATOR = "tests/web/test_operator_"
CLOSING = "tests/web/test_session_close.py::"
L402 = "tests/web/test_l402_tokens.py::"


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = (
    Mutant(
        "a living lease is taken",
        LEASES,
        "and (lease_until is null or lease_until < now())\n    order",
        "order",
        LEASE + "test_a_living_lease_is_not_taken",
    ),
    Mutant(
        "anybody ends an attempt",
        LEASES,
        "where attempt.id = ended.id and attempt.lease_owner = ended.owner and attempt.state = 'unfinished'",
        "where attempt.id = ended.id and attempt.state = 'unfinished'",
        LEASE + "test_an_end_is_recorded_only_by_who_holds_the_lease",
    ),
    Mutant(
        "two open attempts of one job",
        "ledger/migrations/0002_jobs.sql",
        "create unique index one_open_attempt_per_job",
        "create index one_open_attempt_per_job",
        LEASE + "test_one_open_attempt_per_job_and_one_attempt_per_hash",
    ),
    Mutant(
        "a payment hash used by two attempts",
        "ledger/migrations/0002_jobs.sql",
        "payment_hash bytea not null unique check (octet_length(payment_hash) = 32),\n    amount_sats",
        "payment_hash bytea not null check (octet_length(payment_hash) = 32),\n    amount_sats",
        LEASE + "test_one_open_attempt_per_job_and_one_attempt_per_hash",
    ),
    Mutant(
        "transfers can be changed",
        "ledger/migrations/0001_book.sql",
        "before update or delete on transfers",
        "before delete on transfers",
        BOOK + "test_transfers_are_immutable",
    ),
    Mutant(
        "the pool can go below zero",
        "ledger/migrations/0001_book.sql",
        "check (balance_msat >= 0)",
        "check (true)",
        BOOK + "test_the_pool_can_not_go_below_zero",
    ),
    Mutant(
        "a cause posted twice moves a balance twice",
        "ledger/book.sql",
        "(select credit, amount_msat from posted union all select debit, -amount_msat from posted)",
        "(select * from unnest($4::text[], $5::bigint[]))",
        BOOK + "test_a_cause_posts_once",
    ),
    Mutant(
        "a posting writes before it locks",
        "ledger/book.sql",
        "    where (select count(*) from locked_accounts) = (select count(*) from limits)\n",
        "",
        POSTING + "test_accounts_are_locked_in_order_and_before_anything_is_written",
    ),
    Mutant(
        "a posting locks in another order",
        "ledger/book.sql",
        "    order by limits.place\n",
        "    order by limits.place desc\n",
        POSTING + "test_accounts_are_locked_in_order_and_before_anything_is_written",
    ),
    Mutant(
        "a posting passes over a balance that it can not see",
        "ledger/book.sql",
        "(select count(*) from locked_accounts) = (select count(*) from limits)",
        "(select count(*) from locked_accounts) >= 0",
        POSTING + "test_a_holding_that_was_made_meanwhile_is_not_passed_over",
    ),
    Mutant(
        "a group settles a job that it has not locked",
        GROUPS,
        "order by job.id for no key update of job\n), recorded as (",
        "order by job.id\n), recorded as (",
        "tests/web/test_settlements_in_groups.py::test_a_group_waits_for_a_job_that_another_settles",
    ),
    Mutant(
        "arrivals are recorded without their jobs' locks",
        LEASES,
        "select id from jobs where id = any($5::text[]) order by id for no key update",
        "select id from jobs where id = any($5::text[]) order by id",
        "tests/db/test_refund_arrivals.py::test_an_arrival_waits_for_its_job",
    ),
    Mutant(
        "an arrival is booked by a sum of its own",
        LEASES,
        "(amount_sats * 1000, fee_msat) = (",
        "(amount_sats, fee_msat) is distinct from (",
        "tests/db/test_refund_arrivals.py::test_what_is_booked_is_what_the_attempt_was_for",
    ),
    Mutant(
        "an arrival is recorded with nothing booked",
        LEASES,
        "(amount_sats * 1000, fee_msat) = (",
        "(amount_sats, fee_msat) is distinct from (",
        "tests/db/test_refund_arrivals.py::test_nothing_and_another_sum_are_not_booked",
    ),
    Mutant(
        "a job ends and still holds",
        GROUPS,
        "(held_msat, charge_sats * 1000, refund_sats * 1000) = (",
        "(held_msat, charge_sats, refund_sats) is distinct from (",
        ENDS + "test_a_job_that_ends_holds_nothing",
    ),
    Mutant(
        "an end is recorded that was booked by halves",
        GROUPS,
        "must_hold('a work that is done is booked whole',"
        " (select count(*) from posted) = (select count(*) from wanted))",
        "true",
        ENDS + "test_an_end_that_can_not_be_booked_whole_is_none",
    ),
    Mutant(
        "less is held than was paid",
        GROUPS,
        "'what was paid is held for its job', paid_msat = (",
        "'what was paid is held for its job', paid_msat >= (",
        GROUPED + "test_what_is_held_is_what_was_paid",
    ),
    Mutant(
        "a sale that nobody can pay",
        GROUPS,
        "must_hold('what waits to be paid has its invoice', (select count(*) from planned) = (",
        "must_hold('what waits to be paid has its invoice', (select count(*) from planned) <= (",
        SALES + "test_a_sale_without_its_invoice_is_none",
    ),
    Mutant(
        "an arrival is recorded that was booked by halves",
        LEASES,
        "must_hold('a refund that arrived is booked whole',"
        " (select count(*) from posted) = (select count(*) from wanted))",
        "true",
        "tests/db/test_refund_arrivals.py::test_an_arrival_that_can_not_be_booked_whole_is_not_recorded_either",
    ),
    Mutant(
        "what a job holds is not looked at again",
        GROUPS,
        " where held.balance_msat = running.held_msat",
        "",
        ENDS + "test_what_is_held_is_looked_at_under_its_lock",
    ),
    Mutant(
        "a job ends in a group without its lock",
        GROUPS,
        "order by job.id for no key update of job\n), held as",
        "order by job.id\n), held as",
        ENDS + "test_jobs_are_locked_first_and_the_pool_last",
    ),
    Mutant(
        "a settlement is recorded that was booked by halves",
        GROUPS,
        "must_hold('a settlement is booked whole', (select count(*) from posted) = (select count(*) from wanted))",
        "true",
        GROUPED + "test_a_settlement_that_can_not_be_booked_whole_is_not_recorded_either",
    ),
    Mutant(
        "what was paid is held for another job",
        GROUPS,
        "from wanted where credit = 'holding:' || job_id))",
        "from wanted))",
        GROUPED + "test_a_wrong_job_gets_nothing_of_it",
    ),
    Mutant(
        "a plain sale overfills its address",
        GROUPS,
        "taken.open + asked.nth <= $23",
        "taken.open <= $23",
        SALES + "test_plain_sales_leave_out_what_needs_a_closer_look",
    ),
    Mutant(
        "in flight is waited for without end",
        DECISIONS,
        "now >= facts.expires_at + NO_HTLC_LIVES_AFTER",
        "False",
        STEP,
    ),
    Mutant(
        "an operator's word stands against LND's",
        "gateway/operator/refunds.py",
        "    if isinstance(outcome, Settled):\n",
        "    if False:\n",
        "tests/web/test_reconcile.py::test_in_flight_for_ever_is_the_operators_to_decide",
    ),
    Mutant(
        "a contradicting cause passes",
        "ledger/book.py",
        "        if found.get(transfer.cause) != (",
        "        if False and found.get(transfer.cause) != (",
        BOOK + "test_the_same_cause_with_another_amount_is_a_fault",
    ),
    Mutant(
        "NOT_FOUND is sent again on another history",
        DECISIONS,
        "    if not facts.history_intact:\n        return Freeze(",
        "    if False:\n        return Freeze(",
        STEP,
    ),
    Mutant(
        "a payment once seen and now unknown is sent again",
        DECISIONS,
        "if facts.update_seen or facts.failed_sends:",
        "if facts.failed_sends:",
        STEP,
    ),
    Mutant(
        "given up with a send unaccounted for",
        DECISIONS,
        "failed_sends == facts.sends or",
        "failed_sends > 0 or",
        STEP,
    ),
    Mutant(
        "another amount passes for paid",
        DECISIONS,
        "if outcome.amount_msat != facts.amount_msat:",
        "if False:",
        STEP,
    ),
    Mutant(
        "an old failure frees the debt at once",
        DECISIONS,
        "is_new = outcome.payment_index > facts.last_failed_index",
        "is_new = True",
        STEP,
    ),
    Mutant(
        "SUCCEEDED without its preimage is paid",
        "lightning/outcomes.py",
        "if hashlib.sha256(preimage).digest() != expected_hash:",
        "if False:",
        "tests/unit/test_lightning_outcomes.py",
    ),
    Mutant(
        "an expired job because the node does not know its invoice",
        "gateway/jobs/end_unpaid.py",
        "return Unpaid.GONE if past_expiry else Unpaid.STILL_OPEN",
        "return Unpaid.GONE",
        SETTLE + "test_what_a_look_up_means",
    ),
    Mutant(
        "the cursor passes a gap",
        "gateway/settlement/cursor.py",
        "self._acknowledged.pop(self._position + 1, None)",
        "self._acknowledged.pop(min(self._acknowledged, default=0), None)",
        "tests/unit/test_cursor.py",
    ),
    Mutant(
        "a refund of another amount than owed",
        "gateway/refunds/claim.py",
        "    refuse_amount(request, owed_sats)\n",
        "",
        REFUND + "test_another_amount_is_refused_with_the_right_one",
    ),
    Mutant(
        "a fee larger than the refund",
        "gateway/refunds/fees.py",
        "return min(amount_msat, max(",
        "return max(amount_msat, max(",
        REFUND + "test_the_fee_limit_is_never_more_than_the_refund",
    ),
    Mutant(
        "the same rest of a fee budget is granted twice",
        LOOKS_LOCKED,
        "    perform pg_advisory_xact_lock(lock_id);\n    return query\n        select coalesce(",
        "    return query\n        select coalesce(",
        BUDGET + "test_parallel_claims_share_one_budget_of_the_day",
    ),
    Mutant(
        "what an open attempt may cost does not count",
        "ledger/migrations/0007_refund_limits.sql",
        "when 'failed' then 0 else fee_limit_msat end) stored",
        "else 0 end) stored",
        BUDGET + "test_a_limit_is_reserved_until_the_fee_is_known",
    ),
    Mutant(
        "the largest fee budget decides",
        "gateway/refunds/fees.py",
        "= min(limits, key=",
        "= max(limits, key=",
        "tests/unit/test_refund_fees.py::test_a_fee_is_granted_from_what_is_left",
    ),
    Mutant(
        "more is sent than may be in flight",
        LOOKS_LOCKED,
        "    perform pg_advisory_xact_lock(lock_id);\n    return query\n        select id",
        "    return query\n        select id",
        BUDGET + "test_a_send_waits_for_the_sum_that_another_process_commits",
    ),
    Mutant(
        "two refunds larger than the cap are in flight at once",
        DECISIONS,
        "(amount_sats > cap_sats >= in_flight_sats)",
        "amount_sats > cap_sats",
        "tests/unit/test_refund_fees.py::test_what_is_in_flight_is_capped",
    ),
    Mutant(
        "a send leaves under a lease that ended while its turn was waited for",
        LEASES,
        "attempt.lease_until > clock_timestamp()",
        "attempt.lease_until > now()",
        LEASE + "test_a_lease_that_ends_while_the_lock_is_waited_for_sends_nothing",
    ),
    Mutant(
        "a send leaves under a lease that is over when it is counted",
        "gateway/refunds/executor.py",
        "if lease_left_s <= 0:",
        "if False:",
        LEASE + "test_nothing_is_sent_under_a_lease_that_is_over_when_its_send_is_counted",
    ),
    Mutant(
        "a lease ends before its send's deadline",
        LEASES,
        "lease_until = clock_timestamp() + make_interval(secs => $8)",
        "lease_until = now() + make_interval(secs => $8)",
        LEASE + "test_a_lease_is_renewed_by_the_clock_of_after_the_wait",
    ),
    Mutant(
        "a send that was counted stays unaccounted for",
        LEASES,
        "in (asked.sends, asked.sends + 1)",
        "= asked.sends",
        LEASE + "test_a_count_whose_answer_was_lost_is_found_again",
    ),
    Mutant(
        "a debt that came between look and claim is left out",
        "gateway/jobs/queries.sql",
        "update jobs set updated_at = now() from owed where jobs.id = owed.job_id",
        "select from owed",
        FIRST + "test_it_waits_for_who_holds_the_job_and_looks_again",
    ),
    Mutant(
        "a busy process releases what it runs",
        "gateway/sessions/queries.sql",
        " and not (owner = $1 and id = any($2::text[]))",
        " and ($1 || $2::text) is not null",
        "tests/web/test_session_requests.py::test_what_this_process_runs_is_not_lost_however_late_its_lease_is_renewed",
    ),
    Mutant(
        "a session's token is enough to take its balance",
        "gateway/jobs/queries.sql",
        "(invoice.purpose = 'deposit' and not session.is_l402)",
        "not session.is_l402",
        "tests/web/test_session_pages.py::test_a_top_up_proves_nothing",
    ),
    Mutant(
        "what LND has in flight was not paid",
        "gateway/operator/refunds.py",
        "isinstance(outcome, InFlight) and ",
        "False and ",
        "tests/web/test_reconcile.py::test_what_lnd_has_in_flight_or_does_not_tell_was_not_paid_by_nobodys_word",
    ),
    Mutant(
        "sends of one group do not count for each other",
        "gateway/refunds/sends.py",
        "        flight.join(attempt.id, amount_sats)\n",
        "        pass\n",
        BUDGET + "test_the_cap_on_what_is_in_flight_holds_between_processes",
    ),
    Mutant(
        "sends are counted together above the cap",
        LEASES,
        "where (select fits from total) and attempt.id",
        "where attempt.id",
        BUDGET + "test_the_cap_on_what_is_in_flight_holds_between_processes",
    ),
    Mutant(
        "a send leaves after the lease is over",
        LEASES,
        "      and attempt.lease_until > clock_timestamp() and attempt.state",
        "      and attempt.state",
        LEASE + "test_no_send_after_the_lease_is_over",
    ),
    Mutant(
        "a send is counted for anybody",
        LEASES,
        "and attempt.id = asked.id and attempt.lease_owner = asked.owner",
        "and attempt.id = asked.id",
        LEASE + "test_a_send_is_counted_only_by_who_holds_the_lease",
    ),
    Mutant(
        "a send is counted twice",
        LEASES,
        "\n      and attempt.sends in (asked.sends, asked.sends + 1)",
        "",
        LEASE + "test_a_send_is_counted_only_by_who_holds_the_lease",
    ),
    Mutant(
        "a first claim leaves out what came to be owed since",
        LEASES,
        "where id = $2 and updated_at = $13 for",
        "where id = $2 for",
        FIRST + "test_it_waits_for_who_holds_the_job_and_looks_again",
    ),
    Mutant(
        "a first claim takes what was given away",
        LEASES,
        "from fees_counted($14, $10) where (select count(*) from owed) = cardinality($12::text[])",
        "from fees_counted($14, $10)",
        FIRST + "test_a_debt_that_was_given_away_since_is_not_claimed",
    ),
    Mutant(
        "a first claim is granted more than the day has left",
        LEASES,
        "where all_msat + $8::bigint <= coalesce($11::bigint, all_msat + $8::bigint)",
        "where true",
        BUDGET + "test_parallel_claims_share_one_budget_of_the_day",
    ),
    Mutant(
        "a first claim is granted more than the payee has left",
        LEASES,
        "and payee_msat + $8::bigint <= coalesce($15::bigint, payee_msat + $8::bigint)",
        "",
        BUDGET + "test_parallel_claims_share_one_budget_per_payee",
    ),
    Mutant(
        "a first claim is a second one",
        "gateway/refunds/claim_first.py",
        "or seen.was_claimed ",
        "",
        FIRST + "test_a_second_claim_goes_the_long_way",
    ),
    Mutant(
        "what LND answered is overwritten by its settlement",
        GROUPS,
        "payment_request = coalesce(invoice.payment_request, due.payment_request)",
        "payment_request = due.payment_request",
        GROUPED + "test_what_lnd_answered_is_kept_and_what_was_lost_is_taken_from_the_settlement",
    ),
    Mutant(
        "a plain sale does not count what is being looked at",
        GROUPS,
        "client_address = known.client_address and state = 'evaluating' limit $23",
        "client_address = known.client_address and state = 'evaluating' limit 0",
        LOOKS + "test_a_look_that_costs_nothing_begins_at_once_and_takes_up_room",
    ),
    Mutant(
        "a change is lost while a stream reads first",
        "gateway/api/events.py",
        "        moment, read_at = await (first or now)(), loop.time()\n",
        "        moment, read_at = await (first or now)(), loop.time()\n        changed.clear()\n",
        "tests/web/test_event_stream.py::test_a_change_while_it_reads_first_is_told",
    ),
    Mutant(
        "what the stream said is remembered for ever",
        "gateway/settlement/watcher.py",
        "            self.heard.forget(invoice.payment_hash)\n",
        "            pass\n",
        "tests/web/test_settlement.py::test_what_the_stream_said_is_remembered_until_it_is_booked",
    ),
    Mutant(
        "a work that runs already begins again",
        GROUPS,
        "job.state = 'awaiting_work_payment' and job.serve = 'gate' and invoice.purpose = 'work'",
        "job.serve = 'gate' and invoice.purpose = 'work'",
        GROUPED + "test_a_group_waits_for_a_job_that_another_settles",
    ),
    Mutant(
        "two payments of one job in one group",
        "gateway/jobs/settle_group.py",
        "of_jobs = {one.job_id: one.invoice for one in reversed(paid)}",
        'of_jobs = {f"{one.job_id}{n}": one.invoice for n, one in enumerate(paid)}',
        GROUPED + "test_two_invoices_of_one_job_in_one_group",
    ),
    Mutant(
        "a late result ends its job in a group",
        GROUPS,
        "and job.attempt = done.attempt ",
        "",
        ENDS + "test_a_group_ends_each_once_and_discards_what_is_late",
    ),
    Mutant(
        "an attempt gives way while it may still send",
        LEASES,
        "sends = failed_sends and coalesce(lease_until < now(), true)\nreturning id",
        "sends = failed_sends\nreturning id",
        "tests/web/test_refund_retries.py::test_what_may_still_send_does_not_give_way",
    ),
    Mutant(
        "an address is paid more than it was asked for",
        "gateway/refunds/claim.py",
        "if destination.refund_ids is None or id in destination.refund_ids}",
        "if True}",
        "tests/web/test_refund_addresses.py::test_what_is_owed_while_an_address_is_asked_is_paid_after",
    ),
    Mutant(
        "a claim from the file though its owner said otherwise",
        "gateway/refunds/claim.py",
        'if from_file and job["refund_to"] != destination.text:',
        "if False:",
        "tests/db/test_refund_due.py::test_a_claim_from_the_file_is_void_once_its_owner_said_otherwise",
    ),
    Mutant(
        "what can be sent is given away",
        "gateway/refunds/donate.py",
        "if owed_sats >= min_sats:",
        "if False:",
        "tests/web/test_refund_dust.py::test_what_can_be_sent_is_not_given_away",
    ),
    Mutant(
        "an invoice of our own node is paid",
        "gateway/refunds/destination.py",
        "if request.destination == own.pubkey:",
        "if False:",
        REFUND + "test_what_can_not_be_paid_has_its_own_code",
    ),
    Mutant(
        "an unsigned settlement is heard",
        "gateway/settlement/webhook.py",
        "if not is_signed(",
        "if False and not is_signed(",
        SETTLE + "test_only_a_fresh_and_right_signature_is_heard",
    ),
    Mutant(
        "an idempotency key with another body",
        "gateway/idempotency.py",
        'if found["body_hash"] != hashlib.sha256(body).digest():',
        "if False:",
        "tests/web/test_jobs.py::test_same_key_other_body",
    ),
    Mutant(
        "a retry begins another job",
        "gateway/idempotency.sql",
        "then excluded.resource_id else known.resource_id end",
        "then excluded.resource_id else excluded.resource_id end",
        "tests/web/test_jobs.py::test_a_job_interrupted_by_a_lost_answer_is_resumed_by_its_key",
    ),
    Mutant(
        "a decision of the operator without the guard",
        "gateway/reconcile/queries.sql",
        "where id = $1 and state = 'frozen' returning id\n\n-- name: accept_failed",
        "where id = $1 returning id\n\n-- name: accept_failed",
        RECONCILE + "test_two_operators_at_once_decide_once",
    ),
    Mutant(
        "a backup was restored and nobody looks",
        "gateway/refunds/executor.py",
        "if await self._of_another_history(attempt):",
        "if False:",
        RECONCILE + "test_an_older_backup_freezes_debts_that_may_have_been_paid_since",
    ),
    Mutant(
        "an unknown amount is called zero",
        "gateway/reconcile/report.py",
        '"nodeMsat": totals and totals.node_msat',
        '"nodeMsat": totals.node_msat if totals else 0',
        RECONCILE + "test_an_unreachable_node_is_unknown_and_never_zero",
    ),
    Mutant(
        "the largest bound decides",
        FREE_TIER,
        "if facts.pool_balance_sats < least:",
        "if facts.pool_balance_sats > least:",
        POLICY + "test_the_policy",
    ),
    Mutant(
        "what is reserved does not count",
        FREE_TIER,
        "return self.absorbed_sats + self.reserved_sats",
        "return self.absorbed_sats",
        POLICY + "test_the_policy",
    ),
    Mutant("a blocked key is served", FREE_TIER, "if facts.blocked:", "if False:", POLICY + "test_the_policy"),
    Mutant(
        "a part that the pool can not pay is reserved",
        FREE_TIER,
        "return 0 < absorb_sats <= most_absorbable(facts, estimate_sats)[0]",
        "return 0 < absorb_sats",
        POLICY + "test_at_payment_exactly_the_advised_absorb_or_nothing",
    ),
    Mutant(
        "a group spends the pool twice",
        "ledger/grants.py",
        "        self.pool_balance_sats -= sats\n",
        "",
        "tests/db/test_gate_model.py::test_the_gate_does_as_the_model[0]",
    ),
    Mutant(
        "a reservation that stands is made again",
        "ledger/grants.py",
        "if before and ask.reservation_id in before:",
        "if False:",
        "tests/db/test_gate_locks.py::test_an_ask_repeated_beside_its_own_commit_is_found",
    ),
    Mutant(
        "over-reservation stays set aside",
        "ledger/grants.py",
        "over_sats = reserved_absorbed_sats - actual_absorbed_sats",
        "over_sats = 0",
        "tests/db/test_gate_model.py::test_the_gate_does_as_the_model[0]",
    ),
    Mutant(
        "a drained pool starts the work all the same",
        "gateway/jobs/settle.py",
        'job["serve"] != Serve.PARTIAL or await',
        'job["serve"] == Serve.PARTIAL or await',
        JOBS + "test_a_pool_drained_at_payment_fails_the_job_and_owes_all",
    ),
    Mutant(
        "failed work keeps its reservation",
        "gateway/jobs/finish.py",
        'if job["serve"] != Serve.GATE:\n            await grants.release_reservation',
        "if False:\n            await grants.release_reservation",
        JOBS + "test_free_work_that_fails_releases_all",
    ),
    Mutant(
        "a committed sale is not found again",
        "gateway/jobs/create.py",
        "if creation.job.id in standing:",
        "if False:",
        SALES + "test_what_was_committed_without_an_answer_is_found_again",
    ),
    Mutant(
        "a retry beside its own commit gives up",
        "ledger/groups.py",
        "except TRIED_AGAIN:",
        "except ZeroDivisionError:",
        SALES + "test_a_retry_beside_its_own_commit_finds_the_sale",
    ),
    Mutant(
        "a signed event buys twice",
        "gateway/identity/caller.py",
        "if await conn.fetchval(_q.record_event, caller.event_id) is None:",
        "if await conn.fetchval(_q.record_event, caller.event_id) is False:",
        JOBS + "test_an_event_is_accepted_once",
    ),
    Mutant(
        "failing work slows nobody",
        "gateway/jobs/slowing.py",
        "FREE_FAILURES = 5",
        "FREE_FAILURES = 500",
        JOBS + "test_buyers_whose_work_keeps_failing_wait",
    ),
    Mutant(
        "a fee is granted to whom the work would not be free",
        "ledger/free_tier.py",
        "if fee_sats and decide(facts, cap_sats).serve is Serve.FREE and",
        "if fee_sats and",
        LOOKS + "test_a_pool_that_can_not_pay_fee_and_work_grants_no_fee",
    ),
    Mutant(
        "an evaluation without an answer keeps the fee's grant",
        "gateway/jobs/evaluate.py",
        """        if job["granted"]:
            await grants.release_reservation""",
        """        if not job["granted"]:
            await grants.release_reservation""",
        LOOKS + "test_a_granted_fee_is_the_pools_again_when_the_evaluator_fails",
    ),
    Mutant(
        "an evaluator's late answer counts",
        "gateway/jobs/evaluate.py",
        """ or job["attempt"] != run.attempt:""",
        ":",
        LOOKS + "test_an_answer_of_an_earlier_run_is_late",
    ),
    Mutant(
        "an evaluator may raise the price",
        "gateway/work/evaluator.py",
        "not 1 <= estimate_sats <= cap_sats",
        "not 1 <= estimate_sats",
        LOOKS + "test_an_evaluator_that_gives_no_answer_costs_nothing",
    ),
    Mutant(
        "an evaluation's invoice pays for the work",
        "gateway/jobs/decisions.py",
        "case Purpose.WORK, JobState.AWAITING_WORK_PAYMENT:",
        "case _, JobState.AWAITING_WORK_PAYMENT:",
        "tests/unit/test_job_decisions.py",
    ),
    Mutant(
        "a partial request holds only the user's part",
        SESSIONS + "decisions.py",
        "if balance_sats < estimate_sats:",
        "if balance_sats < decision.charge_sats:",
        REQUESTS + "test_partial_needs_the_full_estimate_beforehand",
    ),
    Mutant(
        "a request's balance is read before the session's lock",
        SESSIONS + "queries.sql",
        "select id, state, pubkey, refund_to from sessions where id = $1 for no key update",
        "select id, state, pubkey, refund_to from sessions where id = $1",
        REQUESTS + "test_two_hundred_in_parallel_on_a_balance_for_fifty",
    ),
    Mutant(
        "a failed request is charged its hold",
        SESSIONS + "request.py",
        "await _debit(conn, request, 0)",
        'await _debit(conn, request, request["held_sats"])',
        REQUESTS + "test_work_that_fails_costs_nothing",
    ),
    Mutant(
        "the pool's advice is charged to it, whatever it still has",
        "ledger/free_tier.py",
        "return min(most_sats, most_absorbable(facts, estimate_sats)[0])",
        "return most_sats",
        REQUESTS + "test_pool_drained_meanwhile_the_user_pays_what_it_can_not",
    ),
    Mutant(
        "a living process's request is swept",
        SESSIONS + "request.py",
        'is_callers = request["is_lost"] if owner is None else request["owner"] == owner',
        'is_callers = owner is None or request["owner"] == owner',
        REQUESTS + "test_what_a_dead_process_held_is_released_once",
    ),
    Mutant(
        "max_sats is not compared",
        "gateway/api/caps.py",
        "if cap_sats is not None and most_sats > cap_sats:",
        "if cap_sats is None:",
        REQUESTS + "test_above_max_sats_nothing_is_done",
    ),
    Mutant(
        "the token names a destination",
        "gateway/api/sessions.py",
        "if asked.destination is None and asked.refund_key is None:",
        "if asked.refund_key is None:",
        CLOSING + "test_a_destination_needs_the_refund_key",
    ),
    Mutant(
        "a session closes while its work runs",
        SESSIONS + "queries.sql",
        """where id = $1 and state = 'closing'
  and not exists (select from session_requests where session_id = $1 and state = 'running')""",
        "where id = $1 and state = 'closing'",
        CLOSING + "test_closing_waits_for_what_runs_and_refuses_the_rest",
    ),
    Mutant(
        "what settles in an ended session reopens it",
        SESSIONS + "decisions.py",
        "if state in ENDED:",
        "if state is SessionState.CLOSED:",
        CLOSING + "test_what_settles_after_the_end_is_a_refund_of_its_own",
    ),
    Mutant(
        "a form of another site is the operator's word",
        "gateway/pages/operator/access.py",
        "if not hmac.compare_digest(",
        "if False and not hmac.compare_digest(",
        OPERATOR + "login.py::test_a_form_without_the_sessions_own_token_does_nothing",
    ),
    Mutant(
        "an operator's session never ends",
        "gateway/operator/queries.sql",
        "where token_hash = $1 and expires_at > now()\n\n-- name: end_session",
        "where token_hash = $1\n\n-- name: end_session",
        OPERATOR + "login.py::test_an_expired_session_opens_nothing",
    ),
    Mutant(
        "the operator key is guessed a hundred times at once",
        "gateway/operator/queries.sql",
        "and client_address = $1) < $2::int",
        "and client_address = $1) < $2::int * 100",
        OPERATOR + "login.py::test_guesses_at_once_are_counted_before_they_are_compared",
    ),
    Mutant(
        "a top-up is booked before it was confirmed",
        "gateway/pages/operator/actions.py",
        'if "sure" not in form:\n        pool = ',
        "if False:\n        pool = ",
        OPERATOR + "actions.py::test_a_topup_is_asked_about_and_booked_once",
    ),
    Mutant(
        "two clicks are two top-ups",
        "gateway/pages/operator/actions.py",
        'amount_sats, f"page:{once}")',
        "amount_sats, new_id())",
        OPERATOR + "actions.py::test_a_topup_is_asked_about_and_booked_once",
    ),
    Mutant(
        "what the node does not say is zero",
        "gateway/pages/operator/solvency.py",
        'if at_hand_msat is None:\n        return "unknown"',
        "if at_hand_msat is None:\n        at_hand_msat = 0",
        "tests/unit/test_operator_figures.py::test_what_is_unknown_is_neither_covered_nor_short",
    ),
    Mutant(
        "any preimage opens a token",
        "gateway/l402/credential.py",
        "if not hmac.compare_digest(hashlib.sha256(preimage).digest(), payment_hash):",
        "if not preimage:",
        "tests/unit/test_l402.py::test_anything_else_is_no_credential",
    ),
    Mutant(
        "a closed token lets in",
        "gateway/api/l402.py",
        '    if isinstance(allowed, Allowed) and session["state"] == SessionState.ACTIVE:',
        "    if isinstance(allowed, Allowed):",
        L402 + "test_only_the_whole_credential_claims_the_rest",
    ),
    Mutant(
        "who was handed a part of a token claims the rest",
        "gateway/l402/credential.py",
        "return len(self.caveats) == MINTED",
        "return len(self.caveats) >= MINTED",
        L402 + "test_only_the_whole_credential_claims_the_rest",
    ),
    Mutant(
        "a token handed on spends what its holder has",
        SESSIONS + "request.py",
        "if asked.spend_sats is None:\n        return",
        "if asked.spend_sats is None or asked.owner:\n        return",
        L402 + "test_what_is_handed_on_has_its_limits",
    ),
    Mutant(
        "every token of a shared invoice lets in",
        "gateway/api/l402.py",
        "return hmac.compare_digest(credential.holder, bytes(holder))",
        "return bool(holder)",
        L402 + "test_who_shares_an_address_and_its_invoice_shares_no_token",
    ),
    Mutant(
        "an unknown caveat is skipped",
        "gateway/l402/credential.py",
        'elif key not in ("valid_until", "amount_sats") or _WHOLE.fullmatch(value) is None:',
        'elif key not in ("valid_until", "amount_sats"):\n            pass\n        elif not _WHOLE.fullmatch(value):',
        "tests/unit/test_l402.py::test_what_caveats_allow",
    ),
    Mutant(
        "each challenge opens an invoice",
        "gateway/l402/queries.sql",
        "and invoice.amount_msat between $2 and $2 + $2 / 4 and",
        "and invoice.amount_msat < $2 and $2 > 0 and",
        L402 + "test_asking_again_costs_no_invoice",
    ),
)


def main(names: list[str]) -> int:
    """0 when every mutant was killed."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    folder = Path(tempfile.mkdtemp(prefix="boltworks-mutants-"))
    try:
        _copy(folder)
        if not _passes(folder, sorted({mutant.test for mutant in chosen})):
            print("the named tests are red without any mutation")  # noqa: T201
            return 1
        words = [_try(folder, mutant) for mutant in chosen]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{words.count('killed')} of {len(words)} mutants killed")  # noqa: T201
    return 0 if chosen and set(words) == {"killed"} else 1


def _copy(folder: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


def _try(folder: Path, mutant: Mutant) -> str:
    """`killed`, `SURVIVED` or `NOT FOUND`."""
    file = folder / mutant.file
    text = file.read_text(encoding="utf-8")
    word = "NOT FOUND"
    if text.count(mutant.old) == 1:
        file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        word = "SURVIVED" if _passes(folder, [mutant.test]) else "killed"
        file.write_text(text, encoding="utf-8")
    print(f"{word:10} {mutant.name:62} {mutant.test}", flush=True)  # noqa: T201
    return word


def _passes(folder: Path, tests: list[str]) -> bool:
    """Whether these tests pass in the copy; a run that hangs does not."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    env = {**os.environ, "PYTHONPATH": str(folder)}
    try:
        ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    if ended.returncode not in (0, 1, 2):
        raise RuntimeError(ended.stdout.decode()[-3000:] + ended.stderr.decode()[-2000:])
    return ended.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
