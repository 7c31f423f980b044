"""Compare the stored settings of a Speech Engine with the server under examination. Sans-IO."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from se_server.address import Address, AddressError
from se_server.conversation.settings import DEFAULT_SETTINGS
from se_server.doctor.results import Finding, State, shown_s

MIN_CASCADE_S, MAX_CASCADE_S = 2, 15
HOLD_AFTER_S = DEFAULT_SETTINGS.hold_after_s or 0.0
NARROW = 0.6  # of the cascade timeout: a first word that is this late will be too late now and then

# The API accepts only these models for English, and their multilingual counterparts only for other languages.
ENGLISH_MODELS = ("eleven_flash_v2", "eleven_turbo_v2")
MULTILINGUAL_MODELS = ("eleven_flash_v2_5", "eleven_turbo_v2_5")

TUNNELS = ("ngrok.io", "ngrok.app", "ngrok.dev", "ngrok-free.app", "ngrok-free.dev", "trycloudflare.com", "loca.lt",
           "localhost.run", "lhr.life", "serveo.net", "devtunnels.ms")  # fmt: skip
NO_UPGRADE = ("vercel.app", "netlify.app", "lambda-url.on.aws", "on.aws", "pages.dev", "github.io")


@dataclass(frozen=True)
class Change:
    """A change of an engine that `--fix` can make: it neither moves the engine nor changes how it sounds.

    Attributes:
        what: the change, for people.
        fields: the keywords of `speech_engine.update`.
    """

    what: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class EngineFinding(Finding):
    """The result of one comparison.

    Attributes:
        call: the call that makes the change, as Python; empty when there is none.
        change: the change, if it is safe to make it.
    """

    call: str = ""
    change: Change | None = None


def address_of(engine: Mapping[str, Any]) -> Address | None:
    """Return the address at which the API reaches the engine's server; None without a usable one."""
    try:
        return Address.of(str(_part(engine, "speech_engine").get("ws_url") or ""))
    except AddressError:
        return None


def header_texts(engine: Mapping[str, Any]) -> dict[str, str]:
    """Return the request headers whose values the engine has as texts; secrets and variables are not among them."""
    return {name: value for name, value in _headers(engine).items() if isinstance(value, str)}


def compare(engine: Mapping[str, Any], *, requires: Mapping[str, str], first_word_s: float) -> Iterator[EngineFinding]:
    """Compare an engine with what is known of its server.

    Args:
        engine: the engine as the API returns it.
        requires: the headers that the server was given in this examination, by name.
        first_word_s: the silence before the server's answers, in seconds; 0 if it is not known.
    """
    engine_id = str(engine.get("speech_engine_id", ""))
    yield from _address(engine, engine_id)
    yield _request_headers(engine, engine_id, requires)
    yield _cascade(engine, engine_id, first_word_s)
    yield _first_message(engine, engine_id)
    yield _voice(engine, engine_id)


def _address(engine: Mapping[str, Any], engine_id: str) -> Iterator[EngineFinding]:
    url = _part(engine, "speech_engine").get("ws_url")
    call = _call(engine_id, "speech_engine={'ws_url': 'wss://your.host/ws'}")
    if not url:
        stray = engine.get("ws_url")
        why = "the engine has no ws_url" + (": it is at the wrong level of the body, and ignored" if stray else "")
        yield _finding("ws_url", State.FAIL, why, "put it into speech_engine", call)
        return
    try:
        address = Address.of(str(url))
    except AddressError as error:
        yield _finding("ws_url", State.FAIL, f"ws_url: {error}", "use the wss:// address of the server", call)
        return
    host = address.host.lower()
    if _is_private(host):
        why, out = f"{host} is a private address, which ElevenLabs cannot reach", "use a public name, or a tunnel"
        yield _finding("ws_url", State.FAIL, why, out, call)
    elif not address.is_tls:
        yield _finding("ws_url", State.FAIL, "ws_url begins with ws://", "ElevenLabs requires wss://", call)
    elif _is_below(host, TUNNELS):
        why = f"{host} is a tunnel, whose name may change at each start"
        yield _finding("ws_url", State.WARNING, why, "keep an engine of its own for development")
    elif _is_below(host, NO_UPGRADE):
        why = f"{host} is a host that may not pass WebSocket upgrades to functions"
        yield _finding("ws_url", State.WARNING, why, "use a host that runs processes")
    else:
        yield _finding("ws_url", State.PASS, f"{address.host}{address.target.partition('?')[0]}")


def is_same_server(stored: Address, examined: Address) -> bool:
    """Return whether two addresses are one for certain. Two names may lead to one server all the same."""
    return stored == examined


