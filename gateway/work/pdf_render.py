"""The program that sets one PDF: `python -m gateway.work.pdf_render`, JSON in, JSON out.

It runs in a process of its own, under limits of memory, processor time and written files, so that a document
can neither block nor exhaust the gateway. On stdin: `{input, root}`, where `root` is an empty
folder, all that Typst may see of the disk. On stdout: `{pages, pdf, filename}` with the file in base64.
"""

from __future__ import annotations

import base64
import json
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import typst

from gateway.work.pdf_document import Document, filename_of, read_document
from gateway.work.pdf_layout import PAPERS_MPT, STYLE, lay_out

MEMORY_BYTES = 2 * 1024**3
PROCESSOR_S = 25
OPEN_FILES = 64


def limit_resources() -> None:
    """Bound this process. What a platform does not know stays unlimited there."""
    limits = (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, PROCESSOR_S),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, limit in limits:
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit, limit))


def render(document: Document, paper: str, root: str) -> tuple[bytes, int]:
    """The PDF, and its number of pages."""
    layout = lay_out(document, paper)
    data = {"title": document.title, "paper": PAPERS_MPT[paper], "style": STYLE, "nodes": layout.nodes}
    source: Any = Path(__file__).with_name("pdf_template.typ").read_bytes()
    world: Any = {"root": root, "ignore_system_fonts": True, "sys_inputs": {"document": json.dumps(data)}}
    pdf = typst.compile(source, **world)
    pages = typst.query(source, "<pages>", field="value", one=True, **world)
    return pdf, int(json.loads(pages))


def main() -> None:
    limit_resources()
    order = json.load(sys.stdin)
    document = read_document(order["input"])
    pdf, pages = render(document, str(order["input"].get("paper") or "a4"), order["root"])
    answer = {"pages": pages, "pdf": base64.b64encode(pdf).decode(), "filename": filename_of(document)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
