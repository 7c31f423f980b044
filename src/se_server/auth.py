"""Token authentication: the HS256 token that the Speech Engine API signs every WebSocket upgrade with.

The signature is compared over the bytes as they came, before anything is decoded: a stranger's token costs one HMAC
for each key, whatever its parts hold. PyJWT then reads the signed token. The claims are checked here, because each
failure is an outcome of its own (`errors.py`) and both the order and the leeway are the protocol's, not PyJWT's. A
verified token is remembered by its digest: reconnecting callers present the same one, and PyJWT costs some 25 us a
token, a remembered one 1 us.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from se_server.errors import (
    AuthenticationError,
    ClaimMissing,
    ConfigError,
    SignatureMismatch,
    TokenExpired,
    TokenFromFuture,
    TokenMalformed,
    TokenMissing,
    WrongIssuer,
    WrongSubject,
)

AUTHORIZATION_HEADER = "X-Elevenlabs-Speech-Engine-Authorization"
ISSUER = "https://api.elevenlabs.io/convai/speech-engine"
SUBJECT = "convai_speech_engine_upstream"
LEEWAY_S = 60
FINGERPRINT_CHARS = 8
MAX_HEADER_CHARS = 8192  # a usual limit of proxies for one header line
MAX_TOKEN_CHARS = 2048  # the API's tokens have about 250 characters

_ALGORITHMS = ["HS256"]
_RESIDENCY_SUFFIX = re.compile(r"_residency_[a-z0-9]+\Z")
_BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_BASE64URL = bytes.maketrans(b"+/", b"-_")
_BLOCK_BYTES = 64  # of SHA-256, as in RFC 2104
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))
# PyJWT verifies the signature; the claims are checked here.
_SIGNATURE_ONLY: Any = {
    "verify_signature": True,
    **{f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")},
}


def signing_secret(api_key: str) -> bytes:
    """Return the 32-byte secret that the API signs with for `api_key`.

    It is the SHA-256 digest of the key without surrounding blanks and without a data-residency suffix.

    Raises:
        ConfigError: the key is not text, or nothing is left of it.
    """
    if not isinstance(api_key, str):
        raise ConfigError(f"an API key must be a string, not {type(api_key).__name__}")
    base_key = _RESIDENCY_SUFFIX.sub("", api_key.strip())
    if not base_key:
        raise ConfigError("the API key is blank: without one no request can be verified")
    try:
        encoded = base_key.encode()
    except UnicodeEncodeError:
        encoded = b""
    if not encoded:  # raised outside of `except`, which would attach the key to the exception as its context
        raise ConfigError("the API key is not valid text: it holds bytes that are not UTF-8")
    return hashlib.sha256(encoded).digest()


class _Signer:
    """Signs as HS256 does. The hashed key is kept, which makes a signature cost half of `hmac.digest`.

    Args:
        secret: at most 64 bytes.
    """

    __slots__ = ("_inner", "_outer", "secret")

    def __init__(self, secret: bytes) -> None:
        block = secret.ljust(_BLOCK_BYTES, b"\0")
        self.secret = secret
        self._inner = hashlib.sha256(block.translate(_INNER_PAD))
        self._outer = hashlib.sha256(block.translate(_OUTER_PAD))

    def signature(self, data: bytes) -> bytes:
        """Return the signature of `data`, in the form in which a token has it."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return binascii.b2a_base64(outer.digest(), newline=False).translate(_TO_BASE64URL, b"=")


def key_fingerprint(api_key: str) -> str:
    """Return 8 characters that tell API keys apart in a log; the key cannot be found from them.

    Raises:
        ConfigError: the key is blank.
    """
    return _fingerprint(signing_secret(api_key))


