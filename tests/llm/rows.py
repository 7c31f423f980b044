"""A row: one object that people pass to `send_response`, and what the caller is to hear of it."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from tests.providers import Provider, Script, Tool

T = TypeVar("T")

MODEL = "m"
QUESTION = "Good morning"
MESSAGES: Any = [{"role": "user", "content": QUESTION}]

TEXT = "Good morning! It is 21 °C in Zürich today 🙂.\nAnything else?"
REASONING = "The user greets 👋; I look it up."
# Everything that an answer can have beside its text.
FULL = Script(text=TEXT, reasoning=REASONING, tools=(Tool(), Tool("f", "{}", "call_2")))
# Packages that run tools themselves would ask the model again after a tool call.
NO_TOOLS = FULL.but(tools=())


class Case:
    """The surroundings of one row's object: the provider's URLs, and what is closed at the end.

    Clients are closed after everything was checked, so that no interrupted request ends because its client did.
    """

    def __init__(self, provider: Provider, clients: AsyncExitStack, entered: AsyncExitStack) -> None:
        self._provider = provider
        self._clients = clients
        self._entered = entered

    def url(self, api: str) -> str:
        """Return the base URL of an API of the provider."""
        return self._provider.base_url(api)

    async def client(self, client: AbstractAsyncContextManager[T]) -> T:
        """Enter a client; it is closed when the row is over."""
        return await self._clients.enter_async_context(client)

    def blocking_client(self, client: AbstractContextManager[T]) -> T:
        """Enter a client that blocks; it is closed when the row is over."""
        return self._clients.enter_context(client)

    def at_end(self, close: Callable[[], Any]) -> None:
        """Call, and await if need be, when the row is over."""

        async def closing() -> None:
            closed = close()
            if inspect.isawaitable(closed):
                await closed

        self._clients.push_async_callback(closing)

    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter a manager as the user's handler does; it is left when the handler ends."""
        return await self._entered.enter_async_context(manager)


Make = Callable[[Case], Awaitable[Any]]


@dataclass(frozen=True)
class Row:
    """One object that people pass.

    Attributes:
        package: The package's heading in the table.
        passed: The code that makes the object, as its user writes it.
        make: Makes the object, inside the handler.
        requires: The module that has to be installed.
        api: The provider's API that is asked; empty: none.
        script: The provider's answer.
        expected: The text that the caller is to hear; None: the script's.
        error: A part of the error's text where the object is refused, or the answer fails; empty: no error.
        closed_by: How an interruption stops the request.
        note: What a user has to know.
        options: Keywords of `send_response`.
        is_stream: Whether the answer comes piece by piece, so that an interruption can end it.
    """

    package: str
    passed: str
    make: Make
    requires: str = ""
    api: str = ""
    script: Script = FULL
    expected: str | None = None
    error: str = ""
    closed_by: str = ""
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    is_stream: bool = True

    @property
    def name(self) -> str:
        """The row's name in tests."""
        return f"{self.package}: {self.passed}"

    @property
    def is_refused(self) -> bool:
        """Whether the object cannot be spoken."""
        return bool(self.error)

    @property
    def spoken(self) -> str:
        """The text that the caller is to hear."""
        if self.expected is not None:
            return self.expected
        return "" if self.is_refused else self.script.spoken

    @property
    def is_installed(self) -> bool:
        """Whether the package is there."""
        return installed(self.requires)


@dataclass(frozen=True)
class Package:
    """The rows of one package; the attributes are defaults of its rows."""

    name: str
    requires: str = ""
    api: str = ""
    script: Script = FULL

    def row(self, passed: str, **attributes: Any) -> Callable[[Make], Make]:
        """Register a function that makes the object of a row.

        Args:
            passed: the code that makes the object, as its user writes it.
            attributes: those of `Row`.
        """

        def register(make: Make) -> Make:
            defaults = {"requires": self.requires, "api": self.api, "script": self.script}
            ROWS.append(Row(self.name, passed, make, **{**defaults, **attributes}))
            return make

        return register

    def refused(self, passed: str, error: str, **attributes: Any) -> Callable[[Make], Make]:
        """Register a function that makes an object which is refused.

        Args:
            passed: the code that makes the object.
            error: a part of the error's text.
            attributes: those of `Row`.
        """
        return self.row(passed, error=error, is_stream=False, **attributes)


ROWS: list[Row] = []
"""All rows, in the order of the table; `all_rows` fills it."""


def all_rows() -> list[Row]:
    """Return all rows, those of packages that are not installed included."""
    from tests.llm import rows_anthropic, rows_frameworks, rows_http, rows_openai, rows_providers, rows_python

    # The order of the table is that of the imports above only by chance.
    order = [rows_openai, rows_anthropic, rows_providers, rows_frameworks, rows_http, rows_python]
    place = {module.__name__: number for number, module in enumerate(order)}
    return sorted(ROWS, key=lambda row: place[row.make.__module__])


@cache
def installed(module: str) -> bool:
    """Return whether a module can be imported; nothing is imported but its parents."""
    try:
        return not module or importlib.util.find_spec(module) is not None
    except ImportError:
        return False
