"""Both REST clients behind one face, so that every test runs on each."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from se_server.sdk.client import AsyncElevenLabs, ElevenLabs
from tests.fake_api import FakeApi, running_api


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with running_api() as api:
        yield api


class Clients:
    """Makes clients of one kind, awaits what needs awaiting, and closes them in the end."""

    def __init__(self, kind: type[ElevenLabs] | type[AsyncElevenLabs], api: FakeApi) -> None:
        self.kind = kind
        self.is_async = kind is AsyncElevenLabs
        self.api = api
        self.made: list[Any] = []

    def make(self, **given: Any) -> Any:
        client = self.kind(**{"api_key": self.api.api_key, "base_url": self.api.url, **given})
        self.made.append(client)
        return client

    async def result(self, value: Any) -> Any:
        return await value if inspect.isawaitable(value) else value

    async def all(self, values: Any) -> list[Any]:
        return [value async for value in values] if self.is_async else list(values)

    async def close(self, client: Any) -> None:
        if self.is_async:
            await client.aclose()
        else:
            client.close()


@pytest.fixture(params=[ElevenLabs, AsyncElevenLabs], ids=["sync", "async"])
async def clients(request: pytest.FixtureRequest, api: FakeApi) -> AsyncIterator[Clients]:
    clients = Clients(request.param, api)
    yield clients
    for client in clients.made:
        await clients.close(client)