def _fingerprint(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()[:FINGERPRINT_CHARS]


class TokenVerifier:
    """Verifies the tokens of incoming requests against one or several API keys.

    Args:
        api_keys: the key, or several of them while keys are rotated; a token signed by any of them is good.
        clock: seconds since the epoch.
        cache_size: how many verified tokens are remembered (the least recently used goes first); 0 remembers none.
            Refusals are never remembered, and a remembered token is measured against the clock each time.

    Raises:
        ConfigError: there is no key, or one is blank.
    """

    __slots__ = ("_cache_size", "_clock", "_signers", "_verified")

    def __init__(
        self,
        api_keys: str | Sequence[str],
        *,
        clock: Callable[[], float] = time.time,
        cache_size: int = 4096,
    ) -> None:
        import jwt  # noqa: F401  # so that the first request does not wait for it

        keys = [api_keys] if isinstance(api_keys, (str, bytes)) else list(api_keys)
        if not keys:
            raise ConfigError("there is no API key: without one no request can be verified")
        self._signers = [_Signer(secret) for secret in dict.fromkeys(signing_secret(key) for key in keys)]
        self._clock = clock
        self._cache_size = cache_size
        # Keyed by the token's digest, so that no usable token lies in memory. Only single, atomic operations touch
        # it: adapters may verify from worker threads.
        self._verified: OrderedDict[bytes, tuple[float, float, dict[str, Any]]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<TokenVerifier keys={len(self._signers)} remembered={len(self._verified)}>"

    def verify(self, header_value: str | None) -> dict[str, Any]:
        """Return the claims of the token in `header_value`, in a dict of the caller's own.

        Args:
            header_value: the authorization header's value, None where the request has no such header.

        Raises:
            AuthenticationError: the token proves nothing; the subclass says why. No text holds the token or a key.
        """
        token = _token_of(header_value)
        digest = hashlib.blake2b(token, digest_size=32).digest()  # half the instructions of SHA-256 without an engine
        known = self._verified.pop(digest, None)
        if known is None:
            payload = self._decode(token)
            known = (*_check_claims(payload), payload)
        expires_at, issued_at, payload = known
        self._check_clock(expires_at, issued_at)
        self._verified[digest] = known
        if len(self._verified) > self._cache_size:
            self._verified.popitem(last=False)
        return payload.copy()

    def _check_clock(self, expires_at: float, issued_at: float) -> None:
        now = self._clock()
        if expires_at + LEEWAY_S < now:
            raise TokenExpired(f"Invalid JWT: token has expired {now - expires_at:.0f} s ago")
        if issued_at - LEEWAY_S > now:
            raise TokenFromFuture(f"Invalid JWT: iat is in the future by {issued_at - now:.0f} s")

    def _decode(self, token: bytes) -> dict[str, Any]:
        """Return the payload of a token that one of the keys has signed; decode no other."""
        signed, _, signature = token.rpartition(b".")
        dots = token.count(b".")
        if dots != 2:
            raise TokenMalformed(f"Invalid JWT: expected 3 parts, got {dots + 1}")
        lengths = signed.index(b"."), len(signed) - signed.index(b".") - 1, len(signature)
        # No base64 has one character more than a multiple of four.
        if token.translate(None, _BASE64URL) != b".." or 0 in lengths[:2] or any(length % 4 == 1 for length in lengths):
            raise TokenMalformed("Invalid JWT: failed to decode it (its parts are not base64url)")
        for signer in self._signers:
            # The text is compared: the two unused bits of its last character would allow four spellings.
            if hmac.compare_digest(signer.signature(signed), signature):
                return _payload_of(token, signer.secret)
        raise SignatureMismatch(
            "Invalid JWT: signature mismatch: the API key here must be the one of the account that owns the engine"
            + self._known_keys()
        )

    def _known_keys(self) -> str:
        """Return the fingerprints of several keys, as the end of a sentence; nothing of a single one."""
        if len(self._signers) < 2:
            return ""
        prints = sorted(_fingerprint(signer.secret) for signer in self._signers)  # their order tells nothing
        return f"; the {len(prints)} keys here have the fingerprints {', '.join(prints)}"


def _payload_of(token: bytes, secret: bytes) -> dict[str, Any]:
    import jwt  # with its cryptography it takes 30 ms, which programs without a verifier need not spend

    try:
        payload: dict[str, Any] = jwt.decode(token, secret, _ALGORITHMS, options=_SIGNATURE_ONLY)
    except jwt.InvalidAlgorithmError:
        reason = "only the algorithm HS256 is accepted"
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        # ValueError: integers of thousands of digits. RecursionError: JSON nested thousands of levels deep.
        reason = f"failed to decode it ({type(error).__name__})"
    else:
        return payload
    raise TokenMalformed(f"Invalid JWT: {reason}")


def verify_speech_engine_jwt(value: str, api_key: str | Sequence[str]) -> dict[str, Any]:
    """Return the claims of a token; a drop-in for the published SDK's function.

    Nothing is remembered between calls: who verifies many keeps a `TokenVerifier`.

    Raises:
        AuthenticationError: (a `ValueError`) the token proves nothing; its text says why.
        ConfigError: (a `ValueError`) the key is blank.
    """
    return TokenVerifier(api_key, cache_size=0).verify(value)


def sign_token(api_key: str, *, now: float | None = None, lifetime_s: float = 300, **claims: Any) -> str:
    """Return a token as the API would sign it for `api_key`.

    Args:
        now: `iat` in seconds since the epoch; the present by default.
        lifetime_s: `exp` lies this far after `now`.
        claims: further claims, or other values for the standard ones; None leaves a claim out.

    Raises:
        ConfigError: the key is blank.
    """
    import jwt

    issued_at = int(time.time() if now is None else now)
    payload = {"iss": ISSUER, "sub": SUBJECT, "iat": issued_at, "exp": issued_at + int(lifetime_s), **claims}
    present = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(present, signing_secret(api_key), algorithm="HS256")


def _token_of(header_value: str | None) -> bytes:
    """Strip a header value to the bare token, in ASCII and of bounded size."""
    if not header_value:
        raise TokenMissing("Invalid JWT: expected 3 parts, got no token at all")
    if not isinstance(header_value, str):
        raise TokenMalformed(f"Invalid JWT: expected text, got {type(header_value).__name__}")
    if len(header_value) > MAX_HEADER_CHARS:
        raise TokenMalformed(f"Invalid JWT: its header is longer than {MAX_HEADER_CHARS} characters")
    token = header_value.strip()
    if token[:7].lower() == "bearer ":
        token = token[7:].lstrip()
    if not token or (len(token) == 6 and token.lower() == "bearer"):
        raise TokenMissing("Invalid JWT: expected 3 parts, got no token at all")
    if len(token) > MAX_TOKEN_CHARS:
        raise TokenMalformed(f"Invalid JWT: longer than {MAX_TOKEN_CHARS} characters")
    if not token.isascii():
        raise TokenMalformed("Invalid JWT: characters other than ASCII")
    return token.encode("ascii")


def _check_claims(payload: dict[str, Any]) -> tuple[float, float]:
    """Check everything that needs no clock and return (`exp`, `iat`) in seconds since the epoch."""
    if payload.get("iss") != ISSUER:
        raise WrongIssuer(f'Invalid JWT: expected issuer "{ISSUER}", got {_shown(payload.get("iss"))}')
    if payload.get("sub") != SUBJECT:
        raise WrongSubject(f'Invalid JWT: expected subject "{SUBJECT}", got {_shown(payload.get("sub"))}')
    return _number(payload, "exp"), _number(payload, "iat")


def _number(payload: dict[str, Any], claim: str) -> float:
    value = payload.get(claim)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
        if math.isfinite(seconds):
            return seconds
    raise ClaimMissing(f"Invalid JWT: missing {claim} claim, which must be a finite number")


def _shown(value: object) -> str:
    """Format a claim for the log: bounded, and without characters that could forge a line."""
    return ascii(value[:80]) if isinstance(value, str) else type(value).__name__


__all__ = [
    "AUTHORIZATION_HEADER",
    "AuthenticationError",
    "TokenVerifier",
    "sign_token",
    "signing_secret",
    "verify_speech_engine_jwt",
]
