"""What may be fetched of strangers: a truth table of addresses, and a server of the test's own for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway import outgoing
from gateway.outgoing import BadAnswer, Forbidden, Unreachable, check_url, fetch_json, is_public
from tests.waiting import PATIENCE_S


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700:4700::1111", True),
        ("0.0.0.0", False),  # noqa: S104
        ("10.0.0.1", False),
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("172.32.0.1", True),
        ("192.168.1.1", False),
        ("192.0.2.1", False),
        ("192.88.99.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("239.1.1.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:1.1.1.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::1", False),
        ("2001::1", False),
        ("2001:db8::1", False),
        ("2002:7f00:1::1", False),
        ("3fff::1", False),
        ("fc00::1", False),
        ("fd12::1", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("ff02::1", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://",
        "https://user:password@example.com/",
        "https://example.com:99999/",
        "https://[::1/",
        "https://example.com/" + "a" * 2048,
    ],
)
def test_urls_that_are_never_asked(url: str) -> None:
    with pytest.raises(Forbidden):
        check_url(url, ("other.example",))


def test_plain_http_is_for_the_allow_list() -> None:
    assert check_url("http://pay.test:81/x", ("pay.test:81",)).hostname == "pay.test"
    assert check_url("http://pay.test:81/x", ("pay.test",)).port == 81
    with pytest.raises(Forbidden):
        check_url("http://pay.test:82/x", ("pay.test:81",))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433", "[::ffff:127.0.0.1]"])
async def test_private_hosts_are_refused_before_any_connection(host: str) -> None:
    with pytest.raises(Forbidden):
        await fetch_json(f"https://{host}:1/")


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "\ud800"])
async def test_what_no_name_may_hold_is_never_asked(host: str) -> None:
    with pytest.raises(Forbidden):
        await fetch_json(f"https://{host}/")


@pytest_asyncio.fixture
async def stranger() -> AsyncIterator[TestServer]:
    async def good(_: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def long(_: web.Request) -> web.Response:
        return web.Response(text='{"a": "' + "a" * outgoing.MAX_BYTES + '"}')

    async def text(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def half(_: web.Request) -> web.Response:
        return web.json_response({"reason": "bad \ud800"})

    async def latin(_: web.Request) -> web.Response:
        return web.Response(body=b'\xff{"a": 1}')

    async def deep(_: web.Request) -> web.Response:
        return web.Response(text='{"a":' + "[" * 20_000 + "]" * 20_000 + "}")

    async def broken(_: web.Request) -> web.Response:
        return web.Response(status=503)

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": request.query["to"]})

    app = web.Application()
    for handler in (good, long, text, half, latin, deep, broken):
        app.router.add_get(f"/{handler.__name__}", handler)
    app.router.add_get("/to", redirect)
    async with TestServer(app, host="127.0.0.1") as server:
        yield server


def allow(server: TestServer) -> tuple[str, ...]:
    return (f"127.0.0.1:{server.port}",)


async def test_an_allowed_host_is_asked_and_redirects_are_followed(stranger: TestServer) -> None:
    for path in ("/good", "/to?to=/good"):
        assert await fetch_json(f"http://127.0.0.1:{stranger.port}{path}", allow(stranger)) == {"ok": True}


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/long", BadAnswer),
        ("/text", BadAnswer),
        ("/half", BadAnswer),
        ("/latin", BadAnswer),
        ("/deep", BadAnswer),
        ("/missing", BadAnswer),
        ("/broken", Unreachable),
        ("/to?to=/to%3Fto=/to%253Fto=/good", BadAnswer),
        ("/to?to=https://10.0.0.1/", Forbidden),
        ("/to?to=http://localhost/", Forbidden),
        ("/to?to=https://127.0.0.1:1/", Forbidden),
    ],
)
async def test_what_a_stranger_may_not_do(stranger: TestServer, path: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await fetch_json(f"http://127.0.0.1:{stranger.port}{path}", allow(stranger))


async def test_a_slow_stranger_is_left(stranger: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "TOTAL_TIMEOUT_S", 0)
    with pytest.raises(Unreachable):
        await fetch_json(f"http://127.0.0.1:{stranger.port}/good", allow(stranger))


class Nameserver:
    """Silent on names under `silent.test` until it is released; for all others the machine's own."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.released = threading.Event()
        self.own = socket.getaddrinfo

    def getaddrinfo(self, host: str, *args: Any, **more: Any) -> Any:
        if host.endswith("silent.test"):
            self.asked.release()
            self.released.wait(PATIENCE_S)
            raise socket.gaierror(socket.EAI_AGAIN, "silent")
        return self.own(host, *args, **more)

    async def until_asked(self, times: int) -> None:
        for _ in range(times):
            assert await asyncio.to_thread(self.asked.acquire, timeout=PATIENCE_S)


@pytest.fixture
def nameserver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nameserver]:
    server = Nameserver()
    monkeypatch.setattr(socket, "getaddrinfo", server.getaddrinfo)
    yield server
    server.released.set()


def places(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
    monkeypatch.setattr(outgoing, name, threading.BoundedSemaphore(count))


async def left(asking: list[asyncio.Task[Any]]) -> None:
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_silent_nameservers_stop_no_other_look_up(
    stranger: TestServer, nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than the loop has threads, and nobody waits for them any more: their threads are still held."""
    places(monkeypatch, "_LOOKUPS", 21)
    asking = [asyncio.create_task(fetch_json(f"https://{number}.silent.test/")) for number in range(20)]
    await nameserver.until_asked(20)
    await left(asking)
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    assert await fetch_json(f"http://127.0.0.1:{stranger.port}/good", allow(stranger)) == {"ok": True}


async def test_a_look_up_too_many_is_refused_at_once(
    stranger: TestServer, nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    places(monkeypatch, "_LOOKUPS", 2)
    good = f"http://127.0.0.1:{stranger.port}/good"
    asking = [asyncio.create_task(fetch_json(f"https://{number}.silent.test/")) for number in range(2)]
    await nameserver.until_asked(2)
    await left(asking)
    with pytest.raises(Unreachable, match="Too many"):
        await fetch_json(good, allow(stranger))
    nameserver.released.set()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(Unreachable):
                assert await fetch_json(good, allow(stranger)) == {"ok": True}
                return
            await asyncio.sleep(0.01)


async def test_a_fetch_too_many_is_refused_at_once_and_places_come_back(
    stranger: TestServer, nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    places(monkeypatch, "_FETCHES", 1)
    good = f"http://127.0.0.1:{stranger.port}/good"
    asking = [asyncio.create_task(fetch_json("https://silent.test/"))]
    await nameserver.until_asked(1)
    with pytest.raises(Unreachable, match="Too many"):
        await fetch_json(good, allow(stranger))
    await left(asking)
    assert await fetch_json(good, allow(stranger)) == {"ok": True}


async def test_a_look_up_for_which_no_thread_begins_gives_its_place_back(
    stranger: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    places(monkeypatch, "_LOOKUPS", 1)
    good = f"http://127.0.0.1:{stranger.port}/good"
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(Unreachable):
            await fetch_json(good, allow(stranger))
    assert await fetch_json(good, allow(stranger)) == {"ok": True}


PROGRAM = """
import socket, threading, uvloop
from gateway import outgoing

async def main():
    try:
        await outgoing.fetch_json("https://silent.test/")
    except outgoing.Unreachable as error:
        print(error)

outgoing.TOTAL_TIMEOUT_S = 0.2
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
uvloop.run(main())
"""


async def test_a_process_ends_while_a_nameserver_is_silent() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(PATIENCE_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, said.decode()) == (0, "It did not answer in time.\n")
