"""The cost of a handshake's token: seen before, and for the first time; next to PyJWT and the published SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jwt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from se_server.auth import ISSUER, LEEWAY_S, SUBJECT, TokenVerifier, sign_token, signing_secret

API_KEY = "sk_bench_0123456789abcdef"
SECRET = signing_secret(API_KEY)


def by_pyjwt(token: str) -> dict[str, Any]:
    """Every check that PyJWT offers for a token of the API."""
    claims: dict[str, Any] = jwt.decode(
        token, SECRET, ["HS256"], issuer=ISSUER, subject=SUBJECT, leeway=LEEWAY_S, options={"require": ["exp", "iat"]}
    )
    return claims


def by_the_published_sdk(token: str) -> dict[str, Any]:
    published = pytest.importorskip("elevenlabs.speech_engine")
    claims: dict[str, Any] = published.verify_speech_engine_jwt(token, API_KEY)
    return claims


VERIFIERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "ours, seen before": TokenVerifier(API_KEY).verify,
    "ours": TokenVerifier(API_KEY, cache_size=0).verify,
    "PyJWT": by_pyjwt,
    "published SDK": by_the_published_sdk,
}


@pytest.mark.parametrize("verifier", VERIFIERS)
@pytest.mark.benchmark(group="token")
def test_token(benchmark: BenchmarkFixture, verifier: str) -> None:
    token = sign_token(API_KEY)
    verify = VERIFIERS[verifier]
    assert verify(token) == jwt.decode(token, SECRET, ["HS256"])
    benchmark(verify, token)
