"""The option of traces, and the parts of OpenTelemetry that workers and the observer share.

OpenTelemetry is imported in workers and in the observer alone, and only with `--traces`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from se_server.errors import ConfigError
from se_server.options import flag, is_like_key, option

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

FLUSH_S = 2.0
"""The most that a stop waits for spans that are not sent yet."""
_SERVICE = "se-server"
_PROPAGATORS = "OTEL_PROPAGATORS"
_PROPAGATOR_PACKAGES = {"b3": "b3", "b3multi": "b3", "jaeger": "jaeger", "xray": "aws-xray", "ottrace": "ot-trace"}
_QUEUE, _BATCH = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
_POSITIVE = {_QUEUE: 2048, _BATCH: 512, "OTEL_BSP_SCHEDULE_DELAY": 5000}
_LIMITS = (
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
)


@dataclass(frozen=True)
class Tracing:
    """Traces.

    Attributes:
        traces: whether each turn becomes a span of OpenTelemetry.
    """

    HEADING: ClassVar[str] = "Traces"

    traces: bool = option(
        False,
        flag,
        "Export a span of each turn with OpenTelemetry, as its OTEL_* variables say; needs se-server[otel].",
    )


def check_tracing(options: Tracing) -> Tracing:
    """Return the options in force: OTEL_SDK_DISABLED=true and OTEL_TRACES_EXPORTER=none turn traces off.

    Raises:
        ConfigError: a package, an exporter or a propagator is missing, or a variable has a value that cannot be used.
    """
    if not options.traces:
        return options
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise ConfigError("--traces needs OpenTelemetry: pip install 'se-server[otel]'")
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or not _exporters():
        return Tracing()
    _check_propagators()
    _check_numbers()
    _check_endpoint()
    return options


def _check_propagators() -> None:
    """Refuse a propagator with which OpenTelemetry cannot be imported.

    Raises:
        ConfigError: it is not installed.
    """
    from importlib.metadata import entry_points

    given = os.environ.get(_PROPAGATORS)
    for name in [] if given is None else map(str.strip, given.split(",")):
        if name.lower() == "none":
            return
        if list(entry_points(group="opentelemetry_propagator", name=name)):
            continue
        known = ", ".join(sorted({point.name for point in entry_points(group="opentelemetry_propagator")}))
        package = _PROPAGATOR_PACKAGES.get(name)
        way_out = f"pip install opentelemetry-propagator-{package}" if package else f"expected some of {known}, or none"
        raise ConfigError(f"{_PROPAGATORS}: no propagator {_shown(name)} is installed: {way_out}")


def _check_numbers() -> None:
    """Refuse numbers at which OpenTelemetry raises.

    Raises:
        ConfigError: one of them is too small, too large, or none.
    """
    values = {}
    for variable, default in _POSITIVE.items():
        given = os.environ.get(variable, "").strip()
        values[variable] = _int_of(given, default)
        if values[variable] < 1:
            raise ConfigError(f"{variable}: {given} is not valid: expected a whole number from 1")
    if values[_BATCH] > values[_QUEUE]:
        raise ConfigError(f"{_BATCH}: {values[_BATCH]} is not valid: expected at most the {values[_QUEUE]} of {_QUEUE}")
    for variable in _LIMITS:
        given = os.environ.get(variable, "").strip()
        if given and given.lower() != "none" and _int_of(given, -1) < 0:
            raise ConfigError(f"{variable}: {_shown(given)} is not valid: expected a whole number from 0")


def _int_of(given: str, default: int) -> int:
    """Return a number; the default for a text that is none, as OpenTelemetry has it."""
    try:
        return int(given)
    except ValueError:
        return default


def _shown(given: str) -> str:
    return "the value" if is_like_key(given) else repr(given)


def _check_endpoint() -> None:
    """Refuse an address to which the exporter over HTTP would send nothing.

    Raises:
        ConfigError: it has no scheme or no host.
    """
    names = [name.strip() for name in (os.environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")]
    if "otlp" not in names or _protocol() != "http":
        return
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        given = os.environ.get(variable, "").strip()
        if given:
            if not _is_address(given):
                raise ConfigError(
                    f"{variable}: {_shown(given)} is not valid: expected a URL such as http://127.0.0.1:4318"
                )
            return


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _exporters() -> list[EntryPoint]:
    """Return the exporters that `OTEL_TRACES_EXPORTER` names: `otlp`, `console`, those of other packages, or `none`.

    Raises:
        ConfigError: one of them is not installed.
    """
    from importlib.metadata import entry_points

    found = []
    for name in map(str.strip, (os.environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")):
        if name in ("", "none"):
            continue
        known = f"otlp_proto_{_protocol()}" if name == "otlp" else name
        made = list(entry_points(group="opentelemetry_traces_exporter", name=known))
        if not made:
            package = (
                "opentelemetry-exporter-otlp-proto-grpc" if known == "otlp_proto_grpc" else "the package that has it"
            )
            raise ConfigError(f"--traces: no exporter {known!r} is installed: pip install {package}")
        found.append(made[0])
    return found


def _protocol() -> str:
    name = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return (name or "http/protobuf").strip().partition("/")[0]


def make_exporters() -> list[SpanExporter]:
    """Return new exporters, as the environment asks for them."""
    return [exporter.load()() for exporter in _exporters()]


def make_resource() -> Resource:
    """Return the description of this service: of `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`."""
    from opentelemetry.sdk.resources import Resource

    made = Resource.create()
    if str(made.attributes.get("service.name", "")).startswith("unknown_service"):
        made = made.merge(Resource({"service.name": _SERVICE}))
    return made
