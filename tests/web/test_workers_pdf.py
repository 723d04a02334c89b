"""The embedded worker for real: a file that says what was written, charged by its pages, in a process of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from gateway.catalogue import load_catalogue
from gateway.catalogue.estimate import estimate_sats
from gateway.catalogue.model import PdfWork
from gateway.work.pdf_document import filename_of, read_document
from gateway.work.pdf_worker import PdfWorker
from gateway.work.worker import Done, WorkFailed, WorkOrder
from ledger.embedded.postmaster import is_alive

ENTRY = PdfWork.model_validate({"name": "paper", "worker": "pdf", "price": {"per_page_sats": 7}})


def order(work_input: dict[str, Any]) -> WorkOrder:
    return WorkOrder("job-1", ENTRY, work_input, estimate_sats(ENTRY, work_input), 1)


async def test_a_document_is_charged_by_its_pages() -> None:
    work_input = {"markdown": "# Hello\n\n" + "word " * 1500, "title": "Ein schöner Titel!"}
    done = await PdfWorker().run(order(work_input))
    assert isinstance(done, Done)
    assert done.result["pages"] == 3
    assert done.cost_sats == 21
    assert done.cost_sats < estimate_sats(ENTRY, work_input)
    assert done.result["filename"] == "ein-schoner-titel.pdf"
    assert done.result["mediaType"] == "application/pdf"
    assert base64.b64decode(done.result["data"], validate=True).startswith(b"%PDF-")


async def test_the_packaged_example_is_cheaper_than_its_estimate() -> None:
    entry = load_catalogue(None).works[0]
    assert entry.example is not None
    estimate = estimate_sats(entry, entry.example)
    done = await PdfWorker().run(WorkOrder("job-1", entry, entry.example, estimate, 1))
    assert isinstance(done, Done)
    assert 1 <= done.cost_sats < estimate


@pytest.mark.parametrize(
    "hostile",
    [
        '#read("/etc/passwd")',
        '#import "@preview/cetz:0.3.0"',
        '"); #panic("x") //',
        '\\u{41} \\" #eval("1") $x$ @ref <label> = no heading',
        '`#read("/etc/passwd")`',
        '```typ\n#read("/etc/passwd")\n```',
        '[#panic()](https://example.org/\\"#panic())',
        "|#panic()|\n|-|\n|`#panic()`|",
    ],
)
async def test_text_is_never_code(hostile: str) -> None:
    work_input = {"markdown": hostile, "title": '#panic("title")'}
    done = await PdfWorker().run(order(work_input))
    assert isinstance(done, Done)
    assert done.result["pages"] == 1
    pdf = base64.b64decode(done.result["data"])
    assert b"root:" not in pdf
    assert b"root:" not in b"".join(_streams(pdf))


def _streams(pdf: bytes) -> list[bytes]:
    found = []
    for part in pdf.split(b"stream\n")[1:]:
        try:
            found.append(zlib.decompressobj().decompress(part))
        except zlib.error:
            found.append(part)
    return found


async def test_works_side_by_side() -> None:
    orders = [order({"markdown": f"Document {number}"}) for number in range(4)]
    results = await asyncio.gather(*(PdfWorker().run(one) for one in orders))
    assert [result.cost_sats for result in results if isinstance(result, Done)] == [7] * 4


def renderer(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


HANG = "import os, sys, time; open({file!r}, 'w').write(str(os.getpid())); time.sleep(600)"


def pids_of(program: tuple[str, ...]) -> list[str]:
    wanted, found = b"".join(word.encode() + b"\0" for word in program), []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdecimal() and (process / "cmdline").read_bytes() == wanted:
                found.append(process.name)
    return found


async def test_a_run_that_takes_too_long_fails_and_leaves_no_process(tmp_path: Path) -> None:
    """Whether or not it had time to begin."""
    program = renderer(HANG.format(file=str(tmp_path / "pid")))
    worker = PdfWorker(time_limit_s=3, renderer=program)
    failed = await worker.run(order({"markdown": "a"}))
    assert failed == WorkFailed("Setting the document took longer than 3 seconds.")
    assert pids_of(program) == []


async def test_a_cancelled_run_kills_its_process(tmp_path: Path) -> None:
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    run = asyncio.create_task(PdfWorker(renderer=renderer(HANG.format(file=str(pipe)))).run(order({"markdown": "a"})))
    pid = int(await asyncio.to_thread(pipe.read_text))
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not is_alive(pid)


async def test_a_renderer_that_falls_is_a_failure_in_plain_words(caplog: pytest.LogCaptureFixture) -> None:
    failed = await PdfWorker(renderer=renderer("raise SystemExit('secret path /x')")).run(order({"markdown": "a"}))
    assert failed == WorkFailed("The document could not be set.")
    assert "ended with 1" in caplog.text


async def test_the_renderer_sees_no_setting_of_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOLTWORKS_TOKEN_SECRET", "very secret")
    script = "import json, os; print(json.dumps({'pages': 1, 'pdf': ' '.join(os.environ), 'filename': 'a'}))"
    done = await PdfWorker(renderer=renderer(script)).run(order({"markdown": "a"}))
    assert isinstance(done, Done)
    assert "BOLTWORKS" not in done.result["data"]


async def test_memory_is_limited() -> None:
    script = (
        "import gateway.work.pdf_render as r; r.limit_resources()\n"
        "try: bytearray(4 * 1024**3)\n"
        'except MemoryError: print(\'{"pages": 1, "pdf": "limited", "filename": "a"}\')'
    )
    done = await PdfWorker(renderer=renderer(script)).run(order({"markdown": "a"}))
    assert isinstance(done, Done)
    assert done.result["data"] == "limited"


async def test_the_loop_is_free_while_a_document_is_set() -> None:
    run = asyncio.create_task(PdfWorker().run(order({"markdown": "- a\n" * 3000})))
    turns = 0
    while not run.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert isinstance(run.result(), Done)
    assert turns > 20  # a document that was set in the loop itself would leave it none


async def test_the_gateway_itself_reads_no_document(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("parsed in the gateway's process")

    wanted = order({"markdown": "# The *first* part"})
    monkeypatch.setattr(MarkdownIt, "parse", never)
    done = await PdfWorker().run(wanted)
    assert isinstance(done, Done)
    assert done.result["filename"] == "the-first-part.pdf"


@pytest.mark.parametrize(
    ("work_input", "name"),
    [
        ({"markdown": "text"}, "document.pdf"),
        ({"markdown": "text\n\n## The *second* part"}, "the-second-part.pdf"),
        ({"markdown": "a", "title": "../../etc/passwd\n"}, "etc-passwd.pdf"),
        ({"markdown": "a", "title": "Ωμέγα"}, "document.pdf"),
        ({"markdown": "a", "title": "x" * 200}, "x" * 60 + ".pdf"),
    ],
)
def test_file_names_are_plain(work_input: dict[str, Any], name: str) -> None:
    assert filename_of(read_document(work_input)) == name
