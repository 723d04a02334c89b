"""Macaroons: bake one of least privilege at LND, and tell what a given one may do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

MACAROON_FORMAT_V2: Final = 2
IDENTIFIER_FIELD: Final = 2
BAKERY_VERSION: Final = 3
OPS_FIELD: Final = 3
LENGTH_DELIMITED: Final = 2


class BadMacaroon(Exception):
    """The bytes are not a macaroon as LND writes them (binary format 2, bakery identifier 3)."""


@dataclass(frozen=True, slots=True)
class Permission:
    """One entity and what may be done to it; for `uri`, the actions are RPC names."""

    entity: str
    actions: tuple[str, ...]


async def bake(*, host: str, tls_cert: bytes, macaroon: bytes, uris: Sequence[str], timeout_s: float = 15.0) -> bytes:
    """A new macaroon that may call exactly `uris` (see `lightning.permissions`).

    `host` is `host:port`, `tls_cert` the node's own certificate in PEM, `macaroon` one that may bake
    (LND's admin macaroon). Raises grpc.RpcError.
    """
    from lightning.stubs import lnrpc  # first: it sets what gRPC reads at import

    import grpc  # isort: skip

    credentials = grpc.ssl_channel_credentials(root_certificates=tls_cert)
    async with grpc.aio.secure_channel(host, credentials) as channel:
        answer = await lnrpc.LightningStub(channel).BakeMacaroon(
            bake_request(uris), metadata=(("macaroon", macaroon.hex()),), timeout=timeout_s
        )
    return bytes.fromhex(answer.macaroon)


def bake_request(uris: Sequence[str]) -> Any:
    """The `BakeMacaroonRequest` for these RPC URIs."""
    from lightning.stubs import ln

    return ln.BakeMacaroonRequest(permissions=[ln.MacaroonPermission(entity="uri", action=uri) for uri in uris])


def is_admin_macaroon(raw: bytes) -> bool:
    """Whether it may generate further macaroons: who can do that can do everything. Raises BadMacaroon."""
    return any(
        ("generate" in permission.actions if permission.entity == "macaroon" else _bakes_by_uri(permission))
        for permission in permissions_of(raw)
    )


def _bakes_by_uri(permission: Permission) -> bool:
    return permission.entity == "uri" and "/lnrpc.Lightning/BakeMacaroon" in permission.actions


def permissions_of(raw: bytes) -> tuple[Permission, ...]:
    """What LND wrote into the macaroon's identifier; caveats may narrow it. Raises BadMacaroon."""
    identifier = _identifier(raw)
    if not identifier or identifier[0] != BAKERY_VERSION:
        raise BadMacaroon("the identifier is not of bakery version 3")
    ops = (value for number, value in _fields(identifier[1:]) if number == OPS_FIELD)
    return tuple(_permission(op) for op in ops)


def _permission(op: bytes) -> Permission:
    fields = tuple(_fields(op))
    try:
        entity = next((value.decode() for number, value in fields if number == 1), "")
        return Permission(entity, tuple(value.decode() for number, value in fields if number == 2))
    except UnicodeDecodeError as error:
        raise BadMacaroon("a permission is not text") from error


def _identifier(raw: bytes) -> bytes:
    if not raw or raw[0] != MACAROON_FORMAT_V2:
        raise BadMacaroon("not a binary macaroon of format 2")
    at = 1
    while at < len(raw) and raw[at] != 0:
        field, at = _varint(raw, at)
        value, at = _chunk(raw, at)
        if field == IDENTIFIER_FIELD:
            return value
    raise BadMacaroon("no identifier")


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protobuf message in which every field is bytes, text or a message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 != LENGTH_DELIMITED:
            raise BadMacaroon("an unexpected field in the identifier")
        value, at = _chunk(message, at)
        yield key >> 3, value


def _chunk(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _varint(data, at)
    if at + length > len(data):
        raise BadMacaroon("cut short")
    return data[at : at + length], at + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at
    raise BadMacaroon("cut short")
