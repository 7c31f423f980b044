"""Redaction under load: callers say private things all day, and nothing of them may be on the disk.

`python -m bench.redaction [--conversations N]`. Each caller has card numbers, an IBAN, an e-mail address, a telephone
number and a token, says them to an agent that repeats them in chunks, and raises them in errors. Everything is recorded
at the level `redacted`; then the directory is searched. Exit code 0: nothing was found; 1: something was; 2: it could
not be run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.chaos import running
from bench.chaos_callers import Lost
from bench.kernel import BenchError
from bench.load.frames import CLOSE, HEAD_END, TEXT, client_frame, upgrade_request
from bench.load.targets import API_KEY

AGENT = Path(__file__).with_name("redaction_agent.py")
CONVERSATIONS = 3000
AT_ONCE = 40
WAIT_S = 60.0
MARKS = ("[card]", "[iban]", "[email]", "[phone]", "[token]")
SAYING = (
    "my card is {card}",
    "it's {email}",
    "call {phone} please",
    "from {iban} then",
    "fail {card} {email}",
    "{token}",
)


@dataclass(frozen=True)
class Person:
    """The private values of one caller: as they are said, and what a search must not find."""

    said: dict[str, str]
    needles: tuple[str, ...]


def person(dice: random.Random) -> Person:
    """Make a caller up."""
    card = _checked("4" + "".join(dice.choices("0123456789", k=14)))
    body = "".join(dice.choices("0123456789", k=18))
    iban = f"DE{98 - int(body + '131400') % 97:02}{body}"
    local = "".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=10)) + "." + str(dice.randrange(10**6))
    phone = "".join(dice.choices("123456789", k=8))
    token = "".join(dice.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=32))
    gap = dice.choice(["", " ", "-", "\u00a0"])
    said = {
        "card": gap.join(card[at : at + 4] for at in range(0, 16, 4)),
        "iban": gap.join(iban[at : at + 4] for at in range(0, 22, 4)),
        "email": f"{local}@example.org",
        "phone": f"+49 30 {phone}",
        "token": dice.choice(["sk_{}", "Bearer {}"]).format(token),
    }
    return Person(said, (card, iban.lower(), local, phone, token))


def _checked(digits: str) -> str:
    total = sum(
        int(digit) if place % 2 else sum(divmod(2 * int(digit), 10)) for place, digit in enumerate(digits[::-1])
    )
    return digits + str(-total % 10)


async def converse(port: int, number: int, who: Person, dice: random.Random) -> int:
    """Hold one conversation, and return its turns."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(upgrade_request("/", API_KEY))
        await asyncio.wait_for(reader.readuntil(HEAD_END), WAIT_S)
        writer.write(_text(type="init", conversation_id=f"conv_{number}"))
        history: list[dict[str, str]] = []
        sayings = dice.sample(SAYING, 4)
        for event_id, saying in enumerate(sayings, 1):
            history.append({"role": "user", "content": saying.format(**who.said)})
            writer.write(_text(type="user_transcript", user_transcript=history, event_id=event_id))
            heard = await _heard(reader, event_id)
            history.append({"role": "agent", "content": heard})
        writer.write(_text(type="close"))
        while (await _frame(reader))[0] != CLOSE:
            pass
        return len(sayings)
    finally:
        writer.close()


async def _heard(reader: asyncio.StreamReader, event_id: int) -> str:
    heard = ""
    while True:
        kind, payload = await _frame(reader)
        if kind == CLOSE:
            raise Lost("closed")
        message = json.loads(payload)
        heard += message.get("content") or ""
        if message.get("is_final") and message.get("event_id") == event_id:
            return heard


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await asyncio.wait_for(reader.readexactly(2), WAIT_S)
    size = head[1]
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    return head[0] & 15, await reader.readexactly(size)


def _text(**message: object) -> bytes:
    return client_frame(TEXT, json.dumps(message).encode())


async def talk(port: int, people: Sequence[Person], dice: random.Random) -> int:
    """Hold all conversations, some at once, and return the turns."""
    waiting = iter(enumerate(people))
    turns = 0

    async def caller() -> None:
        nonlocal turns
        for number, who in waiting:
            held = await converse(port, number, who, dice)
            turns += held

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return turns


def search(folder: Path, people: Sequence[Person]) -> Iterator[str]:
    """Yield a sentence for each private value that is on the disk, also with something between its characters."""
    needles = "\n".join(needle for who in people for needle in who.needles)
    command = ["grep", "--recursive", "--fixed-strings", "--ignore-case", "--only-matching", "--file=-", str(folder)]
    found = subprocess.run(command, input=needles, capture_output=True, text=True, check=False)
    yield from (f"grep: {line}" for line in found.stdout.splitlines())
    for path in sorted(folder.rglob("*.jsonl")):
        text = path.read_text()
        who = people[
            int(str(json.loads(text.partition("\n")[0])["recording"]["conversation_id"]).removeprefix("conv_"))
        ]
        bare = "".join(filter(str.isalnum, re.sub(r"\\+u[0-9a-f]{4}", "", text))).lower()
        yield from (f"{path.name}: {needle}" for needle in who.needles if needle.replace(".", "") in bare)


def run(conversations: int) -> tuple[int, int, int, list[str]]:
    """Hold the conversations, and search what was recorded.

    Returns:
        Turns, recordings, their bytes, and the private values that were found.

    Raises:
        BenchError: it could not be run, or not everything was recorded.
    """
    dice = random.Random(conversations)
    people = [person(dice) for _ in range(conversations)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "recordings")
        options = ["--record", "redacted", "--record-dir", str(folder), "--record-on", "one-in=1"]
        with running(2, AGENT, *options) as server:
            turns = asyncio.run(talk(server.port, people, dice))
            deadline = time.monotonic() + WAIT_S
            while (count := len(list(folder.glob("*.jsonl")))) < conversations:
                if time.monotonic() > deadline:
                    raise BenchError(f"only {count} of {conversations} conversations were recorded")
                time.sleep(0.1)
        files = list(folder.glob("*.jsonl"))
        marks = sum(path.read_text().count(mark) for path in files for mark in MARKS)
        if marks < turns:
            raise BenchError(f"only {marks} values were replaced in {turns} turns: the callers said nothing private")
        return turns, len(files), sum(path.stat().st_size for path in files), list(search(folder, people))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.redaction", description=__doc__)
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS, help=f"default: {CONVERSATIONS}")
    given = parser.parse_args(arguments)
    if not 1 <= given.conversations <= 1_000_000:
        parser.error("--conversations must be from 1 to 1000000")
    try:
        turns, files, size, found = run(given.conversations)
    except (BenchError, Lost, OSError) as error:
        print(f"No search: {error}", file=sys.stderr)
        return 2
    print(f"{turns:,} turns with private values, {files:,} recordings of {size / 1e6:.1f} MB")
    for line in found[:20]:
        print(f"FOUND: {line}")
    print(f"FAILED: {len(found)} private values are on the disk" if found else "nothing private is on the disk")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
