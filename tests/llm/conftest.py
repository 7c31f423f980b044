"""The provider of the rows' tests, in a thread of its own: packages that block call it, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.providers import Provider, provider_in_thread


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    with provider_in_thread() as provider:
        yield provider
