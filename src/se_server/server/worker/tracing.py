"""Traces of a worker: OpenTelemetry is set up for the APP, unless the APP has done it."""

from __future__ import annotations

import logging
import os
import threading
from importlib.metadata import entry_points

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider, set_tracer_provider

from se_server.conversation.tracing import TurnTracer
from se_server.server.shared.tracing import FLUSH_S, make_exporters, make_resource

logger = logging.getLogger("se_server.server.worker")


class WorkerTraces:
    """The tracer of turns, and the spans that the APP's libraries make.

    A provider of the APP is used as it is. Without one, one is made with the exporters of `OTEL_TRACES_EXPORTER`, and
    the instrumentation packages that are installed are switched on: openai's, httpx's and the like.
    """

    def __init__(self) -> None:
        provider = get_tracer_provider()
        self._own: TracerProvider | None = None
        if isinstance(provider, ProxyTracerProvider):
            self._own = provider = _make_provider()
            set_tracer_provider(provider)
            _instrument()
        deciding = provider if isinstance(provider, TracerProvider) else TracerProvider()
        self.tracer = TurnTracer(deciding.sampler, deciding.id_generator)

    def close(self) -> None:
        """Send what is left, in at most `FLUSH_S`."""
        if self._own is not None:
            last = threading.Thread(target=self._own.shutdown, name="last spans", daemon=True)
            last.start()
            last.join(FLUSH_S)


def _make_provider() -> TracerProvider:
    provider = TracerProvider(resource=make_resource(), shutdown_on_exit=False)
    for exporter in make_exporters():
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _instrument() -> None:
    left_out = {name.strip() for name in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}
    if "*" in left_out:
        return
    for package in entry_points(group="opentelemetry_instrumentor"):
        if package.name in left_out:
            continue
        try:
            package.load()().instrument()
        except Exception as error:  # its library is missing, or has another version
            logger.warning("traces: the instrumentation %r is not in use: %s", package.name, error)
