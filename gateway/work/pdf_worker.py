"""The embedded worker: Markdown to a typeset PDF, charged per page. Needs no network and no key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.catalogue.model import PdfWork
from gateway.work.worker import Done, WorkFailed, WorkOrder

_LOG = logging.getLogger(__name__)

TIME_LIMIT_S = 30.0
RENDERER = (sys.executable, "-m", "gateway.work.pdf_render")


@dataclass(frozen=True, slots=True)
class PdfWorker:
    """Runs one renderer process per job and kills it when it takes too long or is no longer wanted.

    Result: `{mediaType, encoding: "base64", data, pages, filename}`.
    """

    time_limit_s: float = TIME_LIMIT_S
    renderer: Sequence[str] = RENDERER

    async def run(self, order: WorkOrder) -> Done | WorkFailed:
        if not isinstance(order.work, PdfWork):
            raise TypeError(f"{order.work.name} is no pdf work")
        with tempfile.TemporaryDirectory(prefix="boltworks-pdf-") as root:
            question = json.dumps({"input": dict(order.input), "root": root}).encode()
            try:
                answer = await self._render(question, root)
            except TimeoutError:
                return WorkFailed(f"Setting the document took longer than {self.time_limit_s:g} seconds.")
        if answer is None:
            return WorkFailed("The document could not be set.")
        pages = int(answer["pages"])
        result = {
            "mediaType": "application/pdf",
            "encoding": "base64",
            "data": answer["pdf"],
            "pages": pages,
            "filename": answer["filename"],
        }
        return Done(result, pages * order.work.price.per_page_sats)

    async def _render(self, question: bytes, root: str) -> dict[str, Any] | None:
        process = await asyncio.create_subprocess_exec(
            *self.renderer,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=root,
            env=_environment(),
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self.time_limit_s):
                answer, complaint = await process.communicate(question)
        finally:
            await _end(process)
        if process.returncode != 0:
            last_line = complaint.decode(errors="replace").strip().rpartition("\n")[2]
            _LOG.error("the PDF renderer ended with %s: %s", process.returncode, last_line[:500])
            return None
        parsed: dict[str, Any] = json.loads(answer)
        return parsed


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _environment() -> dict[str, str]:
    """No secret of the gateway reaches the renderer. Few threads and arenas: address space is limited."""
    here = str(Path(__file__).resolve().parents[2])
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
    return kept | {
        "PYTHONPATH": here,
        "PYTHONIOENCODING": "utf-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "RAYON_NUM_THREADS": "2",
        "MALLOC_ARENA_MAX": "2",
    }
