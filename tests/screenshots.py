"""Takes pictures of the page for operators, empty and under load: `python -m tests.screenshots FOLDER`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.functional.browsing import resize, running_browser, wait_for_page
from tests.functional.observing import TOKEN, observed_server
from tests.functional.processes import write_agent
from tests.helpers import TEST_API_KEY

AGENT = """
    import asyncio, random
    async def words():
        await asyncio.sleep(min(4, random.lognormvariate(-1.2, 0.6)))
        yield {"choices": [{"delta": {"reasoning_content": "hm"}}]}
        await asyncio.sleep(random.uniform(0, 0.2))
        for place in range(random.randint(4, 16)):
            yield {"choices": [{"delta": {"content": f"word{place} "}}]}
            await asyncio.sleep(0.03)
    async def on_transcript(transcript, session):
        kind = random.random()
        if kind < 0.02:
            return
        if kind < 0.03:
            raise RuntimeError("as asked")
        await asyncio.sleep(random.expovariate(30))
        await session.send_response(words())
"""
LOAD_S = 45
VIEWS = [(360, "light"), (360, "dark"), (1600, "light"), (1600, "dark")]


def take(driver: Any, url: str, path: Path, width: int, scheme: str, ready: str) -> None:
    """Take a picture of the whole page, unlocked, once it has an element."""
    resize(driver, width, 1000, scheme)
    driver.get(url)
    driver.execute_script("sessionStorage.setItem('se-server token', arguments[0])", TOKEN)
    driver.refresh()
    wait_for_page(driver, f"document.querySelector('{ready}') !== null")
    resize(driver, width, driver.execute_script("return document.documentElement.scrollHeight"), scheme)
    time.sleep(0.5)  # for the charts to be drawn again
    driver.save_screenshot(str(path))


def take_timeline(driver: Any, path: Path) -> None:
    """Take a picture of the timeline of the conversation with the slowest turn, of the page that is open."""
    resize(driver, 1280)
    driver.execute_script("document.querySelector('#slow button').click()")
    wait_for_page(driver, "document.querySelector('#timeline[open] tbody tr') !== null")
    driver.save_screenshot(str(path))


def main(directory: str) -> None:
    """Run a server under load and take all pictures."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, running_browser("--hide-scrollbars") as driver:
        app = write_agent(Path(place, "agent.py"), AGENT)
        with observed_server("--max-sessions", "80", app=app, tokens=Path(place, "tokens")) as admin:
            url = f"http://127.0.0.1:{admin.place}/"
            for width, scheme in VIEWS:
                take(driver, url, folder / f"empty-{scheme}-{width}.png", width, scheme, "#slow .empty")
            load = [sys.executable, "-m", "se_server.cli.bench", "load", admin.server.url, "--processes", "1"]
            load += ["-n", "40", "--duration-s", str(LOAD_S), "--think-s", "1.5", "--interruption-rate", "0.15"]
            load += ["--max-errors", "1000", "--api-key", TEST_API_KEY, "--profile", "soak", "--call-s", "30"]
            with subprocess.Popen(load, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                time.sleep(LOAD_S * 0.7)
                for width, scheme in VIEWS:
                    take(driver, url, folder / f"{scheme}-{width}.png", width, scheme, "#slow button")
                take_timeline(driver, folder / "timeline.png")
                process.terminate()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "screenshots")
