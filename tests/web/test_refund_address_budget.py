"""An address on file on a gateway whose fee budget buys no route today: it says why, and goes by itself tomorrow."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.refunds.decisions import FEE_BUDGET_WORDS
from gateway.refunds.fees import FeeBound
from ledger.money import Msat
from tests.lnurl_wallet import Wallet
from tests.web.conftest import Web


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {"refund_fee_budget_sats_per_day": 1}


async def test_what_only_lacked_budget_is_tried_again_on_the_next_day(web: Web, wallet: Wallet) -> None:
    pool = web.gateway.pool
    web.node.route_fee_msat = Msat(2000)
    job = await web.paid({"cost": 30}, refundTo=wallet.address)
    assert await web.until_refund_problem(job) == FEE_BUDGET_WORDS[FeeBound.DAY]
    next_day = "select job.refund_to_retry_at = (attempt.fee_day + 1)::timestamp at time zone 'utc'"
    assert await pool.fetchval(f"{next_day} from jobs job join refund_attempts attempt on attempt.job_id = job.id")
    assert (wallet.asked, {sent.fee_limit_msat for sent in web.node.sent}) == (1, {1000})
    web.node.route_fee_msat = Msat(1000)
    await pool.execute("update refund_attempts set fee_day = fee_day - 1")
    await pool.execute("update jobs set refund_to_retry_at = now()")
    paid = await web.until(job, refundState="paid", refundAmountSats=70)
    assert (wallet.asked, paid["refundTo"]) == (2, wallet.address)
