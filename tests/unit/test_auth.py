"""Tokens: what proves that a request comes from the API, and what proves nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pickle
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from se_server import auth, errors
from se_server.auth import TokenVerifier, key_fingerprint, sign_token, signing_secret, verify_speech_engine_jwt

KEY = "sk_6f1f4a32aa0b43d7"
OTHER_KEY = "sk_0000000000000001"
NOW = 1_800_000_000.0


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed(payload: object, *, header: object = None, key: str = KEY) -> str:
    """A token made by hand: what PyJWT would refuse to sign can be tested too."""
    head = json.dumps({"alg": "HS256", "typ": "JWT"} if header is None else header).encode()
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signing_input = f"{b64(head)}.{b64(body)}"
    return f"{signing_input}.{b64(hmac.digest(signing_secret(key), signing_input.encode(), hashlib.sha256))}"


def claims(**changes: Any) -> dict[str, Any]:
    return {"iss": auth.ISSUER, "sub": auth.SUBJECT, "iat": int(NOW), "exp": int(NOW) + 300, **changes}


def without(claim: str) -> dict[str, Any]:
    return {name: value for name, value in claims().items() if name != claim}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(clock: Clock) -> TokenVerifier:
    return TokenVerifier(KEY, clock=clock)


def refused(verifier: TokenVerifier, value: Any) -> errors.AuthenticationError:
    with pytest.raises(errors.AuthenticationError) as caught:
        verifier.verify(value)
    return caught.value


# --- what is accepted -----------------------------------------------------------------------------------------------


def test_valid_token_returns_its_claims(verifier: TokenVerifier) -> None:
    payload = claims(conversation_id="conv_1")
    assert verifier.verify(signed(payload)) == payload


@pytest.mark.parametrize("form", ["{}", "Bearer {}", "bearer {}", "BEARER   {}", "  bEaReR {}  ", "\t{}\r\n"])
def test_bearer_and_blanks_are_ignored(verifier: TokenVerifier, form: str) -> None:
    assert verifier.verify(form.format(signed(claims()))) == claims()


def test_sign_token_signs_what_the_verifier_accepts(verifier: TokenVerifier) -> None:
    token = sign_token(KEY, now=NOW, lifetime_s=10, conversation_id="conv_2")
    assert verifier.verify(token) == claims(exp=int(NOW) + 10, conversation_id="conv_2")
    assert "jti" not in jwt.decode(token, options={"verify_signature": False})
    assert isinstance(refused(verifier, sign_token(KEY, now=NOW, exp=None)), errors.ClaimMissing)
    assert verify_speech_engine_jwt(sign_token(KEY), KEY)["exp"] > time.time()


@pytest.mark.parametrize("key", [KEY, f" {KEY}\n", f"{KEY}_residency_eu", f"{KEY}_residency_in2 "])
def test_secret_is_the_digest_of_the_base_key(key: str) -> None:
    assert signing_secret(key) == hashlib.sha256(KEY.encode()).digest()


@pytest.mark.parametrize(
    "key", [f"{KEY}_residency_", f"{KEY}_residency_EU", f"{KEY}_residency_eu_x", f"x_residency_eu{KEY}_"]
)
def test_unknown_residency_suffix_belongs_to_the_key(key: str) -> None:
    assert signing_secret(key) == hashlib.sha256(key.encode()).digest()


def test_any_of_several_keys_may_have_signed(clock: Clock) -> None:
    verifier = TokenVerifier([OTHER_KEY, KEY, KEY], clock=clock)
    assert verifier.verify(signed(claims())) == claims()
    assert verifier.verify(signed(claims(), key=OTHER_KEY)) == claims()
    assert isinstance(refused(verifier, signed(claims(), key="sk_third")), errors.SignatureMismatch)


def test_a_mismatch_names_the_keys_that_exist(clock: Clock) -> None:
    """With several keys an operator sees which exist by their fingerprints, and never which one matched."""
    keys = [OTHER_KEY, KEY]
    verifier = TokenVerifier(keys, clock=clock)
    text = str(refused(verifier, signed(claims(), key="sk_third")))
    assert all(key_fingerprint(key) in text for key in keys)
    assert not any(key in text or signing_secret(key).hex()[:8] in text for key in keys)
    assert text == str(refused(TokenVerifier(keys[::-1], clock=clock), signed(claims(), key="sk_third")))
    assert "fingerprint" not in str(refused(TokenVerifier(KEY, clock=clock), signed(claims(), key="sk_third")))
    for key in keys:
        expired = str(refused(verifier, signed(claims(exp=NOW - 1000), key=key)))
        assert not any(key_fingerprint(each) in expired for each in keys)


def test_unknown_claims_are_ignored(verifier: TokenVerifier) -> None:
    payload = claims(aud="someone", nbf=NOW + 9999, jti=7)
    assert verifier.verify(signed(payload)) == payload


# --- what is refused, and why ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "outcome", "phrase"),
    [
        (None, errors.TokenMissing, "expected 3 parts"),
        ("", errors.TokenMissing, "expected 3 parts"),
        ("  ", errors.TokenMissing, "expected 3 parts"),
        ("Bearer ", errors.TokenMissing, "expected 3 parts"),
        ("nonsense", errors.TokenMalformed, "expected 3 parts"),
        (b"bytes", errors.TokenMalformed, "expected text"),
        ("a.b", errors.TokenMalformed, "expected 3 parts"),
        ("a.b.c.d", errors.TokenMalformed, "expected 3 parts"),
        ("a.b.c", errors.TokenMalformed, "failed to decode"),
        ("..", errors.TokenMalformed, "failed to decode"),
        ("é.b.c", errors.TokenMalformed, "ASCII"),
        ("a.\udc80.c", errors.TokenMalformed, "ASCII"),
        (signed(claims(), key=OTHER_KEY), errors.SignatureMismatch, "signature mismatch"),
        (signed(claims()) + "A", errors.SignatureMismatch, "signature mismatch"),
        (signed(claims()).rpartition(".")[0] + ".", errors.SignatureMismatch, "signature mismatch"),
        (signed(b"no json"), errors.TokenMalformed, "failed to decode"),
        (signed(b"no json", key=OTHER_KEY), errors.SignatureMismatch, "signature mismatch"),
        (signed(claims()).replace(".", "=."), errors.TokenMalformed, "base64url"),
        (signed(claims()).replace(".", ". "), errors.TokenMalformed, "base64url"),
        (signed([1]), errors.TokenMalformed, "failed to decode"),
        (signed(claims(iss="https://evil.example")), errors.WrongIssuer, "expected issuer"),
        (signed(without("iss")), errors.WrongIssuer, "expected issuer"),
        (signed(claims(iss=[auth.ISSUER])), errors.WrongIssuer, "expected issuer"),
        (signed(claims(sub="someone")), errors.WrongSubject, "expected subject"),
        (signed(claims(sub={})), errors.WrongSubject, "expected subject"),
        (signed(without("exp")), errors.ClaimMissing, "missing exp"),
        (signed(without("iat")), errors.ClaimMissing, "missing iat"),
        (signed(claims(exp=NOW - 61)), errors.TokenExpired, "expired"),
        (signed(claims(exp=-(10**300))), errors.TokenExpired, "expired"),
        (signed(claims(iat=NOW + 61)), errors.TokenFromFuture, "iat is in the future"),
    ],
)
def test_each_reason_is_an_exception_of_its_own(
    verifier: TokenVerifier, value: Any, outcome: type[errors.AuthenticationError], phrase: str
) -> None:
    error = refused(verifier, value)
    assert type(error) is outcome
    assert phrase in str(error)
    assert isinstance(error, ValueError)
    assert error.status == 401


@pytest.mark.parametrize("claim", ["exp", "iat"])
@pytest.mark.parametrize("value", [True, None, "1800000000", [1], float("nan"), float("inf"), float("-inf"), 10**400])
def test_times_must_be_finite_numbers(verifier: TokenVerifier, claim: str, value: Any) -> None:
    error = refused(verifier, signed(claims(**{claim: value})))
    assert type(error) is errors.ClaimMissing
    assert f"missing {claim}" in str(error)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "RS256"},
        {"alg": "HS384"},
        {"alg": "HS512"},
        {"alg": "hs256"},
        {"alg": ["HS256"]},
        {"alg": None},
        {"typ": "JWT"},
        {"alg": "HS256", "crit": ["b64"], "b64": False},
        {"alg": "HS256", "crit": ["exp"]},
        [],
        "HS256",
    ],
)
def test_only_hs256_is_accepted(verifier: TokenVerifier, header: object) -> None:
    token = signed(claims(), header=header)
    assert type(refused(verifier, token)) is errors.TokenMalformed
    assert type(refused(verifier, token.rpartition(".")[0] + ".")) is errors.SignatureMismatch


@pytest.mark.parametrize("alg", ["HS384", "HS512"])
def test_longer_hash_with_right_secret_is_refused(verifier: TokenVerifier, alg: str) -> None:
    with_right_secret = jwt.api_jws.encode(json.dumps(claims()).encode(), signing_secret(KEY) * 2, algorithm=alg)
    assert type(refused(verifier, with_right_secret)) is errors.SignatureMismatch


def test_order_of_the_checks_is_the_published_one(verifier: TokenVerifier) -> None:
    everything_wrong: dict[str, Any] = {"iss": "x", "sub": "x", "exp": None, "iat": None}
    assert type(refused(verifier, signed(everything_wrong, key=OTHER_KEY))) is errors.SignatureMismatch
    outcomes = []
    for fix in ({}, {"iss": auth.ISSUER}, {"sub": auth.SUBJECT}, {"exp": 0}, {"iat": NOW + 99}, {"exp": NOW}):
        everything_wrong.update(fix)
        outcomes.append((type(refused(verifier, signed(everything_wrong))).__name__, str(everything_wrong["exp"])))
    assert [name for name, _ in outcomes] == [
        "WrongIssuer",
        "WrongSubject",
        "ClaimMissing",
        "ClaimMissing",
        "TokenExpired",
        "TokenFromFuture",
    ]


@pytest.mark.parametrize(
    "body",
    [
        b'{"exp":' + b"[" * 5000 + b"}",
        b'{"exp":' + b"[" * 2500 + b"]" * 2500 + b"}",
        b'{"exp":' + b"9" * 5500 + b"}",
        b'{"exp":' + b"\xff" * 100 + b"}",
        b'{"exp":1e999}',
    ],
)
@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_hostile_payloads_are_refused_like_others(verifier: TokenVerifier, body: bytes, key: str) -> None:
    refused(verifier, signed(body, key=key))


def test_hostile_header_is_refused_like_others(verifier: TokenVerifier) -> None:
    token = f"{b64(b'[' * 1400)}.{b64(b'{}')}.{b64(b'x' * 32)}"
    assert type(refused(verifier, token)) is errors.SignatureMismatch


def test_token_of_2_kib_is_the_longest(verifier: TokenVerifier) -> None:
    longest = next(token for n in range(2048) if len(token := signed(claims(n="x" * n))) == 2048)
    for form in (longest, f"Bearer {longest}", f"Bearer {longest}".ljust(8192)):
        assert verifier.verify(form)["iat"] == NOW
    assert "2048" in str(refused(verifier, f"Bearer {longest}A"))
    assert "8192" in str(refused(verifier, longest.ljust(8193)))


@pytest.mark.parametrize(
    "token",
    [
        signed(claims(), key=OTHER_KEY),
        signed(claims(), header={"alg": "none"}).rpartition(".")[0] + ".",
        signed(b"[" * 1400, key=OTHER_KEY),
        signed(b'{"a":[' + b"1," * 600 + b"1]}", key=OTHER_KEY),
        signed(claims(), header={"alg": "HS256", "x": "[" * 1200}, key=OTHER_KEY),
        "." * 2048,
        "A" * 2048,
        signed(claims())[:-1],
        signed(claims())[:-1] + "=",
    ],
)
@pytest.mark.parametrize("count", [1, 2, 9])
def test_nothing_unsigned_is_decoded(token: str, count: int, decoded: list[object]) -> None:
    verifier = TokenVerifier([KEY, *(f"sk_further_{n}" for n in range(count - 1))], clock=Clock())
    refused(verifier, token)
    assert decoded == []


def test_ring_of_keys_decodes_a_token_once(decoded: list[object], clock: Clock) -> None:
    TokenVerifier([f"sk_further_{n}" for n in range(9)] + [KEY], clock=clock).verify(signed(claims()))
    assert len(decoded) == 1


def cost_ratio(slow: Callable[[], object], fast: Callable[[], object]) -> float:
    """Return how many times the CPU time of `fast` a call of `slow` takes, by the best of several rounds."""

    def cost_s(call: Callable[[], object]) -> float:
        rounds = []
        for _ in range(7):
            began = time.thread_time()
            for _ in range(200):
                call()
            rounds.append(time.thread_time() - began)
        return min(rounds)

    return cost_s(slow) / cost_s(fast)


@pytest.mark.parametrize("body", [b"[" * 1300, b'{"a":[' + b"1," * 600 + b"1]}", b'{"a":"' + b"x" * 1300 + b'"}'])
def test_wrong_token_costs_less_than_a_good_one(body: bytes) -> None:
    verifier = TokenVerifier([KEY, OTHER_KEY], clock=Clock(), cache_size=0)
    good, wrong = signed(claims(), key=OTHER_KEY), signed(body, key="sk_third")
    assert cost_ratio(lambda: refused(verifier, wrong), lambda: verifier.verify(good)) < 1.0


@pytest.mark.parametrize("remembered", [False, True])
def test_any_mutated_character_is_refused(verifier: TokenVerifier, remembered: bool) -> None:
    token = signed(claims())
    if remembered:
        verifier.verify(token)
    for position, original in enumerate(token):
        # Its neighbours in the alphabet differ in the lowest bits only: the last one of the signature means nothing.
        for other in {chr(ord(original) ^ 1), chr(ord(original) + 1), chr(ord(original) - 1), "A", "_", "=", " ", "."}:
            if other != original:
                refused(verifier, token[:position] + other + token[position + 1 :])
    assert verifier.verify(token) == claims()


@settings(max_examples=300)
@given(st.data())
def test_any_mutation_is_refused(data: st.DataObject) -> None:
    token = signed(claims())
    verifier = TokenVerifier(KEY, clock=Clock())
    position = data.draw(st.integers(0, len(token) - 1))
    replacement = data.draw(st.text(max_size=2).filter(lambda text: text != token[position]))
    mutated = token[:position] + replacement + token[position + 1 :]
    if mutated.strip() != token:
        refused(verifier, mutated)


@settings(max_examples=300)
@given(
    st.text(max_size=300)
    | st.lists(st.binary(max_size=60), min_size=3, max_size=3).map(lambda p: ".".join(map(b64, p)))
)
def test_any_text_is_refused_with_a_reason(value: str) -> None:
    refused(TokenVerifier(KEY, clock=Clock()), value)


@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from(["iss", "sub", "exp", "iat"]), st.none() | st.integers() | st.floats() | st.text()),
)
def test_any_signed_payload_is_accepted_or_refused(changes: dict[str, Any]) -> None:
    verifier = TokenVerifier(KEY, clock=Clock())
    payload = claims(**changes)
    try:
        assert verifier.verify(signed(payload)) == payload
    except errors.AuthenticationError:
        assert changes


# --- the clock ------------------------------------------------------------------------------------------------------


def test_leeway_is_60_s_on_either_side(verifier: TokenVerifier, clock: Clock) -> None:
    token = signed(claims(exp=NOW + 300, iat=NOW))
    for now in (NOW - 60, NOW, NOW + 300, NOW + 360):
        clock.now = now
        verifier.verify(token)
        TokenVerifier(KEY, clock=clock).verify(token)
    for now, outcome in ((NOW - 60.5, errors.TokenFromFuture), (NOW + 360.5, errors.TokenExpired)):
        clock.now = now
        assert type(refused(TokenVerifier(KEY, clock=clock), token)) is outcome


def test_remembered_token_expires_and_is_forgotten(verifier: TokenVerifier, clock: Clock) -> None:
    token = signed(claims())
    verifier.verify(token)
    assert "remembered=1" in repr(verifier)
    clock.now = NOW + 361
    assert type(refused(verifier, token)) is errors.TokenExpired
    assert "remembered=0" in repr(verifier)


def test_cached_token_is_refused_after_clock_steps_back(verifier: TokenVerifier, clock: Clock) -> None:
    token = signed(claims())
    verifier.verify(token)
    clock.now = NOW - 61
    assert type(refused(verifier, token)) is errors.TokenFromFuture


# --- remembering ----------------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The tokens that PyJWT was asked to decode."""
    calls: list[object] = []
    decode = jwt.decode

    def counting(token: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(token)
        return decode(token, *args, **kwargs)

    monkeypatch.setattr(jwt, "decode", counting)
    return calls


def test_verified_token_is_decoded_once(verifier: TokenVerifier, decoded: list[object]) -> None:
    token = signed(claims())
    for form in (token, f"Bearer {token}", f"  bearer {token} "):
        verifier.verify(form)
    assert decoded == [token.encode()]


def test_refusals_are_not_remembered(verifier: TokenVerifier, decoded: list[object]) -> None:
    for token in (signed(claims(sub="x")), signed(claims(exp=0))):
        refused(verifier, token)
        before = len(decoded)
        refused(verifier, token)
        assert len(decoded) > before
    refused(verifier, signed(claims(), key=OTHER_KEY))
    assert "remembered=0" in repr(verifier)


def test_token_cache_drops_the_least_recently_used(clock: Clock, decoded: list[object]) -> None:
    verifier = TokenVerifier(KEY, clock=clock, cache_size=3)
    tokens = [signed(claims(n=n)) for n in range(4)]
    for n in (0, 1, 2, 0, 3):  # 1 is now the one not seen for longest
        verifier.verify(tokens[n])
    assert "remembered=3" in repr(verifier)
    decoded.clear()
    for n in (0, 2, 3):
        verifier.verify(tokens[n])
    assert decoded == []
    verifier.verify(tokens[1])
    assert decoded == [tokens[1].encode()]


def test_cache_size_zero_remembers_nothing(clock: Clock) -> None:
    verifier = TokenVerifier(KEY, clock=clock, cache_size=0)
    verifier.verify(signed(claims()))
    assert "remembered=0" in repr(verifier)


def test_caller_cannot_change_what_is_remembered(verifier: TokenVerifier) -> None:
    token = signed(claims())
    verifier.verify(token)["sub"] = "changed"
    assert verifier.verify(token) == claims()


# --- keys and secrets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["", "  ", [], (), [KEY, " "], "_residency_eu", [b"sk_x"], b"sk_x", [None]])
def test_missing_or_blank_key_is_refused_at_start(keys: Any) -> None:
    with pytest.raises(errors.ConfigError):
        TokenVerifier(keys)


def test_no_secret_shows_in_texts(verifier: TokenVerifier) -> None:
    secret = signing_secret(KEY)
    token = signed(claims(iss="x"), key=OTHER_KEY)
    shown = [repr(verifier), str(verifier)]
    for value in (token, f"Bearer {signed(claims(sub='x' * 500))}", "a.b.c", "Bearer " + "t0ken" * 2000):
        error = refused(verifier, value)
        shown += [str(error), repr(error), repr(error.args), repr(error.__context__), repr(error.__cause__)]
        shown.append(repr(pickle.loads(pickle.dumps(error))))
    with pytest.raises(errors.ConfigError) as caught:
        signing_secret(f"{KEY}\udcff")
    shown += [str(caught.value), repr(caught.value.__context__)]
    for text in shown:
        for forbidden in (KEY, OTHER_KEY, repr(secret), secret.hex(), token, "x" * 100, "t0ken"):
            assert forbidden not in text


def test_peers_text_cannot_forge_a_log_line(verifier: TokenVerifier) -> None:
    assert "\n" not in str(refused(verifier, signed(claims(iss="x\nWARNING forged\x1b[0m"))))
