"""Run tests under the published package and under ours."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import pytest


class Package:
    """One of the two packages; its modules go by the names that they have in both."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_ours = name == "se_server"

    def module(self, name: str = "") -> ModuleType:
        """Import a module of the package."""
        return import_module(f"{self.name}.{name}".rstrip("."))

    def __repr__(self) -> str:
        return self.name


@pytest.fixture(params=["elevenlabs", "se_server"])
def package(request: pytest.FixtureRequest) -> Package:
    return Package(request.param)
