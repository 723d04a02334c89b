"""Which worker does which work."""

from __future__ import annotations

import os
from collections.abc import Mapping

import aiohttp
from standardwebhooks import Webhook

from gateway.catalogue.model import Catalogue, HttpWork, OpenAiWork, PdfWork, WorkEntry
from gateway.work.http_worker import HttpWorker
from gateway.work.openai_worker import OpenAiWorker
from gateway.work.pdf_worker import PdfWorker
from gateway.work.worker import Worker


def workers_of(catalogue: Catalogue, session: aiohttp.ClientSession, worker_secret: str) -> Mapping[str, Worker]:
    signer = Webhook(worker_secret)
    return {entry.name: _worker_of(entry, session, signer) for entry in catalogue.works}


def _worker_of(entry: WorkEntry, session: aiohttp.ClientSession, signer: Webhook) -> Worker:
    match entry:
        case HttpWork():
            return HttpWorker(session, signer)
        case OpenAiWork(api_key_env=name):
            return OpenAiWorker(session, os.environ.get(name) if name else None)
        case PdfWork():
            return PdfWorker()
