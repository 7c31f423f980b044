"""What a handshake pays for its token: one seen before, and one seen for the first time."""

from __future__ import annotations

from itertools import count

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from se_server.auth import TokenVerifier, sign_token

API_KEY = "sk_bench_0123456789abcdef"
FRESH_TOKENS = 2000


@pytest.mark.benchmark(group="token")
def test_token_seen_before(benchmark: BenchmarkFixture) -> None:
    verifier = TokenVerifier(API_KEY)
    token = sign_token(API_KEY)
    claims = verifier.verify(token)
    assert benchmark(verifier.verify, token) == claims


@pytest.mark.benchmark(group="token")
def test_token_seen_for_the_first_time(benchmark: BenchmarkFixture) -> None:
    verifier = TokenVerifier(API_KEY)
    number = count()

    def fresh_token() -> tuple[tuple[str], dict[str, str]]:
        return (sign_token(API_KEY, conversation=next(number)),), {}

    claims = benchmark.pedantic(verifier.verify, setup=fresh_token, rounds=FRESH_TOKENS)  # type: ignore[no-untyped-call]
    assert claims["conversation"] == next(number) - 1
