"""Two servers and a worker on one database: every job runs once, every refund is paid once, the books are right."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from lightning.regtest.control import AsyncControl
from tests.gateways import Buyer, GatewayProcess, gateway_process
from tests.services import WorkService
from tests.waiting import PATIENCE_S

JOBS = 24


async def test_side_by_side(
    running_gateway: GatewayProcess, buyer: Buyer, payer: AsyncControl, service: WorkService, tmp_path: Path
) -> None:
    """Nothing dies, and no lease plays a part: a process that waits for its turn on the machine is not a dead one."""
    await running_gateway.stop()
    running_gateway.env["BOLTWORKS_LEASE_S"] = "60"
    await running_gateway.start()
    before = await payer.settled_balance_msat()
    secrets = {
        f"BOLTWORKS_{name.upper()}_FILE": str(running_gateway.folder / "data/secrets" / name)
        for name in ("token_secret", "webhook_secret", "worker_secret", "operator_key")
    }
    settings = {**running_gateway.env, **secrets}
    for name in ("second", "worker"):
        (tmp_path / name).mkdir()
    async with (
        gateway_process(tmp_path / "second", running_gateway.dsn, settings) as second,
        gateway_process(tmp_path / "worker", running_gateway.dsn, settings, start=False) as worker,
    ):
        await worker.start("worker", ready=False)
        async with asyncio.timeout(60):
            while "working" not in worker.log.read_text():
                await asyncio.sleep(0.05)
        buyers = [buyer, Buyer(buyer.http, second.url)]

        async def one(number: int) -> None:
            here, there = buyers[number % 2], buyers[(number + 1) % 2]
            back = await payer.invoice(0)
            job = await here.buy("echo", {"cost": 40}, refundTo=back)
            await payer.pay(job["invoice"]["paymentRequest"])
            await there.until(job, state="complete", refundState="paid", refundAmountSats=60)

        await asyncio.gather(*(one(number) for number in range(JOBS)))
        assert await worker.stop() == 0
    runs = Counter(order["jobId"] for order in service.orders)
    assert (len(runs), set(runs.values())) == (JOBS, {1})
    assert before - await payer.settled_balance_msat() == JOBS * 40_000


async def test_another_token_secret_is_refused(running_gateway: GatewayProcess, tmp_path: Path) -> None:
    """Tokens given out by one process must open jobs at all others."""
    folder = tmp_path / "other"
    folder.mkdir()
    async with gateway_process(folder, running_gateway.dsn, running_gateway.env, start=False) as other:
        other.env["BOLTWORKS_DATA_DIR"] = str(folder / "data")
        await other.start(ready=False)
        assert other.process is not None
        async with asyncio.timeout(PATIENCE_S):
            assert await other.process.wait() == 1
        assert "BOLTWORKS_TOKEN_SECRET is not the one" in other.log.read_text()
