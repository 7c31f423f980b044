"""The limit on failed handshakes of a client address."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from se_server.server.door.clients import UNKNOWN_CLIENT, Client, client_named
from se_server.server.door.failures import MAX_ADDRESSES, FailureLimit


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def failed(limit: FailureLimit, name: str, times: int) -> list[bool]:
    return [limit.fail(client_named(name)) for _ in range(times)]


def test_failures_within_the_rate_are_not_limited(clock: Clock) -> None:
    limit = FailureLimit(3, clock)
    for _ in range(20):
        assert failed(limit, "192.0.2.1:5", 3) == [False] * 3
        clock.now_s += 1


def test_more_failures_are_limited_until_time_passes(clock: Clock) -> None:
    limit = FailureLimit(3, clock)
    assert failed(limit, "192.0.2.1:5", 5) == [False, False, False, True, True]
    clock.now_s += 0.34
    assert failed(limit, "192.0.2.1:6", 2) == [False, True]
    clock.now_s += 100
    assert failed(limit, "192.0.2.1:7", 4) == [False, False, False, True]


def test_rate_below_one_allows_one_failure(clock: Clock) -> None:
    limit = FailureLimit(0.1, clock)
    assert failed(limit, "192.0.2.1", 2) == [False, True]
    clock.now_s += 10.1
    assert failed(limit, "192.0.2.1", 2) == [False, True]


def test_addresses_are_counted_apart(clock: Clock) -> None:
    limit = FailureLimit(1, clock)
    for name in ("192.0.2.1:5", "192.0.2.2:5", "[2001:db8:0:1::1]:5", "[2001:db8:0:2::1]:5"):
        assert failed(limit, name, 2) == [False, True]
    assert [limit.fail(UNKNOWN_CLIENT) for _ in range(2)] == [False, True]


def test_ipv6_addresses_of_one_network_count_as_one(clock: Clock) -> None:
    limit = FailureLimit(2, clock)
    found = [limit.fail(Client(ip_address(f"2001:db8::{n:x}:1"), "")) for n in range(1, 1000)]
    assert found == [False, False] + [True] * 997
    assert len(limit) == 1


def test_mapped_address_is_that_of_ipv4(clock: Clock) -> None:
    limit = FailureLimit(1, clock)
    assert failed(limit, "192.0.2.1:5", 1) + failed(limit, "[::ffff:192.0.2.1]:5", 1) == [False, True]


def test_number_of_addresses_is_bounded(clock: Clock) -> None:
    limit = FailureLimit(1, clock)
    for n in range(3 * MAX_ADDRESSES):
        limit.fail(Client(ip_address(n), ""))
    assert len(limit) == MAX_ADDRESSES
    assert limit.fail(Client(ip_address(3 * MAX_ADDRESSES - 1), ""))  # the latest are remembered
