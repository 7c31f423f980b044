"""The playground without a browser: who may ask, conversations over its stream, exports, and the end of the server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from se_server.cli.playing import PlaygroundPage
from se_server.errors import ConfigError
from se_server.server.config.config import load_config
from tests.functional.playing import Playground, running_playground
from tests.functional.processes import write_agent
from tests.helpers import START_TIMEOUT_S, TEST_API_KEY, environment, free_port, wait_for_end

AGENT = """
    import asyncio
    VERSION = "one"
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said == "history":
            await session.send_response(repr([(entry.role, entry.content) for entry in transcript[:-1]]))
        elif said == "request":
            await session.send_response(f"{session.headers.get('X-Customer')} {session.query}")
        elif said == "slow":
            await asyncio.sleep(1)
            await session.send_response("At last.")
        else:
            async def words():
                for word in f"{VERSION}: you said {said}".split():
                    yield word + " "
                    await asyncio.sleep(0.5 if said in ("a story", "tell me more") else 0.02)  # time to interrupt
            await session.send_response(words())
"""


class Tab:
    """One stream and its conversation, as a tab has them."""

    def __init__(self, page: Playground, name: str = "tab", **given: Any) -> None:
        self.page = page
        self.name = name
        self.events: list[dict[str, Any]] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=START_TIMEOUT_S)
        self._connection.request("GET", f"{page.path}events?listener={name}")
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        self.wait_for("listening")
        self.begin(**given)

    def begin(self, **given: Any) -> None:
        status, text = self.page.ask(f"api/talks/{self.name}", {"listener": self.name, **given})
        assert status == 200, text
        self.opened = self.wait_for("opened")

    def wait_for(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Return the first event that fits, of those that were read or will be."""
        for event in self.events:
            if _fits(event, kind, fields):
                return event
        return self.wait_for_next(kind, **fields)

    def wait_for_next(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Read events until one that has not been read fits."""
        while line := self._response.readline():
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                self.events.append(event)
                if _fits(event, kind, fields):
                    return dict(event)
        raise AssertionError(f"the stream ended before {kind} {fields}: {self.events}")

    def post(self, what: str, **given: Any) -> None:
        status, text = self.page.ask(f"api/talks/{self.name}/{what}", given)
        assert status == 200, text

    def say(self, text: str, **given: Any) -> dict[str, Any]:
        """Say something and return the complete turn."""
        self.post("say", text=text, **given)
        return self.wait_for("turn", said=text, is_final=True)

    def wait_for_turn(self, turn: dict[str, Any], has: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return a turn as it is once it has something, which may come with its last text or later."""
        while not has(turn):
            turn = self.wait_for_next("turn", said=turn["said"], is_final=True)
        return turn

    def get(self, name: str) -> str:
        status, text = self.page.ask(f"api/talks/{self.name}/{name}")
        assert status == 200, text
        return text

    def close(self) -> None:
        self._response.close()
        self._connection.close()


def _fits(event: dict[str, Any], kind: str, fields: dict[str, Any]) -> bool:
    """Whether an event is of a kind and has these values; a function is asked about the value."""
    return event["kind"] == kind and all(
        value(event.get(name)) if callable(value) else event.get(name) == value for name, value in fields.items()
    )


def _has_server(turn: dict[str, Any]) -> bool:
    return turn["server"] is not None


@contextmanager
def tab(page: Playground, **given: Any) -> Iterator[Tab]:
    opened = Tab(page, **given)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    app = write_agent(tmp_path_factory.mktemp("playground") / "agent.py", AGENT)
    with running_playground(app=app) as page:
        page.server.wait_for_output("the page for operators is at")  # the last of its processes has started
        yield page


# --- who may ask ----------------------------------------------------------------------------------------------------


def test_only_the_whole_address_is_answered(page: Playground) -> None:
    assert page.ask("")[0] == 200
    for prefix in ("/", "/guessed/", page.path.rstrip("/")[:-1] + "~/"):
        assert page.ask("", prefix=prefix)[0] == 404
        assert page.ask("api/about", prefix=prefix)[0] == 404
    assert page.ask("../api/about")[0] in (400, 404)
    assert page.ask("hub.py")[0] == 404
    assert page.ask("..%2fhub.py")[0] == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": "localhost:3002"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, 403),
    ],
)
def test_other_hosts_and_sites_are_refused(page: Playground, headers: dict[str, str], status: int) -> None:
    assert page.ask("api/about", headers=headers)[0] == status


