"""`se-bench load` against real servers: its counts, its output and its exit codes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from se_server.cli.ctl import ask
from tests.helpers import TEST_API_KEY, ServerProcess, running_server

TIMEOUT_S = 45.0
COMMAND = (sys.executable, "-m", "se_server.cli.bench", "load")

ECHO = """
async def on_transcript(transcript, session):
    await session.send_response("You said: " + transcript[-1].content)
"""


def load(url: str, *options: str, key: str = TEST_API_KEY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, url, "--api-key", key, *options], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def report(url: str, *options: str) -> tuple[int, dict[str, Any]]:
    done = load(url, "--json", *options)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@contextmanager
def serving(tmp_path: Path, code: str, *args: str, workers: int = 1, **options: Any) -> Iterator[ServerProcess]:
    app = tmp_path / "agent.py"
    app.write_text(code)
    with running_server(*args, app=app, workers=workers, **options) as server:
        yield server


# --- the figures ----------------------------------------------------------------------------------------------------


def test_totals_of_several_processes_match_the_server(tmp_path: Path) -> None:
    control = tmp_path / "ctl"
    with serving(tmp_path, ECHO, "--control-socket", str(control), workers=2) as server:
        url = server.url + "?tenant=open-sesame"  # may be a secret, and is shown nowhere
        code, found = report(url, "-n", "9", "--processes", "3", "--duration-s", "1", "--think-s", "0.005")
        totals = ask(str(control), "status")["totals"]
    assert code == 0
    assert found["turns"] == found["asked"] > 9
    assert "open-sesame" not in json.dumps(found)
    assert len(found["generator"]["core_shares"]) == 3
    wanted = {
        "sessions_opened": 9,
        "sessions_closed": 9,
        "turns_started": found["turns"],
        "turns_answered": found["turns"],
        "chunks_sent": found["chunks"],
        "message_errors": 0,
    }
    assert {name: totals[name] for name in wanted} == wanted
    assert found["first_chunk_s"]["count"] == found["final_s"]["count"] == found["turns"]
    assert found["handshake_s"]["count"] == 9


STALLS_ONCE = """
import time

turns = 0


async def on_transcript(transcript, session):
    global turns
    turns += 1
    if turns == 10:
        time.sleep(1.0)
    await session.send_response("Yes.")
"""


def test_open_loop_lets_no_stall_go_unseen(tmp_path: Path) -> None:
    with serving(tmp_path, STALLS_ONCE) as server:
        code, found = report(
            server.url, "-n", "4", "--turns-per-s", "50", "--duration-s", "2", "--max-p99-s", "0.5", "--seed", "1"
        )
    # Fifty turns were due in the second in which the agent blocked, and all of them had to wait for its end.
    assert found["asked"] == found["turns"] == 100
    assert found["first_chunk_s"]["max"] > 0.9
    assert found["first_chunk_s"]["p90"] > 0.5
    assert code == 1
    assert [verdict["kept"] for verdict in found["thresholds"]] == [False, True]


def test_closed_loop_asks_a_stalled_server_less(tmp_path: Path) -> None:
    with serving(tmp_path, STALLS_ONCE) as server:
        _, found = report(server.url, "-n", "4", "--duration-s", "2", "--think-s", "0.02")
    assert found["first_chunk_s"]["max"] > 0.9
    assert found["first_chunk_s"]["p90"] < 0.5  # only the waiting conversations saw the stall
    assert found["asked"] < 2 * 4 / 0.02


SAYS_NOTHING_AT_FIRST = """
seen = set()


async def on_transcript(transcript, session):
    if len(transcript) == 1:
        await session.send_response(forever())
    await session.send_response("Yes.")


async def forever():
    import asyncio
    await asyncio.get_running_loop().create_future()
    yield ""
"""


def test_unanswered_transcripts_are_repeated_and_silence_is_counted(tmp_path: Path) -> None:
    with serving(tmp_path, SAYS_NOTHING_AT_FIRST) as server:
        done = load(server.url, "-n", "2", "--duration-s", "0.6", "--resend-after-s", "0.2")
    assert done.returncode == 1
    assert "4 asked again for lack of an answer" in done.stdout
    assert re.search(r"2 +silent +conversation [01], turn 1: no answer within 1 s, though it was asked 3", done.stdout)
    assert "! No turn was answered: the agent sends nothing. Does its on_transcript call send_response?" in done.stdout
    assert "FAIL 2 errors, at most 0" in done.stdout


JOURNAL = """
import json
import os

PIECES = ["Ça va: ", "“tree” \\\\ ", "木", "😀😀", " and\\n so on", "."]


async def answer():
    for piece in PIECES:
        yield piece


