"""The switches of the habits: their meaning and their valid values."""

from __future__ import annotations

import random
from typing import Any

import pytest

from se_server.simulator.habits import Goodbye, Habits, Malformed, Moment, Silence, TurnHabits, Wording


def test_a_polite_api_plans_nothing() -> None:
    assert Habits().draw(random.Random(1)) == TurnHabits()


def test_the_live_api_repeats_and_drops_idle_connections() -> None:
    live = Habits.live()
    assert (live.resend_after_s, live.max_tries, live.idle_drop_s) == (4.0, 3, 60.0)
    assert live.draw(random.Random(1)) == TurnHabits()


def test_hostile_habits_repeat_for_the_same_seed() -> None:
    """Every habit shows now and then."""
    habits = Habits.hostile(7)

    def draws() -> list[TurnHabits]:
        dice = random.Random(7)
        return [habits.draw(dice) for _ in range(300)]

    found = draws()
    assert found == draws()
    moments = {*Moment, None} - {Moment.ANY}
    assert {turn_habits.resend_older for turn_habits in found} == moments
    assert {turn_habits.reset for turn_habits in found} == moments
    assert {kind for turn_habits in found for kind in turn_habits.malformed} == set(Malformed)
    assert {turn_habits.wording for turn_habits in found} == set(Wording) - {Wording.ANY}
    assert {len(turn_habits.extra_id_gaps_s) for turn_habits in found} == {0, 1, 2, 3, 4}
    assert {turn_habits.silence for turn_habits in found} == {*Silence, None} - {Silence.ANY}
    assert {turn_habits.loses_answer for turn_habits in found} == {True, False}
    assert any(turn_habits.interrupt_after_s for turn_habits in found)
    assert any(turn_habits.interrupt_after_chars for turn_habits in found)
    quiet = sum(turn_habits.reset is None for turn_habits in found)
    assert 150 < quiet < 270, "a habit shows in about a third of the turns"


def test_a_chance_of_one_shows_every_habit() -> None:
    habits = Habits(extra_ids=2, extra_id_after_s=0.4, interrupt_after_chars=10, malformed=("no_json", "bad_entry"))
    turn_habits = habits.draw(random.Random(1))
    assert turn_habits.extra_id_gaps_s == (0.4, 0.4)
    assert turn_habits.interrupt_after_chars == 10
    assert turn_habits.malformed == (Malformed.NO_JSON, Malformed.BAD_ENTRY)


def test_new_habits_keep_the_sequence_of_the_others() -> None:
    """A seed that was in use before a habit existed still gives the same conversation without that habit."""

    def moments(**switches: Any) -> list[Moment | None]:
        dice = random.Random(3)
        habits = Habits(reset=Moment.ANY, chance=0.5, **switches)
        return [habits.draw(dice).reset for _ in range(50)]

    assert moments(silence=Silence.ANY, loses_answer=True, growing_parts=3) == moments()


def test_each_way_to_hang_up_is_drawn() -> None:
    dice = random.Random(1)
    assert {Habits(goodbye=Goodbye.ANY).draw_goodbye(dice) for _ in range(50)} == {*Goodbye} - {Goodbye.ANY}
    assert Habits().draw_goodbye(dice) is Goodbye.CLOSE


def test_scaling_changes_times_and_nothing_else() -> None:
    scaled = Habits.hostile(1).scaled(0.5)
    assert (scaled.resend_after_s, scaled.idle_drop_s, scaled.interrupt_after_s) == (2.0, 30.0, 0.75)
    assert scaled.interrupt_after_chars == Habits.hostile(1).interrupt_after_chars
    assert scaled.slow_read_bytes_s == Habits.hostile(1).slow_read_bytes_s
    assert Habits().scaled(0.5).resend_after_s is None


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        ("resend_after_s", 0),
        ("resend_after_s", "4"),
        ("max_tries", 0),
        ("max_tries", True),
        ("extra_ids", 3),
        ("extra_id_after_s", 2),
        ("idle_drop_s", -1),
        ("chance", 1.5),
        ("fragment_bytes", 0),
        ("segment_bytes", 1.5),
        ("interruption", " "),
        ("reconnect", "yes"),
        ("reset", "sometimes"),
        ("wording", None),
        ("malformed", ("html",)),
        ("failed_answers", "some"),
        ("loses_answer", 1),
        ("discards_after_final", "no"),
        ("silence", "loud"),
        ("silence_after_s", 0),
        ("growing_parts", 6),
        ("growing_within_s", 4),
        ("drop_error", None),
        ("goodbye", None),
    ],
)
def test_a_wrong_value_is_refused_by_name(switch: str, value: Any) -> None:
    with pytest.raises(ValueError, match=switch):
        Habits(**{switch: value})


def test_names_in_text_are_as_good_as_members() -> None:
    assert Habits(reset="mid_answer").reset is Moment.MID_ANSWER  # type: ignore[arg-type]
