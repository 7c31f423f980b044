"""The comparison: the meaning of its figures, its reports, and a short run on real servers."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest

if sys.platform != "linux":
    pytest.skip("the benchmark kernel is for Linux", allow_module_level=True)

from bench.compare import starts
from bench.compare.charts import CHARTS, draw
from bench.compare.command import main
from bench.compare.documents import replaced
from bench.compare.goals import GOALS, judge
from bench.compare.machine import CHECKOUT
from bench.compare.publish import publish, readme_llm_table, readme_table
from bench.compare.report import markdown, verdict
from bench.compare.results import Figures, Results
from bench.compare.run import FULL, QUICK, seconds_needed
from bench.compare.scaling import Calls, Measured, needs, per_core
from bench.compare.scenarios import LINEUP, SCENARIOS
from bench.compare.starts import take_starts
from bench.compare.tables import warnings
from bench.compare.visits import Visit
from bench.kernel import BenchError, Target
from bench.load.targets import TARGETS

ASYNCIO, UVLOOP = "published SDK, asyncio", "published SDK, uvloop"
C_TURN = "bare C, one send a turn"


def results(*figures: tuple[str, str, Mapping[str, float]], is_quick: bool = False) -> Results:
    """Return a comparison; each figure of a server in a scenario is one repetition."""
    counts: dict[tuple[str, str], int] = {}
    kept = []
    for target, scenario, values in figures:
        number = counts.get((target, scenario), 0)
        counts[target, scenario] = number + 1
        kept.append(Figures(target, scenario, number, values))
    return Results(
        made="2026-11-28",
        machine={"processor": "A processor", "cores": "2", "memory": "4 GiB", "kernel": "Linux 6", "virtual": "yes"},
        versions={"Python": "3.11.7"},
        effort={"repetitions": 5, "measured_s": 1.5, "is_quick": is_quick},
        figures=kept,
    )


def costs(target: str, scenario: str, *figures: float) -> list[tuple[str, str, Mapping[str, float]]]:
    return [(target, scenario, {"cpu_us_per_turn": figure}) for figure in figures]


def whole() -> Results:
    """Return a comparison with figures of every server in all of its scenarios."""
    figures = []
    for place, entrant in enumerate(LINEUP, start=1):
        for name in entrant.scenarios:
            figures += costs(entrant.name, name, 10.0 * place)
        figures.append((entrant.name, "connections", {"memory_bytes_at_200": 1e6, "memory_bytes_at_2200": 3e6 * place}))
    found = results(*figures)
    found.curves = {name: [(0.01, 0.001), (0.5, 0.002), (0.999, 0.003)] for name in (UVLOOP, C_TURN, "se-server")}
    return found


@pytest.fixture(scope="module", autouse=True)
def fonts_are_open(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make matplotlib open its fonts, which stay open."""
    with suppress(BenchError):  # it is not installed
        draw(whole(), tmp_path_factory.mktemp("charts"))


