"""Every entry of a catalogue has its worker."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from gateway.catalogue import load_catalogue
from gateway.work import build_workers
from gateway.work.command_worker import CommandWorker
from gateway.work.http_worker import HttpWorker
from gateway.work.openai_worker import OpenAiWorker
from gateway.work.pdf_worker import PdfWorker

CATALOGUE = """
[[work]]
name = "a"
worker = "http"
url = "http://127.0.0.1:9000/run"
price = { estimate_sats = 100 }

[[work]]
name = "b"
worker = "openai"
base_url = "http://127.0.0.1:11434/v1"
model = "m"
api_key_env = "A_MODEL_KEY"
price = { per_1k_input_tokens_sats = 2, per_1k_output_tokens_sats = 6, max_output_tokens = 1024 }

[[work]]
name = "c"
worker = "pdf"
price = { per_page_sats = 7 }

[[work]]
name = "d"
worker = "command"
command = ["wc", "-c"]
price = { per_cpu_second_sats = 5, max_cpu_s = 20 }
"""


async def test_workers_by_the_name_of_their_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_MODEL_KEY", "value")
    (tmp_path / "x.toml").write_text(CATALOGUE, encoding="utf-8")
    secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
    async with aiohttp.ClientSession() as session:
        workers = build_workers(load_catalogue(tmp_path / "x.toml"), session, secret)
    assert [type(workers[name]) for name in "abcd"] == [HttpWorker, OpenAiWorker, PdfWorker, CommandWorker]
    assert isinstance(workers["b"], OpenAiWorker)
    assert workers["b"].api_key == "value"


def test_the_renderer_starts_without_the_gateways_libraries() -> None:
    script = "import sys, gateway.work.pdf_render; print('aiohttp' in sys.modules, 'pydantic' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