async def on_transcript(transcript, session):
    with open(os.environ["JOURNAL"], "a") as file:
        file.write(json.dumps([session.conversation_id, [[m.role, m.content] for m in transcript]]) + "\\n")
    await session.send_response(answer())
"""


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_histories_grow_by_what_was_said_and_heard(tmp_path: Path, rate: float) -> None:
    journal = tmp_path / "journal"
    with serving(tmp_path, JOURNAL, env={"JOURNAL": str(journal)}) as server:
        code, found = report(
            server.url, "-n", "3", "--duration-s", "1", "--think-s", "0.02", "--max-history", "20",
            "--interruption-rate", str(rate),
        )  # fmt: skip
    assert code == 0
    whole = "Ça va: “tree” \\ 木😀😀 and\n so on."
    before: dict[str, list[list[str]]] = {}
    cut = grown = 0
    asked: set[str] = set()
    for line in journal.read_text().splitlines():
        name, transcript = json.loads(line)
        assert len(transcript) <= 20
        assert [role for role, _ in transcript] == ["user", "agent"] * (len(transcript) // 2) + ["user"]
        if (old := before.get(name)) is not None and len(transcript) > 1:
            grown += 1
            assert transcript[: len(old)] == old
            (_, heard), (_, said) = transcript[len(old) :]
            assert said != old[-1][1]
            assert heard
            assert whole.startswith(heard)
            cut += heard != whole
        before[name] = transcript
        asked.add(transcript[-1][1])
    assert grown > 30
    assert (cut == found["interrupted"] == 0) if rate == 0 else 0.15 < cut / grown < 0.65
    assert len(asked) > 5


SLOW = """
import asyncio


async def answer():
    for _ in range(40):
        yield "word "
        await asyncio.sleep(0.02)


async def on_transcript(transcript, session):
    await session.send_response(answer())
"""


@pytest.mark.parametrize("way", [("--think-s", "0.01"), ("--turns-per-s", "20")])
def test_users_interrupt_while_the_answer_comes(tmp_path: Path, way: tuple[str, str]) -> None:
    control = tmp_path / "ctl"
    with serving(tmp_path, SLOW, "--control-socket", str(control)) as server:
        code, found = report(server.url, "-n", "4", "--duration-s", "1", "--interruption-rate", "1", *way)
        totals = ask(str(control), "status")["totals"]
    assert code == 0
    assert found["interrupted"] > 10
    assert totals["turns_superseded"] > 5
    assert found["turns"] == found["asked"]


HANGS_UP = """
async def on_transcript(transcript, session):
    await session.send_response("Yes.")
    if len(transcript) >= 5:
        session.close()