def test_no_stranger_keeps_the_developer_out(page: Playground) -> None:
    """Any program of this machine may connect, and any page of a browser may send requests, without the address."""
    hello = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n"
    before = len(page.server.output())
    silent = [socket.create_connection(("127.0.0.1", page.port)) for _ in range(300)]
    try:
        for sent in (b"\x16\x03\r\n\r\n", hello + upgrade, b"GET /caf\xc3\xa9 HTTP/1.1\r\n\r\n", hello + b"\r\n"):
            with socket.create_connection(("127.0.0.1", page.port)) as peer:
                peer.sendall(sent)
                assert peer.recv(4096)
        with socket.create_connection(("127.0.0.1", page.port)) as peer, suppress(ConnectionError):
            for _ in range(1000):  # a head that never ends
                peer.sendall(hello + b"X: " + b"x" * 100_000)
            pytest.fail("a head of 100 MB is read")
        assert page.ask("api/about")[0] == 200
    finally:
        for sock in silent:
            sock.close()
    assert page.server.output()[before:] == ""


def test_the_page_listens_on_loopback_alone(page: Playground) -> None:
    own = ""
    with suppress(OSError):  # a container's name may have no address
        own = socket.gethostbyname(socket.gethostname())
    if not own or own.startswith("127."):
        pytest.skip("this machine has no other address")
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect((own, page.port))


@pytest.mark.parametrize(
    "given",
    [
        {"headers": {"X-Bad\r\nName": "1"}},
        {"headers": {"X-Name": "a\r\nb"}},
        {"query": "a b"},
        {"habits": {"chance": 7}},
        {"again": [{"hang_up": True}]},
        {"cascade_timeout_s": "soon"},
    ],
)
def test_wrong_choices_are_refused_with_a_sentence(page: Playground, given: dict[str, Any]) -> None:
    with tab(page) as opened:
        status, text = page.ask("api/talks/other", {"listener": opened.name, **given})
        assert status == 400
        assert len(json.loads(text)["error"].split()) > 3


# --- conversations --------------------------------------------------------------------------------------------------


def test_a_turn_has_words_times_and_ledger(page: Playground) -> None:
    with tab(page) as opened:
        turn = opened.say("hello")
        assert turn["heard"] == "one: you said hello "
        side = opened.wait_for_turn(turn, _has_server)["server"]
        assert sum(side["parts"]) == pytest.approx(side["first_text_s"], rel=0.01)
        assert [kind for _, kind, _ in side["events"]].count("texts sent") >= 1
        assert turn["hints"] == []


def test_headers_query_and_first_message_reach_the_agent(page: Playground) -> None:
    with tab(page, headers={"X-Customer": "7"}, query="plan=gold", first_message="Welcome!") as opened:
        assert opened.say("request")["heard"] == "7 plan=gold"
        assert opened.say("history")["heard"].startswith("[('agent', 'Welcome!'), ('user', 'request')")


def test_history_has_only_what_was_spoken(page: Playground) -> None:
    with tab(page) as opened:
        opened.say("hello")
        turn = opened.say("history", spoken_chars=8)
        assert turn["heard"] == "[('user', 'hello'), ('agent', 'one: you')]"
        cut = [event for event in opened.events if event["kind"] == "turn" and event["turn"] == 0][-1]
        assert next(text["text"] for text in cut["texts"] if not text["heard"]) == " "


def test_a_swallowed_repetition_is_told(page: Playground) -> None:
    with tab(page, habits={"resend_after_s": 0.2, "max_tries": 30}) as opened:
        turn = opened.say("slow")
        assert any("unanswered, try 2 of 30" in event["why"] for event in opened.events if event["kind"] == "habit")
        side = opened.wait_for_turn(turn, _has_server)["server"]
        kinds = [kind for _, kind, _ in side["events"]]
        assert kinds.count("handler begins") == 1
        assert "transcript again" in kinds


def test_hints_name_a_late_first_word(page: Playground) -> None:
    with tab(page, cascade_timeout_s=0.2) as opened:
        assert "cascade_timeout_seconds" in opened.say("slow")["hints"][0]


