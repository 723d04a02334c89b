"""Fetching a stranger's address: https only, public addresses only, and the connection goes to the address checked.

Hosts on the allow-list (regtest) may be anywhere and may be plain http. Each redirect is checked like the first.

Strangers' names are looked up in threads of their own. Of the loop's few (uvloop: 4 for the whole process) a silent
nameserver would take one for 20 seconds, longer than its name is waited for.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.api.body import parse_json
from gateway.problems import Problem
from gateway.work.http_answers import AnswerTooLong, read_bounded

MAX_BYTES = 64 * 1024
MAX_REDIRECTS = 2
TOTAL_TIMEOUT_S = 10
MAX_URL_LENGTH = 2048
FETCHES_AT_ONCE = 32
LOOKUPS_AT_ONCE = 32
"""Twice what the addresses on file can hold when all their nameservers are silent. Whoever comes later is refused."""

_FETCHES = threading.BoundedSemaphore(FETCHES_AT_ONCE)
_LOOKUPS = threading.BoundedSemaphore(LOOKUPS_AT_ONCE)
_BUSY = "Too many addresses are being asked just now."

_PUBLIC_V6 = ip_network("2000::/3")
_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in ("100.64.0.0/10", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
"""Shared (CGNAT), 6to4 and Teredo, documentation. NAT64 and IPv4-mapped lie outside 2000::/3."""


class FetchFailed(Exception):
    """Nothing usable came back. `str()` is plain words."""


class Forbidden(FetchFailed):
    """This address is not fetched, now or later."""


class Unreachable(FetchFailed):
    """No answer, or an error of the other side: it may be better later."""


class BadAnswer(FetchFailed):
    """It answered, but not with what it should: too long, not JSON, too many redirects."""


@dataclass(frozen=True, slots=True)
class Pinned(AbstractResolver):
    """Answers only the addresses that were checked."""

    addresses: tuple[str, ...]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def is_public(text: str) -> bool:
    """Of a numeric address; anything else is not. Pure. Truth table: tests/unit/test_outgoing.py."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return False
    if address.version == 6 and address not in _PUBLIC_V6:
        return False
    if any(address.version == network.version and address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def is_allowed(parts: SplitResult, allow_hosts: tuple[str, ...]) -> bool:
    """On the operator's list, as `host` or `host:port`. Pure."""
    try:
        host, port = (parts.hostname or "").lower(), _port(parts)
    except ValueError:
        return False
    return host in allow_hosts or f"{host}:{port}" in allow_hosts


def check_url(url: str, allow_hosts: tuple[str, ...]) -> SplitResult:
    """Form and scheme; says nothing of where the name leads. Pure. Raises Forbidden."""
    try:
        parts = urlsplit(url)
        _port(parts)
    except ValueError:
        raise Forbidden("This is not a web address.") from None
    if len(url) > MAX_URL_LENGTH or not parts.hostname or parts.username is not None or parts.password is not None:
        raise Forbidden("This is not a web address that can be asked.")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_allowed(parts, allow_hosts)):
        raise Forbidden("Only https addresses are asked.")
    return parts


async def fetch_json(url: str, allow_hosts: tuple[str, ...] = ()) -> dict[str, Any]:
    """A JSON object from a stranger's address. Raises Forbidden, Unreachable, BadAnswer. Not in a transaction."""
    try:
        with _place(_FETCHES):
            async with asyncio.timeout(TOTAL_TIMEOUT_S):
                body = await _fetch(url, allow_hosts)
    except TimeoutError:
        raise Unreachable("It did not answer in time.") from None
    except (aiohttp.ClientError, OSError):
        raise Unreachable("It can not be reached.") from None
    try:
        answer = parse_json(body)
    except Problem:
        raise BadAnswer("Its answer is not usable JSON.") from None
    if not isinstance(answer, dict):
        raise BadAnswer("Its answer is not a JSON object.")
    return answer


async def _fetch(url: str, allow_hosts: tuple[str, ...]) -> bytes:
    for _ in range(MAX_REDIRECTS + 1):
        parts = check_url(url, allow_hosts)
        addresses = await _checked_addresses(parts, allow_hosts)
        body, location = await _get(url, addresses)
        if location is None:
            return body
        try:
            url = urljoin(url, location)
        except ValueError:
            raise Forbidden("It redirects to what is no web address.") from None
    raise BadAnswer("It redirects too often.")


async def _checked_addresses(parts: SplitResult, allow_hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Where the name leads, all of it public. Raises Forbidden, Unreachable, OSError."""
    try:
        addresses = await _look_up(parts.hostname or "", _port(parts))
    except ValueError:  # what no name may hold: an empty label, one that is too long
        raise Forbidden("This is not a web address.") from None
    if not is_allowed(parts, allow_hosts) and not all(is_public(address) for address in addresses):
        raise Forbidden("It leads to an address that is not public.")
    return addresses


async def _look_up(host: str, port: int) -> tuple[str, ...]:
    """In a thread of its own; that may outlive the wait for it, and keeps its place until it ends.

    A daemon: the process does not wait for it when it ends, as it would for an executor's. Raises Unreachable, and
    what `getaddrinfo` raises.
    """
    found: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
    if not _LOOKUPS.acquire(blocking=False):
        raise Unreachable(_BUSY)
    thread = threading.Thread(target=_resolve, args=(host, port, found, _LOOKUPS), name="look-up", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        _LOOKUPS.release()
        raise Unreachable(_BUSY) from None
    return await found


def _resolve(host: str, port: int, found: asyncio.Future[tuple[str, ...]], places: threading.BoundedSemaphore) -> None:
    """What the thread does."""
    addresses: tuple[str, ...] = ()
    error: Exception | None = None
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))
    except Exception as caught:  # noqa: BLE001 - whoever waits gets it
        error = caught
    finally:
        places.release()
    with suppress(RuntimeError):  # the loop may be closed by now
        found.get_loop().call_soon_threadsafe(_give, found, addresses, error)


def _give(found: asyncio.Future[tuple[str, ...]], addresses: tuple[str, ...], error: Exception | None) -> None:
    if found.done():
        return
    if error is None:
        found.set_result(addresses)
    else:
        found.set_exception(error)


@contextmanager
def _place(places: threading.BoundedSemaphore) -> Iterator[None]:
    """Raises Unreachable: all are taken."""
    if not places.acquire(blocking=False):
        raise Unreachable(_BUSY)
    try:
        yield
    finally:
        places.release()


async def _get(url: str, addresses: tuple[str, ...]) -> tuple[bytes, str | None]:
    """One request without following: `(body, None)`, or `(b"", location)` of a redirect."""
    connector = aiohttp.TCPConnector(resolver=Pinned(addresses), use_dns_cache=False, force_close=True)
    async with (
        aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
        ) as session,
        session.get(
            url, allow_redirects=False, headers={"Accept": "application/json", "Accept-Encoding": "identity"}
        ) as answer,
    ):
        if answer.status in (301, 302, 303, 307, 308) and "Location" in answer.headers:
            return b"", answer.headers["Location"]
        if answer.status >= 500 or answer.status == 429:
            raise Unreachable(f"It answered with status {answer.status}.")
        if answer.status >= 400:
            raise BadAnswer(f"It answered with status {answer.status}.")
        try:
            return await read_bounded(answer, MAX_BYTES), None
        except AnswerTooLong:
            raise BadAnswer("Its answer is too long.") from None


def _port(parts: SplitResult) -> int:
    return parts.port or (80 if parts.scheme == "http" else 443)
