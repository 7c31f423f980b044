"""Each habit of the simulator against a real server: every turn is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from se_server.demo import DEMO_API_KEY
from se_server.simulator.caller import Caller
from se_server.simulator.habits import Habits, Malformed, Moment, Wording
from se_server.simulator.judge import Outcome
from tests.helpers import ServerProcess, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running_server("--path", "/ws", workers=2, api_key=None) as running:
        yield running


HABITS = {
    "resend": Habits(resend_after_s=0.002, max_tries=1000),
    "two ids": Habits(extra_ids=1, extra_id_after_s=0.1),
    "three ids, growing": Habits(extra_ids=2, extra_id_after_s=0.1, wording=Wording.GROWING),
    "older id before the answer": Habits(resend_older=Moment.BEFORE_ANSWER),
    "older id in the answer": Habits(resend_older=Moment.MID_ANSWER),
    "older id after the answer": Habits(resend_older=Moment.AFTER_ANSWER),
    "interrupt by characters": Habits(interrupt_after_chars=10),
    "interrupt by time": Habits(interrupt_after_s=0.1),
    "reset before the answer": Habits(reset=Moment.BEFORE_ANSWER, reconnect=True, reconnect_after_s=0.01),
    "reset in the answer": Habits(reset=Moment.MID_ANSWER, reconnect=True, reconnect_after_s=0.01),
    "reconnect": Habits(reconnect=True, reconnect_after_s=0.01),
    "malformed": Habits(malformed=tuple(Malformed)),
    "fragments": Habits(fragment_bytes=10),
    "segments": Habits(segment_bytes=30),
    "fragments in segments": Habits(fragment_bytes=50, segment_bytes=11),
    "slow reader": Habits(slow_read_bytes_s=20_000),
}


@pytest.mark.parametrize("habits", HABITS.values(), ids=HABITS.keys())
async def test_every_turn_is_fine_whatever_the_habit(server: ServerProcess, habits: Habits) -> None:
    async with Caller.connect(server.url, api_key=DEMO_API_KEY, habits=habits, reply_timeout_s=15) as caller:
        for text in ("Bye, then.", "Thank you, and bye.", "Bye!"):
            await caller.say(text)
        await caller.quiet()
        summary = caller.summary()
        assert summary.problems == []
        assert summary.end_reason == ""
        outcomes = {turn.outcome for turn in summary.turns}
        assert outcomes <= {Outcome.HEARD, Outcome.INTERRUPTED, Outcome.SUPERSEDED, Outcome.HUNG_UP}
        # The first words may arrive before a reset that was scheduled to precede them.
        assert Outcome.HUNG_UP not in outcomes or habits.reset is not None
        assert Outcome.HUNG_UP in outcomes or habits.reset is not Moment.MID_ANSWER
        assert Outcome.INTERRUPTED in outcomes or habits.interrupt_after_chars is None


@pytest.mark.parametrize("seed", range(3))
async def test_all_habits_at_random(server: ServerProcess, seed: int) -> None:
    habits = Habits.hostile(seed).scaled(0.1)
    async with Caller.connect(
        server.url, api_key=DEMO_API_KEY, habits=habits, conversation_id=f"conv_{seed}", reply_timeout_s=15
    ) as caller:
        for number in range(6):
            await caller.say(f"Bye, for the {number}th time.")
        await caller.quiet()
        assert caller.summary().problems == []


async def test_a_server_survives_an_idle_drop(server: ServerProcess) -> None:
    for _ in range(2):
        async with Caller.connect(server.url, api_key=DEMO_API_KEY, habits=Habits(idle_drop_s=0.1)) as caller:
            assert "nothing went over the connection" in str(await asyncio.wait_for(caller.wait_ended(), 10))
    async with Caller.connect(server.url, api_key=DEMO_API_KEY) as caller:
        assert "pleasure" in (await caller.say("bye")).text


def test_the_server_logged_no_error(server: ServerProcess) -> None:
    assert " ERROR " not in server.output()
    assert "Traceback" not in server.output()
