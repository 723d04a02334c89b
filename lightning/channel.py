"""The one persistent gRPC channel to LND: TLS pinned to its certificate, macaroon and deadline per call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lightning.stubs import invoicesrpc, lnrpc, routerrpc, staterpc  # isort: skip  (before grpc: see stubs)

import grpc
import grpc.aio

from lightning.types import NodeUnavailable

KEEPALIVE_S = 10
"""LND counts a ping within 5 s of the last as a strike (`grpc.client-ping-min-wait`); three end it."""
KEEPALIVE_TIMEOUT_S = 10
MAX_MESSAGE_BYTES = 200 * 1024 * 1024
"""As `lncli` allows: a page of invoices or payments is larger than gRPC's 4 MiB."""

_CREDENTIALS_IN_DOUBT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)


class RpcFault(Exception):
    """A call ended with a status other than OK. `code` is gRPC's name for it, `detail` the node's text."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Stubs:
    """The generated stubs over one channel; their types are not known to mypy."""

    lightning: Any
    router: Any
    invoices: Any
    state: Any


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the two files held when they were read."""

    tls_cert: bytes
    macaroon_hex: str

    @classmethod
    def read(cls, tls_cert: Path, macaroon: Path) -> Credentials:
        """Raises OSError."""
        return cls(tls_cert.read_bytes(), macaroon.read_bytes().hex())

    def __repr__(self) -> str:
        return "Credentials(…)"


class LndChannel:
    """One channel for the life of the object; replaced only when LND's certificate file has changed.

    A call fails at once while LND cannot be reached (nothing queues up behind a dead node), and gRPC itself
    reconnects in the background, at most two seconds after LND is back.
    """

    def __init__(self, host: str, tls_cert: Path, macaroon: Path) -> None:
        self._host = host
        self._tls_cert = tls_cert
        self._macaroon = macaroon
        self._stamp: tuple[object, ...] = ()
        self._retired: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Raises OSError when the certificate or the macaroon cannot be read."""
        self._stamp = self._files_stamp()
        self._credentials = Credentials.read(self._tls_cert, self._macaroon)
        self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
        for closing in self._retired:
            closing.cancel()
        await asyncio.gather(*self._retired, return_exceptions=True)

    @property
    def stubs(self) -> Stubs:
        return self._stubs

    async def call(self, method: Any, request: Any, *, timeout_s: float) -> Any:
        """One unary call. Raises RpcFault, NodeUnavailable when the channel was closed under it."""
        try:
            return await method(request, timeout=timeout_s, metadata=self._metadata())
        except grpc.aio.AioRpcError as error:
            raise self._fault(error) from None
        except asyncio.CancelledError:
            _raise_if_cancelled_by_us()
            raise

    async def stream(self, method: Any, request: Any, *, timeout_s: float | None) -> AsyncGenerator[Any, None]:
        """The messages of a server stream; it ends when the node ends it. Errors as in `call`.

        Closing the iterator, or cancelling who reads it, cancels the call at the node.
        """
        call = method(request, timeout=timeout_s, metadata=self._metadata())
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise self._fault(error) from None
        except asyncio.CancelledError:
            _raise_if_cancelled_by_us()
            raise
        finally:
            call.cancel()

    def _connect(self) -> None:
        credentials = grpc.ssl_channel_credentials(root_certificates=self._credentials.tls_cert)
        self._channel = grpc.aio.secure_channel(self._host, credentials, options=_options())
        self._stubs = Stubs(
            lightning=lnrpc.LightningStub(self._channel),
            router=routerrpc.RouterStub(self._channel),
            invoices=invoicesrpc.InvoicesStub(self._channel),
            state=staterpc.StateStub(self._channel),
        )

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("macaroon", self._credentials.macaroon_hex),)

    def _fault(self, error: grpc.aio.AioRpcError) -> RpcFault:
        if error.code() in _CREDENTIALS_IN_DOUBT:
            self._reload_changed_credentials()
        return RpcFault(error.code().name, error.details() or "")

    def _reload_changed_credentials(self) -> None:
        """A handshake or a macaroon may fail because LND has new ones: the next call uses those."""
        try:
            stamp = self._files_stamp()
            if stamp == self._stamp:
                return
            fresh = Credentials.read(self._tls_cert, self._macaroon)
        except OSError:
            return
        stale, self._credentials, self._stamp = self._credentials, fresh, stamp
        if fresh.tls_cert != stale.tls_cert:
            self._retire(self._channel)
            self._connect()

    def _retire(self, channel: grpc.aio.Channel) -> None:
        """Calls still alive on the old connection may end by themselves; new ones take the new one."""
        closing = asyncio.create_task(channel.close(grace=KEEPALIVE_S))
        self._retired.add(closing)
        closing.add_done_callback(self._retired.discard)

    def _files_stamp(self) -> tuple[object, ...]:
        stats = (os.stat(self._tls_cert), os.stat(self._macaroon))  # noqa: PTH116
        return tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in stats)


def _raise_if_cancelled_by_us() -> None:
    """gRPC answers a call on a closing channel with CancelledError, though nobody cancelled the task."""
    task = asyncio.current_task()
    if task is not None and not task.cancelling():
        raise NodeUnavailable("the channel was closed")


def _options() -> list[tuple[str, Any]]:
    return [
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        # Newer gRPC goes by the second of these, whose default is a minute.
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        # LND refuses pings on a connection without a call, and an idle settlement stream must go on being pinged.
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # In spite of its name: how long one attempt to connect may take.
        ("grpc.min_reconnect_backoff_ms", 5000),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
    ]