def _request_headers(engine: Mapping[str, Any], engine_id: str, requires: Mapping[str, str]) -> EngineFinding:
    sent = {name.lower(): value for name, value in _headers(engine).items()}
    missing = [name for name in requires if name.lower() not in sent]
    if missing:
        call = _call(
            engine_id, f"speech_engine={{'ws_url': ..., 'request_headers': {{{missing[0]!r}: {{'secret_id': ...}}}}}}"
        )
        why = f"the engine does not send {', '.join(missing)}, which this server was given here"
        return _finding("headers", State.FAIL, why, "store the value as a secret of the workspace, and name it", call)
    other = [
        name for name, value in requires.items() if isinstance(sent[name.lower()], str) and sent[name.lower()] != value
    ]
    if other:
        why = f"the engine sends another value of {', '.join(other)} than this server was given here"
        return _finding("headers", State.FAIL, why, "use one value on both sides")
    plain = [name for name in header_texts(engine) if _looks_secret(name)]
    if plain:
        why = f"{', '.join(plain)} is stored as plain text"
        return _finding("headers", State.WARNING, why, "use {'secret_id': ...}, a secret of the workspace")
    names = ", ".join(_headers(engine))
    return _finding("headers", State.PASS, f"the engine sends {names}" if names else "none, and none is required here")


def _cascade(engine: Mapping[str, Any], engine_id: str, first_word_s: float) -> EngineFinding:
    timeout_s = engine.get("cascade_timeout_seconds")
    if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool):
        return _finding("cascade timeout", State.NOT_TESTED, "the engine has no cascade_timeout_seconds")
    if not first_word_s:
        return _finding("cascade timeout", State.NOT_TESTED, f"{timeout_s:g} s; the first word was not measured")
    why = f"the first word came after {shown_s(first_word_s)}, and the API asks again after {timeout_s:g} s"
    if first_word_s < NARROW * timeout_s:
        if timeout_s <= HOLD_AFTER_S:
            out = f"set se-server's --hold-after-s, {HOLD_AFTER_S:g} by default, below it"
            return _finding("cascade timeout", State.WARNING, why, out)
        return _finding("cascade timeout", State.PASS, why)
    better_s = min(MAX_CASCADE_S, max(MIN_CASCADE_S, math.ceil(2 * first_word_s)))
    state = State.FAIL if first_word_s >= timeout_s else State.WARNING
    if better_s <= timeout_s:
        return _finding("cascade timeout", state, why, "answer sooner: a first word helps, --first-word-after-s")
    change = Change(f"cascade_timeout_seconds from {timeout_s:g} to {better_s}", {"cascade_timeout_seconds": better_s})
    return EngineFinding(
        "cascade timeout",
        state,
        why,
        "answer sooner, or raise it",
        _call(engine_id, f"cascade_timeout_seconds={better_s}"),
        change,
    )


def _first_message(engine: Mapping[str, Any], engine_id: str) -> EngineFinding:
    overrides = _part(engine, "overrides")
    if overrides.get("first_message") is True:
        return _finding("first message", State.PASS, "clients may set one")
    changed = {**overrides, "first_message": True}
    return EngineFinding(
        "first message",
        State.WARNING,
        "clients may not set one, and the server cannot speak first: the caller begins in silence",
        "allow it, and set it in the client",
        _call(engine_id, "overrides={'first_message': True}"),
        Change("overrides.first_message to true", {"overrides": changed}),
    )


def _voice(engine: Mapping[str, Any], engine_id: str) -> EngineFinding:
    model, language = str(_part(engine, "tts").get("model_id") or ""), str(engine.get("language") or "en")
    is_english = language.lower().split("-")[0].split("_")[0] == "en"
    if not model:
        return _finding("voice", State.NOT_TESTED, f"the engine names no TTS model; its language is {language}")
    wrong = MULTILINGUAL_MODELS if is_english else ENGLISH_MODELS
    if model in wrong:
        better = model.removesuffix("_5") if is_english else f"{model}_5"
        why = f"the TTS model {model} is refused for {'English' if is_english else f'the language {language!r}'}"
        call = _call(engine_id, f"tts={{**engine.config.tts.model_dump(), 'model_id': {better!r}}}")
        return _finding("voice", State.FAIL, why, f"use {better}", call)
    return _finding("voice", State.PASS, f"{model}, language {language}")


def _finding(name: str, state: State, why: str, way_out: str = "", call: str = "") -> EngineFinding:
    return EngineFinding(name, state, why, way_out, call)


def _call(engine_id: str, keywords: str) -> str:
    return f"client.speech_engine.update({engine_id!r}, {keywords})"


def _part(engine: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = engine.get(name)
    return part if isinstance(part, Mapping) else {}


def _headers(engine: Mapping[str, Any]) -> Mapping[str, Any]:
    return _part(_part(engine, "speech_engine"), "request_headers")


def _looks_secret(name: str) -> bool:
    return any(word in name.lower() for word in ("auth", "secret", "token", "key", "password"))


def _is_private(host: str) -> bool:
    with suppress(ValueError):
        return not ipaddress.ip_address(host).is_global
    return "." not in host or _is_below(host, ("localhost", "local", "internal", "lan", "test", "home.arpa"))


def _is_below(host: str, domains: tuple[str, ...]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)
