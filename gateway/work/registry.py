"""Which worker does which work."""

from __future__ import annotations

import os
from collections.abc import Mapping

import aiohttp
from standardwebhooks import Webhook

from gateway.catalogue.model import Catalogue, CommandWork, HttpWork, OpenAiWork, PdfWork, WorkEntry
from gateway.work.command_worker import CommandWorker
from gateway.work.evaluator import Evaluator, HttpEvaluator
from gateway.work.http_worker import HttpWorker
from gateway.work.openai_worker import OpenAiWorker
from gateway.work.pdf_worker import PdfWorker
from gateway.work.signed_post import SignedPost
from gateway.work.worker import Worker


def workers_of(catalogue: Catalogue, session: aiohttp.ClientSession, worker_secret: str) -> Mapping[str, Worker]:
    post = SignedPost(session, Webhook(worker_secret))
    return {entry.name: _worker_of(entry, session, post) for entry in catalogue.works}


def evaluator_of(session: aiohttp.ClientSession, worker_secret: str) -> Evaluator:
    """One for all works: each entry names its service."""
    return HttpEvaluator(SignedPost(session, Webhook(worker_secret)))


def _worker_of(entry: WorkEntry, session: aiohttp.ClientSession, post: SignedPost) -> Worker:
    match entry:
        case HttpWork():
            return HttpWorker(post)
        case OpenAiWork(api_key_env=name):
            return OpenAiWorker(session, os.environ.get(name) if name else None)
        case PdfWork():
            return PdfWorker()
        case CommandWork():
            return CommandWorker()
