"""What a paid job runs: one `Worker` per entry of the catalogue (`http`, `openai`, `command`, the embedded `pdf`).

This file imports nothing heavy: the PDF renderer starts as a process of its own and passes through here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

    from gateway.catalogue.model import Catalogue
    from gateway.work.worker import Worker


def build_workers(catalogue: Catalogue, session: aiohttp.ClientSession, worker_secret: str) -> Mapping[str, Worker]:
    """A worker per work, by the work's name. `worker_secret` (`whsec_…`) signs what `http` workers are sent."""
    from gateway.work.registry import workers_of

    return workers_of(catalogue, session, worker_secret)