@pytest.fixture
def cores() -> Iterator[None]:
    """Give this process its cores back; skip where there is but one."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core for the server, one for the load")
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


# --- the lineup -----------------------------------------------------------------------------------------------------


def test_every_server_can_start_and_be_judged() -> None:
    assert {entrant.name for entrant in LINEUP} <= TARGETS.keys()
    assert {name for entrant in LINEUP for name in entrant.scenarios} == SCENARIOS.keys()
    through = {entrant.name: entrant.scenarios for entrant in LINEUP}
    for goal in GOALS:
        below = goal.under_scenario or goal.scenario
        for target, scenario in (
            *((name, goal.scenario) for name in goal.over),
            *((name, below) for name in goal.under),
        ):
            # On asyncio the published SDK has one LLM package.
            assert scenario == "history" or scenario in through[target], (goal, target)


def test_comparisons_fit_into_an_hour_and_five_minutes() -> None:
    quick = [entrant for entrant in LINEUP if entrant.in_quick]
    assert seconds_needed([each for each in LINEUP if not each.is_python], list(SCENARIOS), FULL) < 60 * 60
    assert seconds_needed(quick, [name for name, s in SCENARIOS.items() if s.in_quick], QUICK) < 5 * 60


# --- the meaning of figures -----------------------------------------------------------------------------------------


def test_a_ratio_has_the_range_of_the_repetitions() -> None:
    found = results(*costs(UVLOOP, "one", 100, 240, 130), *costs("se-server", "one", 10, 20, 14))
    ratio = found.ratio(UVLOOP, "se-server", "one", "cpu_us_per_turn")
    assert ratio is not None
    assert ratio.median == pytest.approx(130 / 14)
    assert (ratio.low, ratio.high) == (pytest.approx(130 / 14), 12)


def test_a_peer_is_compared_with_at_its_best() -> None:
    found = results(*costs(ASYNCIO, "one", 150), *costs(UVLOOP, "one", 151), *costs("se-server", "one", 25))
    goal, figure = next((v.goal, v.figure) for v in judge(found) if v.goal.column == "published SDK / ours")
    assert goal.scenario == "one"
    assert figure is not None
    assert figure.median == 6


@pytest.mark.parametrize(("ours", "word", "code"), [(25, "met", 0), (18.75, "aim met", 0), (25.1, "MISSED", 1)])
def test_a_verdict_follows_from_the_median(ours: float, word: str, code: int) -> None:
    found = results(*costs(UVLOOP, "one", 150, 150, 150), *costs("se-server", "one", 1, ours, 1000))
    words = [v.word for v in judge(found) if v.figure is not None]
    assert words == [word]
    assert verdict(found)[0] == code
    assert word in markdown(found, {})


def test_runs_are_judged_by_the_median_of_theirs() -> None:
    first = results(*costs(UVLOOP, "one", 300, 310, 290), *costs("se-server", "one", 10, 11, 9))
    second = dataclasses.replace(
        results(*costs(UVLOOP, "one", 80, 60), *costs("se-server", "one", 10, 10), *costs("se-server", "trickle", 7)),
        made="2026-11-30",
        notes=["a note"],
    )
    both = Results.of_runs([first, second])
    ratio = both.ratio(UVLOOP, "se-server", "one", "cpu_us_per_turn")
    assert ratio is not None
    assert (ratio.median, ratio.low) == (pytest.approx((30 + 7) / 2), 6)
    assert both.ratios_by_run(UVLOOP, "se-server", "one", "cpu_us_per_turn") == pytest.approx([30, 7])
    assert both.by_run("se-server", "trickle", "cpu_us_per_turn") == [7]
    assert [(run.made, run.first, run.repetitions) for run in both.runs] == [("2026-11-28", 0, 3), ("2026-11-30", 3, 2)]
    page = markdown(both, {})
    assert "(runs: 30.0, 7.00)" in page
    assert "run of 2026-11-30" in page
    third = Results.of_runs([both, first])
    assert [run.first for run in third.runs] == [0, 3, 5]
    with pytest.raises(BenchError, match="quick runs cannot be merged"):
        Results.of_runs([first, results(is_quick=True)])


def test_a_figure_without_a_target_is_neither_met_nor_missed() -> None:
    found = results(*costs(UVLOOP, "trickle", 60), *costs("se-server", "trickle", 30))
    (shown,) = [v for v in judge(found) if v.figure is not None]
    assert (shown.met, shown.word, shown.goal.wanted) == (None, "", "no target")
    assert "2.00<br><sub>2.00–2.00; no target</sub>" in markdown(found, {})


def test_nothing_measured_is_neither_met_nor_missed() -> None:
    assert verdict(results())[0] == 2
    assert verdict(results(*costs("plain picows", "one", 30))) == (0, "No target is about these servers and scenarios.")


def test_the_excess_is_taken_within_a_repetition() -> None:
    def waits(target: str, *p99s: float) -> list[tuple[str, str, Mapping[str, float]]]:
        return [(target, "schedule", {"first_p99_s": p99}) for p99 in p99s]

    found = results(*waits("se-server", 0.3, 0.9), *waits(C_TURN, 0.1, 0.5))
    assert found.by_repetition("se-server", "schedule", "excess_p99_s") == pytest.approx({0: 0.2, 1: 0.4})


def test_where_a_difference_vanishes_there_is_no_ratio() -> None:
    def waits(target: str, *p99s: float) -> list[tuple[str, str, Mapping[str, float]]]:
        return [(target, "schedule", {"first_p99_s": p99}) for p99 in p99s]

    figures = [*waits(C_TURN, 0.5, 0.5, 0.5), *waits("se-server", 0.6, 0.4, 0.7)]
    found = results(*figures, *waits(UVLOOP, 1.5, 0.4, 2.5))
    ratio = found.ratio("se-server", UVLOOP, "schedule", "excess_p99_s")
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((0.1, 0.1, 0.1))
    assert (
        results(*figures, *waits(UVLOOP, 0.4, 0.5, 0.6)).ratio("se-server", UVLOOP, "schedule", "excess_p99_s") is None
    )


def test_an_old_message_costs_the_slope_over_histories() -> None:
    line = {10: 31.0, 100: 40.0, 1000: 130.0}
    found = results(*(figure for size, cost in line.items() for figure in costs("se-server", f"history-{size}", cost)))
    assert found.by_repetition("se-server", "history", "us_per_old_message") == pytest.approx({0: 0.1})


def test_a_busy_machine_or_limiting_generator_is_reported() -> None:
    calm = {"cpu_us_per_turn": 9.0, "others": 0.02, "load_busy": 0.5}
    assert warnings(results((C_TURN, "one", calm))) == []
    told = warnings(results((C_TURN, "one", {**calm, "others": 0.31, "load_busy": 0.99})))
    assert "31%" in told[0]
    assert C_TURN in told[1]


def test_the_formulas_of_scale_add_up() -> None:
    calls = Calls(lasts_s=100, turn_every_s=10, busy=0.5)
    measured = Measured(turn_us=300, turn_tls_us=None, handshake_us=2000, session_bytes=8000, kernel_bytes=None)
    # 300 us in 10 s and 2,000 us in 100 s are 50 millionths of a core; half a core has 10,000 times that.
    assert per_core(measured, calls) == pytest.approx(10_000)
    fleet = needs(1e6, measured, calls)
    assert fleet.cores == pytest.approx(100)
    assert (fleet.turns_per_s, fleet.calls_per_s, fleet.memory_bytes) == (1e5, 1e4, 8e9)


# --- files and reports ----------------------------------------------------------------------------------------------


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    kept = results(*costs("se-server", "one", 25.0, 26.0))
    kept.curves = {"se-server": [(0.5, 0.001), (0.99, 0.002)]}
    kept.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == kept
    (tmp_path / "other.json").write_text(json.dumps({"runs": []}))
    with pytest.raises(BenchError, match="holds no results"):
        Results.read(tmp_path / "other.json")


def test_only_a_whole_comparison_is_published(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="--quick"):
        publish(results(*costs("se-server", "one", 25.0), is_quick=True), tmp_path)
    with pytest.raises(BenchError, match="lacks one-growing, burst"):
        publish(results(*costs("se-server", "one", *(25.0 for _ in range(5)))), tmp_path)
    with pytest.raises(BenchError, match="five repetitions"):
        publish(results(*costs("se-server", "one", 25.0)), tmp_path)


def test_a_table_takes_its_place_between_the_marks(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("before\n<!-- compare: begin -->\nold\nold\n<!-- compare: end -->\nafter\n")
    table = readme_table(results(*costs(UVLOOP, "one", 180.0), *costs("se-server", "one", 20.0)))
    document.write_text(replaced(document, "compare", table))
    assert document.read_text().startswith("before\n<!-- compare: begin -->\n| CPU microseconds")
    assert "| 1 chunk, history 4 | 180 (9.0 times) |  | **20** |  |" in document.read_text()
    with pytest.raises(BenchError, match="no marks"):
        replaced(document, "scaling", table)
    for name, path in (("compare", "README.md"), ("llm", "README.md"), ("scaling", "docs/scaling.md")):
        assert table in replaced(CHECKOUT / path, name, table)


def test_the_first_table_has_the_calls_with_an_llm() -> None:
    def calls(target: str, per_token: float, carried: float) -> tuple[str, str, Mapping[str, float]]:
        return target, "llm-openai", {"us_per_token": per_token, "us_per_call": 9e4, "conversations": carried}

    found = results(calls("se-server", 34, 960), calls(UVLOOP, 190, 110), calls("JavaScript SDK", 80, 200))
    table = readme_llm_table(found)
    assert "| CPU of a token, us | **34** | 190 |  | 80 |" in table
    assert "| conversations a core carries | **960 or more** | 110 |  | 200 |" in table
    assert markdown(found, {}).index("Calls with an LLM behind them") < markdown(found, {}).index("Targets:")
    assert readme_llm_table(results(*costs("se-server", "one", 9))) == ""


# --- a real run -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cores")
def test_a_short_comparison_is_reported_and_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    small = dataclasses.replace(QUICK, repetitions=2, first_warm_up_s=0.1, measured_s=0.2, held=(10, 30))
    monkeypatch.setattr("bench.compare.command.QUICK", small)
    asked = ["--quick", "--targets", "plain picows", "se-server", "--only", "one", "connections"]
    assert main([*asked, "--out", str(tmp_path)]) in (0, 1)
    told = capsys.readouterr().out
    assert "KB per idle conversation" in told

    kept = Results.read(tmp_path / "results.json")
    ours = kept.spread("se-server", "one", "cpu_us_per_turn")
    assert ours is not None
    assert 1 < ours.low <= ours.median < 10_000
    assert kept.by_repetition("plain picows", "one", "turns").keys() == {0, 1}
    assert [held for held, _ in kept.held("se-server")] == [10, 40]
    assert not [note for note in kept.notes if "no figure" in note], kept.notes

    before = (tmp_path / "report.md").read_text()
    assert "![" in before
    assert main(["--from", str(tmp_path / "results.json")]) in (0, 1)
    assert (tmp_path / "report.md").read_text() == before
    for name in ("cost.svg", "memory.svg"):
        assert len(list(ElementTree.parse(tmp_path / name).getroot().iter())) > 50


def test_starts_are_measured() -> None:
    taken = take_starts(TARGETS["se-server"], max(os.sched_getaffinity(0)))
    assert taken.keys() == {"supervisor_ready_s", "worker_ready_s", "worker_preloaded_s", "import_s"}
    assert all(0.005 < seconds < 15 for seconds in taken.values()), taken


def test_a_server_that_does_not_start_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.compare.starts.TIMEOUT_S", 0.5)
    silent = Target("silent", (sys.executable, "-c", "import time; time.sleep(60)"), ready="never")
    with pytest.raises(BenchError, match="had not printed 'never'"):
        starts._start(silent, max(os.sched_getaffinity(0)))


@pytest.mark.usefixtures("cores")
def test_a_run_that_is_stopped_keeps_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(taker: object, visit: Visit, repetition: int) -> None:
        if repetition:
            raise KeyboardInterrupt
        taker._results.figures.append(Figures(visit.name, "one", 0, {"cpu_us_per_turn": 9.0}))  # type: ignore[attr-defined]

    monkeypatch.setattr("bench.compare.run._Taker.take", take)
    monkeypatch.setattr("bench.compare.command.draw", lambda results, folder: {})
    assert main(["--targets", "plain picows", "--only", "one", "--out", str(tmp_path)]) == 0
    kept = Results.read(tmp_path / "results.json")
    assert kept.by_repetition("plain picows", "one", "cpu_us_per_turn") == {0: 9.0}
    assert "The run was stopped before its end." in kept.notes


def test_every_chart_is_drawn_of_a_whole_comparison(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert draw(whole(), tmp_path).keys() == CHARTS.keys()
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    draw(whole(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_what_is_asked_wrongly_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--only", "nothing"], ["--targets", "nobody"], ["--repetitions", "0"]):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2
    assert "there is no scenario 'nothing'" in capsys.readouterr().err
