"""`schemathesis` makes requests from the OpenAPI document: nothing is a 5xx, and every answer is one that it documents.

Four callers: nobody, the owner of a job, of a session, and the operator; over 10,000 requests together.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.api.routes import ROUTES
from tests.known import OPERATOR
from tests.loud_model import loud_model_server, sell
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web

pytestmark = [pytest.mark.slow, pytest.mark.long]

EXAMPLES = 60
AT_LEAST = 2_500
"""Requests of each caller."""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {"operator_key": OPERATOR}


async def credential(web: Web, who: str) -> str | None:
    if who == "job":
        return str((await web.buy("echo", {}))["token"])
    if who == "session":
        _, session = await web.call("POST", "/api/sessions", {"depositSats": 100_000})
        web.pay(session)
        async with asyncio.timeout(PATIENCE_S):
            while (await web.call("GET", "/api/sessions/current", token=session["token"]))[1]["state"] != "active":
                await asyncio.sleep(0.02)
        return str(session["token"])
    return OPERATOR if who == "operator" else None


@pytest.mark.parametrize("who", ["nobody", "job", "session", "operator"])
async def test_no_request_at_all_is_a_fault_or_a_surprise(web: Web, who: str, tmp_path: Path) -> None:
    async with loud_model_server() as upstream:
        sell(web.gateway, upstream.url)
        token, report = await credential(web, who), tmp_path / "report.ndjson"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{web.url}/openapi.json", "--checks", CHECKS),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", "1"),
            # Nothing is kept for a next run, so hypothesis need not polish what it would keep: half of its time.
            *("--generation-database", "none"),
            *("--continue-on-failure", "--suppress-health-check", "all", "--no-color"),
            *("--report", "ndjson", "--report-ndjson-path", str(report)),
            *(("--header", f"Authorization: Bearer {token}") if token else ()),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
        )
        said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said[said.find("= FAILURES =") :][:6000]
    asked, sent = seen(report)
    assert asked == {f"{route.method} {route.path}" for route in ROUTES}
    assert sent >= AT_LEAST


def seen(report: Path) -> tuple[set[str], int]:
    """Operations, and how many requests."""
    asked, sent = set(), 0
    for line in report.read_text().splitlines():
        if finished := json.loads(line).get("ScenarioFinished"):
            recorded = finished["recorder"]
            asked.add(recorded["label"])
            sent += len(recorded.get("interactions", ()))
    return asked, sent