def test_habits_change_during_a_conversation(page: Playground) -> None:
    with tab(page) as opened:
        opened.say("hello")
        opened.post("habits", extra_ids=1, extra_id_after_s=0.05)
        turn = opened.wait_for_turn(opened.say("again"), lambda turn: len(turn["event_ids"]) > 1)
        assert len(turn["event_ids"]) == 2
        opened.post("act/again")
        why = "the same transcript again, because you asked for it"
        opened.wait_for_next("habit", why=why)
        opened.post("act/reconnect")
        assert opened.say("still there")["heard"] == "one: you said still there "


def test_a_closed_tab_ends_its_conversation(page: Playground) -> None:
    with tab(page, name="closing") as opened:
        found = opened.opened["conversation_id"]
    page.server.wait_for_output(f"conversation ended: conversation_id={found}")


def test_ten_tabs_are_ten_conversations(page: Playground) -> None:
    tabs = [Tab(page, name=f"tab{number}") for number in range(10)]
    try:
        for number, opened in enumerate(tabs):
            assert opened.say(f"number {number}")["heard"] == f"one: you said number {number} "
    finally:
        for opened in tabs:
            opened.close()


# --- exports and running again ----------------------------------------------------------------------------------------


def test_exports_hold_the_conversation_again(page: Playground, tmp_path: Path) -> None:
    with tab(page) as opened:
        opened.say("hello")
        opened.post("say", text="tell me more")
        opened.wait_for("turn", said="tell me more", heard=lambda text: text.startswith("one: you "))
        opened.say("stop")
        opened.post("habits", extra_ids=1, extra_id_after_s=0.05)
        opened.wait_for_turn(opened.say("two ids"), lambda turn: len(turn["event_ids"]) > 1)
        for name in ("test_conversation.py", "conversation.toml", "conversation.jsonl"):
            (tmp_path / name).write_text(opened.get(name))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    commands = [["pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]]
    for name in ("conversation.toml", "conversation.jsonl"):
        commands.append(["se_server.cli.chat", page.server.url, "--script", str(tmp_path / name)])
    with ThreadPoolExecutor() as threads:  # at once, since most of their time is the start of Python
        for result in threads.map(run_module, commands):
            assert result.returncode == 0, result.stdout + result.stderr


def run_module(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, env=environment(None)
    )


def test_steps_are_taken_again_by_themselves(page: Playground) -> None:
    with tab(page, again=[{"say": "hello"}, {"say": "a story"}, {"interrupt": "stop", "after_chars": 9}]) as opened:
        turn = opened.wait_for("turn", said="stop", is_final=True)
        assert turn["turn"] == 2
        story = [event for event in opened.events if event.get("said") == "a story"][-1]
        assert (story["interrupted_by"], story["heard"]) == ("user", "one: you ")
        assert opened.wait_for("again")["text"] == ""


# --- the server -------------------------------------------------------------------------------------------------------


def test_the_page_ends_with_its_server_and_returns(tmp_path: Path) -> None:
    """After a stop, which does not wait for open pages, the next server has the same address; it is killed here."""
    port = free_port()
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with running_playground(port=port, env=env, workers=1) as page:
        first = page.url
        assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.glob("se-server-playground-*"))
        with tab(page) as opened:
            began = time.monotonic()
            page.server.send_signal(signal.SIGTERM)
            assert opened.wait_for("server")["is_there"] is False
        assert page.server.wait() == 0
        assert time.monotonic() - began < 15
    with running_playground(port=port, env=env, workers=1) as page:
        assert page.url == first
        children = page.server.worker_pids()
        os.kill(page.server.pid, signal.SIGKILL)
        wait_for_end(children)


def test_key_header_path_and_tls_are_kept_to(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    certificate = tmp_path / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    given = ("--require-header", "X-Secret=s3cret", "--path", "/ws", "--certfile", str(certificate))
    with running_playground(*given, app=app, api_key=TEST_API_KEY, workers=1) as page, tab(page) as opened:
        assert opened.opened["url"].startswith("wss://127.0.0.1:")
        assert opened.say("hello")["heard"] == "one: you said hello "
        assert TEST_API_KEY not in page.server.output()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"uds": "{folder}/socket"}, "--uds alone"),
        ({"proxy_protocol": True, "trusted_proxies": "127.0.0.1"}, "--proxy-protocol"),
        ({"playground_port": "{port}"}, "--playground-port"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, given: dict[str, object], reason: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = {
            name: str(value).format(folder=tmp_path, port=taken.getsockname()[1]) for name, value in given.items()
        }
        with pytest.raises(ConfigError, match=reason):
            PlaygroundPage(load_config({"playground": True, **options}, {}))
