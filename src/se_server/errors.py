"""Every exception se-server raises, as one tree: catch `SpeechEngineError` for all of it.

Each class is one outcome, so that callers branch on types and never on texts. No message ever holds a secret.
"""

from __future__ import annotations

import re

_KEY = re.compile(r"\b(?:sk_[\w-]{8,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)", re.ASCII)
"""API keys and tokens, which may have been given in the place of another value."""


def without_keys(text: str) -> str:
    """Return a text without API keys and tokens, for outputs that repeat what the user has given."""
    return _KEY.sub("***", text)


class SpeechEngineError(Exception):
    """The root of every exception raised by se-server."""


# --- the wire -------------------------------------------------------------------------------------------------------


class MessageError(SpeechEngineError, ValueError):
    """A message that breaks JSON or the protocol.

    Attributes:
        reason: the error, without the offset.
        offset: its position, in bytes from the start of the message.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"{reason} at byte {offset}")
        self.reason = reason
        self.offset = offset

    def __reduce__(self) -> tuple[type[MessageError], tuple[str, int]]:
        return type(self), (self.reason, self.offset)


class InvalidUtf8(MessageError):
    """A message whose bytes are not UTF-8."""


class PeerError(SpeechEngineError):
    """An `error` message sent by the API; its text is the exception's."""


# --- sessions -------------------------------------------------------------------------------------------------------


class SessionClosed(SpeechEngineError, RuntimeError):
    """A session that is closed was used."""


class WrongThread(SpeechEngineError, RuntimeError):
    """A session was called from a thread other than its event loop's."""


class TooManyStrayHandlers(SpeechEngineError):
    """A turn was not started because too many cancelled handlers of the session are still running."""


class HandlerMistake(SpeechEngineError):
    """A handler did something that has no effect, such as returning its answer; the text shows the right form."""


class TurnTimeout(SpeechEngineError, TimeoutError):
    """A turn took longer than `turn_timeout_s`; its handler was cancelled."""


class AnswerTooLong(SpeechEngineError):
    """An answer had more than `max_answer_bytes`; it was cut there."""


class StreamFailed(SpeechEngineError):
    """A stream reported that its answer failed; the text is the provider's own message.

    Attributes:
        kind: `error`: the provider failed; `incomplete`: it stopped early; `blocked`: a filter held the whole answer
            back; `malformed`: the bytes are no stream of events; `refusal`: the model refused, and refusals are not
            spoken.
        code: the provider's code, status or reason, None without one.
    """

    def __init__(self, message: str, *, kind: str = "error", code: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code


class UnknownStreamError(SpeechEngineError):
    """A stream gave events of no known API and no text; the text names them and the way out."""


class UnsupportedWebSocket(SpeechEngineError, TypeError):
    """`create_session` was given an object that is not a known WebSocket."""


# --- authentication: one class per reason inside, one 401 outside ---------------------------------------------------


class AuthenticationError(SpeechEngineError, ValueError):
    """A token that does not prove that the request comes from the Speech Engine API."""

    status = 401


class TokenMissing(AuthenticationError):
    """The request carries no token."""


class TokenMalformed(AuthenticationError):
    """The token is not a JWT, or does not use HS256."""


class SignatureMismatch(AuthenticationError):
    """The token was signed with another key."""


class WrongIssuer(AuthenticationError):
    """The token's `iss` is not the Speech Engine API."""


class WrongSubject(AuthenticationError):
    """The token's `sub` is not a Speech Engine upstream connection."""


class ClaimMissing(AuthenticationError):
    """The token has no `exp` or no `iat`, or one that is not a number."""


class TokenExpired(AuthenticationError):
    """The token's `exp` has passed, leeway included."""


class TokenFromFuture(AuthenticationError):
    """The token's `iat` lies ahead, leeway included: one of the two clocks is wrong."""


# --- configuration and start ----------------------------------------------------------------------------------------


class ConfigError(SpeechEngineError, ValueError):
    """An option that is unknown or whose value is not valid; the text names it and the way out."""

    def __init__(self, message: str) -> None:
        super().__init__(without_keys(message))


class KeyMissing(ConfigError, RuntimeError):
    """A server that verifies tokens has no API key; also a `RuntimeError`, as in the published SDK."""


class AppError(SpeechEngineError):
    """The user's application could not be loaded or started; the text names it and the way out."""

    def __init__(self, message: str) -> None:
        super().__init__(without_keys(message))


# --- the REST API ---------------------------------------------------------------------------------------------------


class ApiError(SpeechEngineError):
    """The REST API answered with an error.

    Attributes:
        status_code: the HTTP status.
        body: the decoded body: JSON if it was JSON, else text.
        request_id: the API's id of the request, for support; None when it sent none.
    """

    def __init__(self, message: str, *, status_code: int, body: object = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.body = body
        self.request_id = request_id


class BadRequest(ApiError):
    """400: the request is malformed."""


class Unauthorized(ApiError):
    """401: the API key is missing or wrong."""


class Forbidden(ApiError):
    """403: the API key may not do this."""


class NotFound(ApiError):
    """404: there is no such resource."""


class Conflict(ApiError):
    """409: the resource is in a state that does not allow this."""


class UnprocessableEntity(ApiError):
    """422: values of the request were refused; `body` names them."""


class RateLimited(ApiError):
    """429: too many requests."""


class ApiServerError(ApiError):
    """5xx: the API failed."""


class ApiConnectionError(SpeechEngineError):
    """The REST API could not be reached."""


class ApiTimeout(ApiConnectionError):
    """The REST API did not answer in time."""


# --- the simulator --------------------------------------------------------------------------------------------------


class CallerError(SpeechEngineError):
    """The simulated caller could not connect, or waited in vain; the text names the way out.

    Attributes:
        status: the HTTP status that refused the connection; None for any other failure.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class LoadError(SpeechEngineError):
    """A load generator could not start, died, or hangs; the text says which, and the way out."""


class ScriptError(SpeechEngineError, ValueError):
    """A conversation script that cannot be read; the text names the file, the step and the key."""


class VirtualTimeError(SpeechEngineError):
    """Virtual time does not work on this loop, or cannot go on; the text gives the reason."""
