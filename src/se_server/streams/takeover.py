"""Recognises streams of LLM packages whose bytes can be read in their place (`_takeover`).

Taken over is only a stream of exactly a known class, of a tested version, as its package made it: nobody has read from
it, wrapped it, or replaced a part of it, as tracing tools do. A stream of any other kind is iterated as it is.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import AsyncGeneratorType, FunctionType
from typing import Any

from se_server.streams._takeover import Takeover
from se_server.streams.extractors import registered_modules
from se_server.streams.forms import identity
from se_server.streams.takeover_bodies import HttpxBody, taken_over

log = logging.getLogger("se_server.session")

# How a package reads an event stream; the numbers are those of `_scan.pxd`.
ANY_NAME, NAMED, NAMELESS, DATA_ONLY, CHAT_ONLY = range(1, 6)

Version = tuple[int, ...]


@dataclass(frozen=True)
class Known:
    """A class of streams that can be taken over.

    Attributes:
        module: the module that defines it.
        watch: how its package reads an event stream.
        versions: the tested versions of the package: the first, and the first that is too new.
        paths: the ends of the URLs' paths whose events are known.
        parts: the attributes of an instance.
        iterator: the attribute with its generator; it may be made later.
        methods: what nobody may have replaced.
        is_stainless: whether the client takes part in reading.
    """

    module: str
    watch: int
    versions: tuple[Version, Version]
    paths: tuple[str, ...]
    parts: frozenset[str]
    iterator: str
    methods: tuple[str, ...]
    is_stainless: bool = True


def stainless(module: str, watch: int, versions: tuple[Version, Version], *paths: str) -> Known:
    """Return the stream of a client that Stainless has generated."""
    return Known(
        module, watch, versions, paths,
        frozenset({"response", "_cast_to", "_client", "_options", "_decoder", "_iterator", "__orig_class__"}),
        "_iterator", ("__aiter__", "__anext__", "__stream__", "_iter_events", "close"),
    )  # fmt: skip


CHAT, RESPONSES, MESSAGES = "/chat/completions", "/responses", "/v1/messages"
KNOWN: Mapping[tuple[str, str], Known] = {
    ("openai", "AsyncStream"): stainless("openai._streaming", ANY_NAME, ((2, 54), (4,)), CHAT, RESPONSES),
    ("groq", "AsyncStream"): stainless("groq._streaming", NAMELESS, ((1, 7), (2,)), CHAT),
    ("together", "AsyncStream"): stainless("together._streaming", NAMELESS, ((3, 1), (4,)), CHAT),
    ("anthropic", "AsyncStream"): stainless("anthropic._streaming", NAMED, ((2, 12), (3,)), MESSAGES),
    ("mistralai", "EventStreamAsync"): Known(
        "mistralai.client.utils.eventstreaming", CHAT_ONLY, ((3, 7), (4,)), (CHAT,),
        frozenset({"response", "generator", "client_ref", "_closed", "__orig_class__"}),
        "generator", ("__aiter__", "__anext__", "close"), is_stainless=False,
    ),
}  # fmt: skip

_reported: set[str] = set()


def takeover_of(stream: Any) -> Takeover | None:
    """Return the takeover of a package's stream, None for all other objects."""
    kind = type(stream)
    known = KNOWN.get(identity(kind))
    if known is None or not is_untouched(stream, known):
        return None
    response = stream.response
    if not is_readable(response, known.paths) or not is_tested(identity(kind)[0], known.versions):
        return None
    return taken_over(HttpxBody(response, stream.__aiter__), known.watch, response)


def is_untouched(stream: Any, known: Known) -> bool:
    """Whether a stream is as its package has made it."""
    kind = type(stream)
    package = known.module.partition(".")[0]
    if not known.parts.issuperset(vars(stream)) or not are_original(kind, known.methods, package):
        return False
    iterator = vars(stream).get(known.iterator)
    if iterator is not None and (
        type(iterator) is not AsyncGeneratorType or iterator.ag_frame is None
        or iterator.ag_frame.f_globals.get("__name__") != known.module
    ):  # fmt: skip
        return False
    if registered_modules() & {package, "pydantic", "builtins"}:
        return False
    if not known.is_stainless:
        return True
    client = stream._client
    reads = ("_process_response_data", "_make_sse_decoder")
    if not are_original(type(client), reads, package) or vars(client).keys() & set(reads):
        return False
    options = getattr(stream, "_options", None)
    if getattr(options, "synthesize_event_and_data", None):
        return False
    return identity(type(stream._decoder)) == (package, "SSEDecoder")


def are_original(kind: type, names: tuple[str, ...], package: str) -> bool:
    """Whether methods of a class are functions of its package, which tracing tools replace."""
    for name in names:
        method = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
        if type(method) is not FunctionType or hasattr(method, "__wrapped__"):
            return False
        if method.__globals__.get("__name__", "").partition(".")[0] != package:
            return False
    return True


def is_readable(response: Any, paths: tuple[str, ...]) -> bool:
    """Whether an HTTP response is an untouched event stream of a known API."""
    package, name = identity(type(response))
    if package not in ("httpx", "httpx2") or name != "Response":
        return False
    if response.is_stream_consumed or response.is_closed or vars(response).keys() & {"_content", "aiter_bytes"}:
        return False
    if not are_original(type(response), ("aiter_bytes", "aiter_raw", "aclose"), package):
        return False
    if getattr(response.stream, "stream_observer", None) is not None:  # anthropic's tracing
        return False
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    path: str = response.request.url.path
    return kind == "text/event-stream" and path.endswith(paths)


def is_tested(package: str, versions: tuple[Version, Version]) -> bool:
    """Whether the package's version is one of the tested ones; another one is logged, once."""
    text = str(getattr(sys.modules.get(package), "__version__", "") or version_of(package))
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    first, too_new = versions
    if first <= version < too_new:
        return True
    if package not in _reported:
        _reported.add(package)
        log.info(
            "%s %s is not among the tested versions (%s to below %s): its streams are iterated as they are",
            package, text or "of an unknown version", _dotted(first), _dotted(too_new),
        )  # fmt: skip
    return False


def version_of(package: str) -> str:
    """Return the version of an installed package; empty if it is not known."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
