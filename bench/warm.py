"""Warm before the fork: what `--preload` and `--preload-app` bring, with the real packages of language models.

`python -m bench.warm`: some fifteen minutes. For each package, and for all together, servers without preloading, with
`--preload` and with `--preload-app` take turns, each on a fresh process. The agent makes one client of each package at
import, and asks a fake provider, whose model `instant` answers at once and whose model `usual` takes 0.2 s to its first
token. Measured are:

* ready: from the order to fork a worker to its report that it serves, by the server's own clock;
* respawn: from SIGKILL to a worker to the report of the next one;
* the first turn of a worker, to the end of the answer, against the median of the ninth to eleventh;
* private memory: `Private_*` of /proc/PID/smaps_rollup, when the worker is ready and after twelve turns.

Figures are medians of the repetitions. Writes `warm.json` and `warm.md` to bench/results/latest, and with `--write` the
tables and the charts of docs/preload.md. `--from-results` measures nothing, and `--only PACKAGE` one package.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from bench.kernel import BenchError
from bench.load.serving import Service, serving
from bench.load.targets import API_KEY
from bench.warm_figures import FIGURES, GROUPS, MODES, goals, is_met, report
from se_server.simulator.caller import Caller
from tests.providers import RemoteProvider, provider_process

__all__ = ["measure"]

AGENT = Path(__file__).with_name("warm_agent.py")
PAGE = Path(__file__).parents[1] / "docs" / "preload.md"
RESULTS = Path(__file__).parent / "results" / "latest"
APIS = ("openai", "anthropic", "gemini")
WORKERS = 2
TURNS = 12
MODELS = {"instant": "turn", "usual": "usual"}
USUAL_S = 0.2
KILLS = 2  # more deaths of young workers would delay the next one
SETTLE_S = 0.3
READY = re.compile(r"^(\S+) DEBUG .* worker (\d+) \(pid (\d+)\) is ready after ([\d.]+) s", re.MULTILINE)


def private_bytes(pid: int) -> int:
    """Return the memory that a process shares with no other."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(size) for size in re.findall(r"^Private_\w+: +(\d+) kB", text, re.MULTILINE))


def ready_reports(service: Service) -> dict[int, tuple[float, float]]:
    """Return, by pid, the time at which each worker was ready, on the clock of `time.time`, and how long it took."""
    found = {}
    for stamp, _, pid, took_s in READY.findall(service.log()):
        clock, _, fraction = stamp.rstrip("Z").partition(".")
        at = time.strptime(clock, "%Y-%m-%dT%H:%M:%S")
        found[int(pid)] = (_epoch(at) + float(f"0.{fraction}"), float(took_s))
    return found


def _epoch(moment: time.struct_time) -> float:
    import calendar

    return float(calendar.timegm(moment))


async def turns(url: str) -> dict[str, list[float]]:
    """Hold a conversation with each of two workers, one after the other; return the time of each turn, in seconds."""
    found: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        # Two at once: the second one is the other worker's.
        callers = {model: await stack.enter_async_context(Caller.connect(url, api_key=API_KEY)) for model in MODELS}
        for model, caller in callers.items():
            found[model] = []
            for _ in range(TURNS):
                began_s = time.perf_counter()
                if not (await caller.say(model)).text.strip():
                    raise BenchError("a turn had no answer")
                found[model].append(time.perf_counter() - began_s)
    return found


def measure(group: str, mode: str, provider: RemoteProvider) -> dict[str, list[float]]:
    """Run one server, and return its figures; each worker gives some.

    Raises:
        BenchError: the server does not start, or does not answer.
    """
    packages = GROUPS[group]
    options = {"without": (), "--preload": ("--preload", ",".join(packages))}
    options["--preload-app"] = (*options["--preload"], "--preload-app")
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its import would fetch a table of prices
    os.environ["PACKAGES"] = ",".join(packages)
    os.environ["PROVIDER"] = json.dumps({api: provider.base_url(api) for api in APIS})
    found: dict[str, list[float]] = {name: [] for name in FIGURES}
    with serving(*options[mode], "--log-level", "debug", workers=WORKERS, agent=AGENT) as service:
        time.sleep(SETTLE_S)
        reports = ready_reports(service)
        found["ready_s"] = [took_s for _, took_s in reports.values()]
        found["private_ready_bytes"] = [float(private_bytes(pid)) for pid in reports]
        waits = asyncio.run(turns(service.url))
        for model, name in MODELS.items():
            found[f"first_{name}_s"] = [waits[model][0]]
            found[f"tenth_{name}_s"] = [median(waits[model][8:11])]
        found["private_used_bytes"] = [float(private_bytes(pid)) for pid in reports]
        for victim in list(reports)[:KILLS]:
            killed_at = time.time()
            os.kill(victim, signal.SIGKILL)
            service.find(READY, len(reports) + 1)
            later = ready_reports(service)
            (fresh,) = set(later) - set(reports)
            found["respawn_s"].append(later[fresh][0] - killed_at)
            found["ready_s"].append(later[fresh][1])
            reports = later
    return found


def _measure_all(chosen: Sequence[str], repetitions: int, results: dict[str, Any], file: Path) -> None:
    for group in chosen:
        results["figures"][group] = {mode: {name: [] for name in FIGURES} for mode in MODES}
    with provider_process() as provider:
        for model in MODELS:
            provider.script(model, text="Good morning to you.", first_token_s=USUAL_S if model == "usual" else 0.0)
        for repetition in range(repetitions):
            for group in chosen:
                for mode in MODES if repetition % 2 == 0 else MODES[::-1]:
                    for name, values in measure(group, mode, provider).items():
                        results["figures"][group][mode][name] += values
                    print(f"{repetition + 1}/{repetitions} {group}, {mode}", file=sys.stderr, flush=True)
            file.write_text(json.dumps(results, indent=1) + "\n")


def _machine() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.partition(': ')[2]}, {len(os.sched_getaffinity(0))} cores"
    return platform.machine()


def main() -> int:
    """Run the command; returns the exit code: 0 all targets are met, 1 one is missed, 2 nothing could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.warm", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=tuple(GROUPS), action="append", help="measure these, keep other figures")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--from-results", action="store_true", help="measure nothing, write the tables again")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/preload.md, draw its charts")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    file = given.results / "warm.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"figures": {}}
    try:
        if not given.from_results:
            chosen = given.only or list(GROUPS)
            missing = [name for group in chosen for name in GROUPS[group] if not _is_installed(name)]
            if missing:
                raise BenchError(f"not installed: {', '.join(dict.fromkeys(missing))}")
            results |= {
                "machine": _machine(),
                "python": platform.python_version(),
                "made": date.today().isoformat(),
            }
            given.results.mkdir(parents=True, exist_ok=True)
            _measure_all(chosen, given.repetitions, results, file)
        text = report(results)
        (given.results / "warm.md").write_text(text)
        print(text)
        if given.write:
            if importlib.util.find_spec("matplotlib") is None:
                print("no charts: they need matplotlib; --from-results --write draws them later", file=sys.stderr)
            else:
                from bench.warm_charts import draw

                draw(results, PAGE.parent / "preload")
            begin, end = "<!-- warm: begin -->\n", "<!-- warm: end -->"
            before, _, rest = PAGE.read_text().partition(begin)
            PAGE.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}")
    except (BenchError, OSError) as error:
        print(f"bench.warm: {error}", file=sys.stderr)
        return 2
    met = [is_met(name, ratio) for group in results["figures"] for name, ratio in goals(results, group).items()]
    return 0 if all(met) else 1


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
