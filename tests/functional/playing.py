"""Shared by the tests and the pictures of the playground: a server with its page, and the page in a browser."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.functional.browsing import wait_for_page
from tests.helpers import START_TIMEOUT_S, ServerProcess, running_server

PAGE_LINE = re.compile(r"Speak with it:\s+(http://127\.0\.0\.1:\d+/[\w-]+/)")


class Playground:
    """The page of a running server.

    Attributes:
        server: the server.
        url: the page's address.
    """

    def __init__(self, server: ServerProcess, url: str) -> None:
        self.server = server
        self.url = url
        parts = urlsplit(url)
        self.port = parts.port or 0
        self.path = parts.path

    def ask(
        self, path: str, given: object = None, headers: Mapping[str, str] | None = None, *, prefix: str | None = None
    ) -> tuple[int, str]:
        """Send a request, POST if something is given; return status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT_S)
        try:
            body = None if given is None else json.dumps(given)
            sent = {"content-type": "application/json", **(headers or {})}
            place = (self.path if prefix is None else prefix) + path
            connection.request("GET" if given is None else "POST", place, body, sent)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


@contextmanager
def running_playground(*args: str, port: int = 0, **options: Any) -> Iterator[Playground]:
    """Run a server with its page, on free ports."""
    given = {"api_key": None, **options}
    with running_server("--playground", "--no-open", "--playground-port", str(port), *args, **given) as server:
        url = server.wait_for_output(PAGE_LINE, START_TIMEOUT_S)[1]
        server.wait_for_output("the page for operators is at", START_TIMEOUT_S)  # its last process runs
        yield Playground(server, url)


def open_page(browser: Any, page: Playground) -> None:
    """Open the page and wait for its conversation."""
    browser.get(page.url)
    wait_for_open(browser)


def wait_for_open(browser: Any) -> None:
    """Wait for the conversation of the page that is shown or loads."""
    wait_for_page(browser, "document.querySelector('#state')?.textContent === 'open'", "the conversation is open")


def say(browser: Any, words: str) -> None:
    """Type words and send them."""
    browser.find_element("id", "words").send_keys(words + "\n")


def wait_for_turns(browser: Any, count: int) -> None:
    """Wait until so many turns are there, and the newest is complete, with the server's side of it."""
    wait_for_page(
        browser,
        f"document.querySelectorAll('li.turn').length === {count} && document.querySelector('#interrupt').disabled"
        " && document.querySelector('#ledger .stack, #ledger p') && !document.querySelector('#ledger p')?.textContent"
        ".includes('when the turn is over')",
        f"{count} turns are complete",
    )