"""


def test_conversations_closed_by_the_server_are_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, HANGS_UP) as server:
        code, found = report(server.url, "-n", "3", "--duration-s", "2.5", "--think-s", "0.01", "--max-errors", "1000")
    assert code == 0
    assert found["errors"]["cut"]["count"] >= 3
    assert "the server closed the conversation with code 1000" in found["errors"]["cut"]["examples"][0]
    assert found["handshake_s"]["count"] > 3


# --- profiles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("profile", "rate"), [("ramp", "200"), ("spike", "200"), ("spike", None), ("soak", None)])
def test_profiles_open_and_end_conversations(tmp_path: Path, profile: str, rate: str | None) -> None:
    control = tmp_path / "ctl"
    options = ("--call-s", "0.3") if profile == "soak" else ()
    loop = ("--think-s", "0.02") if rate is None else ("--turns-per-s", rate)
    with serving(tmp_path, ECHO, "--control-socket", str(control)) as server:
        code, found = report(
            server.url, "-n", "12", "--processes", "2", "--duration-s", "1.5", "--profile", profile, *options, *loop
        )
        totals = ask(str(control), "status")["totals"]
    assert code == 0, found["errors"]
    assert found["turns"] == found["asked"] > 20
    assert totals["sessions_opened"] == totals["sessions_closed"] == found["handshake_s"]["count"]
    assert totals["turns_answered"] == found["turns"]
    if profile == "soak":
        assert totals["sessions_opened"] > 20
    else:
        assert totals["sessions_opened"] == 12
    if rate is not None:
        wanted = {"ramp": 0.6, "spike": 0.4}[profile] * 200 * 1.5
        assert found["turns"] == pytest.approx(wanted, rel=0.1)


# --- how it ends ----------------------------------------------------------------------------------------------------


def test_summary_tells_percentiles_and_keeps_its_thresholds(tmp_path: Path) -> None:
    hdr = tmp_path / "first.hdr"
    with serving(tmp_path, ECHO) as server:
        done = load(
            server.url, "-n", "5", "--duration-s", "0.5", "--think-s", "0.01", "--max-p99-s", "5", "--hdr", str(hdr)
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert "closed loop, 5 conversations that think 0.01 s; histories that grow to 200; 1 process, 0.5 s" in done.stdout
    assert re.search(
        r"to the first chunk +\S+ [mu]?s +\S+ [mu]?s +\S+ [mu]?s +\S+ [mu]?s +\S+ [mu]?s +\d+", done.stdout
    )
    assert re.search(r"\d+ turns in \d\.\d s: [\d.]+ a second, 1\.0 chunks each", done.stdout)
    assert "ok   p99 to the first chunk" in done.stdout
    assert "ok   0 errors, at most 0" in done.stdout
    rows = [line.split() for line in hdr.read_text().splitlines()[2:] if not line.startswith("#")]
    shares, counts = [float(row[1]) for row in rows], [int(row[2]) for row in rows]
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares == sorted(shares)
    assert counts == sorted(counts)
    assert f"Total count    = {counts[-1]:12d}]" in hdr.read_text()
    assert hdr.with_name("first.hdr.final").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"key": "another"}, "401 for any token, and without one: it was signed with the key of --api-key"),
        ({"path": "/no"}, "there are no conversations at /no (404); /ws is one: use it in the address"),
        ({"scheme": "wss"}, "the server does not speak TLS, but plain HTTP; use ws://127.0.0.1:"),
        ({"port": 1}, "nothing listens at 127.0.0.1:1; start the server first"),
    ],
)
def test_a_server_that_cannot_be_called_is_explained(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    with serving(tmp_path, ECHO, "--path", "/ws") as server:
        url = f"{change.get('scheme', 'ws')}://127.0.0.1:{change.get('port', server.port)}{change.get('path', '/ws')}"
        done = load(url, "-n", "2", "--duration-s", "1", key=change.get("key", TEST_API_KEY))
    assert done.returncode == 2
    assert done.stderr.startswith("se-bench load: no conversation could begin: ")
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--duration-s", "inf"), "--duration-s: inf is out of range: expected above 0 to 604800"),
        (("--turns-per-s", "5", "--think-s", "1"), "--think-s is for the closed loop"),
        (("-n", "60000"), "60,000 conversations need 3 local addresses"),
        (("--api-key-file", "/nowhere"), "cannot read /nowhere"),
        (("-H", "nonsense"), "is not a header"),
    ],
)
def test_wrong_options_are_told_in_a_sentence(options: tuple[str, ...], sentence: str) -> None:
    keys = () if "--api-key-file" in options else ("--api-key", "k")
    command = [*COMMAND, "ws://127.0.0.1:1/", *keys, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in " ".join(done.stderr.replace("│", " ").split())


def test_a_full_server_is_loaded_up_to_capacity(tmp_path: Path) -> None:
    with serving(tmp_path, ECHO, "--max-sessions", "3") as server:
        done = load(server.url, "-n", "20", "--duration-s", "0.5", "--think-s", "0.01")
    assert done.returncode == 1
    assert re.search(r"HTTP 503 +conversation \d+: the server answered the upgrade with HTTP 503", done.stdout)
    assert re.search(r"\d+ turns in", done.stdout)


def test_ctrl_c_ends_early_with_the_summary(tmp_path: Path) -> None:
    with serving(tmp_path, ECHO) as server:
        process = subprocess.Popen(
            [*COMMAND, server.url, "--api-key", TEST_API_KEY, "-n", "2", "--duration-s", "30", "--think-s", "0.05"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = process.stdout.readline() + process.stdout.readline()
        while ", 2 up, " not in first and " up, " not in first:  # lines appear every five seconds
            first += process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")
    assert ", stopped early: " in rest


# --- TLS ------------------------------------------------------------------------------------------------------------


def test_tls_is_spoken_and_checked(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    code = ECHO.replace('"You said: "', '"You said: " * 20_000')  # answers that need many TLS records
    options = ("-n", "5", "--duration-s", "0.5", "--think-s", "0.01", "--history", "1")
    with serving(tmp_path, code, "--certfile", str(certificate)) as server:
        for trust in (("--cafile", str(trusted)), ("--insecure",)):
            exit_code, found = report(server.url, *options, *trust)
            assert (exit_code, found["errors"]) == (0, {})
            assert found["turns"] == found["asked"] > 5
            assert found["received_bytes"] > 200_000 * found["turns"]
        done = load(server.url, *options)
        assert done.returncode == 2
        assert "the server's certificate is not trusted" in done.stderr
        done = load(server.url.replace("wss://", "ws://"), *options)
        assert done.returncode == 2
        assert "the server speaks TLS, and ws:// does not use it; use wss://" in done.stderr
