"""Reading a macaroon's permissions, and what least privilege leaves out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning.macaroons import BadMacaroon, Permission, is_admin_macaroon, permissions_of
from lightning.permissions import GATEWAY_PERMISSIONS, WATCHER_PERMISSIONS


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _length(len(value)) + value


def _length(length: int) -> bytes:
    return bytes([length]) if length < 0x80 else bytes([length & 0x7F | 0x80, length >> 7])


def _macaroon(*permissions: tuple[str, list[str]]) -> bytes:
    ops = b"".join(
        _field(3, _field(1, entity.encode()) + b"".join(_field(2, action.encode()) for action in actions))
        for entity, actions in permissions
    )
    identifier = b"\x03" + _field(1, b"n" * 16) + _field(2, b"0") + ops
    return (
        b"\x02" + b"\x01\x03lnd" + b"\x02" + _length(len(identifier)) + identifier + b"\x00\x00\x06\x20" + b"s" * 32
    )  # fmt: skip


ADMIN = _macaroon(("invoices", ["read", "write"]), ("macaroon", ["generate", "read", "write"]))


def test_permissions_are_read() -> None:
    assert permissions_of(ADMIN) == (
        Permission("invoices", ("read", "write")),
        Permission("macaroon", ("generate", "read", "write")),
    )


def test_who_may_bake_is_admin() -> None:
    assert is_admin_macaroon(ADMIN)
    assert is_admin_macaroon(_macaroon(("uri", ["/lnrpc.Lightning/BakeMacaroon"])))


@pytest.mark.parametrize("uris", [GATEWAY_PERMISSIONS, WATCHER_PERMISSIONS])
def test_least_privilege_is_not_admin(uris: tuple[str, ...]) -> None:
    raw = _macaroon(("uri", list(uris)))
    assert not is_admin_macaroon(raw)
    assert permissions_of(raw) == (Permission("uri", uris),)


def test_reading_macaroons_is_not_generating_them() -> None:
    assert not is_admin_macaroon(_macaroon(("macaroon", ["read"]), ("offchain", ["generate"])))


def test_the_watcher_can_neither_pay_nor_create() -> None:
    assert set(WATCHER_PERMISSIONS) < set(GATEWAY_PERMISSIONS)
    assert not [uri for uri in WATCHER_PERMISSIONS if "Send" in uri or "Add" in uri or "Cancel" in uri]


@pytest.mark.parametrize("raw", [b"", b"\x01", b"\x02", b"\x02\x00", ADMIN[:40], ADMIN.hex().encode()])
def test_what_is_no_macaroon_is_refused(raw: bytes) -> None:
    with pytest.raises(BadMacaroon):
        is_admin_macaroon(raw)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        assert isinstance(is_admin_macaroon(b"\x02" + raw), bool)
    except BadMacaroon:
        return
