"""What stays on file, and what a refusal means for a destination that was given in advance."""

from __future__ import annotations

import pytest

from gateway import problems
from gateway.problems import Problem, ProblemType
from gateway.refunds.claim import on_file_after, refuse_changed
from gateway.refunds.lnurl import is_address
from gateway.refunds.on_file import Meaning, what_it_means
from tests.debts import destination

LNURL = "lnurl1dp68gurn8ghj7"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ann@example.org", True),
        (" lightning:Ann@Example.org ", True),
        (LNURL, True),
        (f"LIGHTNING:{LNURL.upper()}", True),
        ("lnbcrt1abc", False),
        ("lightning:lnbc1abc", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_an_address_stays_on_file_and_an_invoice_is_used_up(text: str, address: bool) -> None:
    assert is_address(text) is address
    assert on_file_after(text) == (text if address else None)


@pytest.mark.parametrize(
    ("problem", "meaning"),
    [
        (problems.REFUND_BELOW_MINIMUM, Meaning.LOOK_AGAIN),
        (problems.REFUND_IN_PROGRESS, Meaning.LOOK_AGAIN),
        (problems.NOTHING_TO_REFUND, Meaning.LOOK_AGAIN),
        (problems.DESTINATION_UNREACHABLE, Meaning.ASK_LATER),
        (problems.DESTINATION_USED, Meaning.REJECTED),
        (problems.DESTINATION_WRONG_AMOUNT, Meaning.REJECTED),
        (problems.DESTINATION_EXPIRED, Meaning.REJECTED),
        (problems.DESTINATION_AMOUNT_OUT_OF_RANGE, Meaning.REJECTED),
        (problems.DESTINATION_UNUSABLE, Meaning.REJECTED),
        (problems.DESTINATION_ADDRESS_FORBIDDEN, Meaning.REJECTED),
    ],
)
def test_a_quicker_claim_is_no_fault_of_the_destination(problem: ProblemType, meaning: Meaning) -> None:
    assert what_it_means(problem) is meaning


def test_an_address_takes_exactly_what_it_was_asked_for() -> None:
    given = destination("x")
    refuse_changed(given, 5)
    asked = type(given)(given.text, given.request, frozenset({"a", "b"}))
    refuse_changed(asked, 2)
    for left in (0, 1):
        with pytest.raises(Problem) as refused:
            refuse_changed(asked, left)
        assert refused.value.type is problems.REFUND_IN_PROGRESS
