"""Every test here on both kinds of event loop: workers have uvloop's, a user's own process may have asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Name the loops that a test runs on, one after the other."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
