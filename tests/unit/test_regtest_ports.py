"""Ports: on loopback, outside the ephemeral range, never one in use."""

from __future__ import annotations

import socket

import pytest

from lightning.regtest.ports import NoFreePorts, candidate_ports, choose_ports, parse_ephemeral, port_is_free


def test_the_kernel_range_includes_both_ends() -> None:
    assert parse_ephemeral("32768\t60999\n") == range(32768, 61000)


@pytest.mark.parametrize(
    ("ephemeral", "lowest", "highest"),
    [
        (range(32768, 61000), 20000, 29999),
        (range(25000, 65536), 20000, 24999),
        (range(15000, 65536), 10000, 14999),
        (range(1024, 65536), 20000, 29999),
    ],
)
def test_candidates_avoid_the_ephemeral_range_if_at_all_possible(ephemeral: range, lowest: int, highest: int) -> None:
    candidates = candidate_ports(ephemeral)
    assert (min(candidates), max(candidates)) == (lowest, highest)


def test_chosen_ports_are_different_and_free() -> None:
    ports = choose_ports(7)
    assert len(set(ports)) == 7
    assert all(port_is_free(port) for port in ports)


def test_a_taken_port_is_never_chosen() -> None:
    asked: list[int] = []

    def only_even(port: int) -> bool:
        asked.append(port)
        return port % 2 == 0

    ports = choose_ports(20, is_free=only_even)
    assert all(port % 2 == 0 for port in ports)
    assert any(port % 2 for port in asked)


def test_a_listener_makes_its_port_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert not port_is_free(listener.getsockname()[1])


def test_too_few_free_ports_is_said() -> None:
    with pytest.raises(NoFreePorts, match="7 free ports are needed, 0 were found"):
        choose_ports(7, is_free=lambda _: False)
