"""The page for operators in a real browser: content, live update, keyboard, and no overflow at any width."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.observing import TOKEN, Admin, observed_server
from tests.functional.processes import needs_proc, write_agent
from tests.functional.test_timelines import AGENT
from tests.helpers import START_TIMEOUT_S, connect, init_message, read_answer, transcript_message

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    needs_proc,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="needs a browser: apt-get install chromium chromium-driver"
    ),
]


@pytest.fixture
def browser() -> Iterator[Any]:
    """Run Chromium without a screen, and check at the end that no page has logged an error."""
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(str(DRIVER)))
    try:
        yield driver
        # The page asks again while the server is gone, here at the end of the test.
        logged = [entry for entry in driver.get_log("browser") if "net::ERR_" not in entry["message"]]
        assert logged == []
    finally:
        driver.quit()


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def text_of(browser: Any, selector: str) -> str:
    return str(browser.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector))


def show(browser: Any, admin: Admin, width: int = 1280, scheme: str = "light") -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(f"http://127.0.0.1:{admin.place}/")
    wait_for(lambda: text_of(browser, "#state") == "serving", "the page shows figures")


def unlock(browser: Any) -> None:
    browser.execute_script("document.querySelector('#unlock').click()")
    field = browser.switch_to.active_element
    field.send_keys(TOKEN + "\n")
    wait_for(lambda: browser.execute_script("return document.body.classList.contains('unlocked')"), "it is unlocked")


async def test_the_page_shows_conversations_live(browser: Any, tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    with observed_server(app=app, workers=1, tokens=tmp_path / "tokens") as admin:
        await asyncio.to_thread(show, browser, admin)
        assert text_of(browser, ".tile b") == "0"
        assert "No conversation in this time." in text_of(browser, "#conversations-chart")
        async with connect(admin.server.url) as caller:
            await caller.send(init_message("conv_<img src=x onerror=alert(1)>"))
            await caller.send(transcript_message("think", event_id=1))
            await read_answer(caller)
            await asyncio.to_thread(
                wait_for, lambda: text_of(browser, ".tile b") == "1", "the figure changes by itself"
            )
            await asyncio.to_thread(unlock, browser)
            await asyncio.to_thread(
                wait_for, lambda: "conv_<img" in text_of(browser, "#conversations"), "the conversation is listed"
            )
            await asyncio.to_thread(
                wait_for, lambda: "conv_<img" in text_of(browser, "#slow"), "its turn is among the slow ones"
            )
            browser.execute_script("document.querySelector('#conversations button').click()")
            await asyncio.to_thread(
                wait_for, lambda: "first event" in text_of(browser, "#timeline-events"), "the timeline is shown"
            )
            assert "answered" in text_of(browser, "#timeline-turns")
            assert "event id 1" in text_of(browser, "#timeline-events")
        await asyncio.to_thread(wait_for, lambda: text_of(browser, ".tile b") == "0", "the figure changes back")


async def test_recordings_are_shown_and_saved(browser: Any, tmp_path: Path) -> None:
    (saved := tmp_path / "saved").mkdir()
    await asyncio.to_thread(
        browser.execute_cdp_cmd, "Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(saved)}
    )
    given = ("--record", "full", "--record-dir", str(tmp_path / "flights"), "--record-on", "one-in=1")
    app = write_agent(tmp_path / "agent.py", AGENT)
    with observed_server(*given, app=app, workers=1, tokens=tmp_path / "tokens") as admin:
        async with connect(admin.server.url) as caller:
            await caller.send(init_message("conv_<b>"))
            await caller.send(transcript_message("think <b>", event_id=1))
            await read_answer(caller)
        await asyncio.to_thread(show, browser, admin)
        await asyncio.to_thread(unlock, browser)
        await asyncio.to_thread(
            wait_for, lambda: "one-in" in text_of(browser, "#recordings"), "the recording is listed"
        )
        browser.execute_script("document.querySelector('#conversations button').click()")
        await asyncio.to_thread(
            wait_for, lambda: "think <b>" in text_of(browser, "#timeline-texts"), "the texts are shown"
        )
        browser.execute_script("document.querySelectorAll('#timeline-files button, #recordings .files button')"
                               ".forEach((button) => button.click())")  # fmt: skip
        await asyncio.to_thread(
            wait_for, lambda: len([*saved.glob("*.py"), *saved.glob("*.jsonl")]) == 4, "four files are saved"
        )
        assert sorted(path.suffix for path in saved.iterdir()) == [".jsonl", ".jsonl", ".py", ".py"]


def test_the_page_asks_no_other_host(browser: Any, tmp_path: Path) -> None:
    with observed_server(app=write_agent(tmp_path / "agent.py"), workers=1) as admin:
        show(browser, admin)
        asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert asked
        assert all(url.startswith(f"http://127.0.0.1:{admin.place}/") for url in asked)


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_overflows_at_any_width(browser: Any, tmp_path: Path, width: int) -> None:
    app = write_agent(tmp_path / "agent.py")
    with observed_server(app=app, workers=1, tokens=tmp_path / "tokens") as admin:
        show(browser, admin, width)
        unlock(browser)
        root = "document.documentElement"
        assert browser.execute_script(f"return {root}.scrollWidth - {root}.clientWidth") == 0


def test_light_and_dark_have_their_own_colours(browser: Any, tmp_path: Path) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    with observed_server(app=write_agent(tmp_path / "agent.py"), workers=1) as admin:
        show(browser, admin, scheme="light")
        light = browser.execute_script(ground)
        show(browser, admin, scheme="dark")
        dark = browser.execute_script(ground)
        assert light != dark
        browser.execute_script("document.querySelector('#theme').click()")
        assert browser.execute_script(ground) == light


def test_an_action_is_confirmed_by_keyboard_alone(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    app = write_agent(tmp_path / "agent.py")
    with observed_server(app=app, workers=1, tokens=tmp_path / "tokens") as admin:
        show(browser, admin)
        unlock(browser)
        for _ in range(40):
            browser.switch_to.active_element.send_keys(Keys.TAB)
            if browser.switch_to.active_element.get_attribute("id") == "reload":
                break
        browser.switch_to.active_element.send_keys(Keys.ENTER)
        wait_for(lambda: text_of(browser, "#confirm-title") == "Reload?", "it asks")
        browser.switch_to.active_element.send_keys(Keys.TAB)
        browser.switch_to.active_element.send_keys(Keys.ENTER)
        admin.server.wait_for_output("reload: generation 2 serves", START_TIMEOUT_S)
        wait_for(lambda: "the reload has begun" in text_of(browser, "#notice"), "it reports")


def test_a_restarted_observer_is_found_again(browser: Any, tmp_path: Path) -> None:
    import os
    import signal

    with observed_server(app=write_agent(tmp_path / "agent.py"), workers=1) as admin:
        show(browser, admin)
        os.kill(admin.pid(), signal.SIGKILL)
        admin.server.wait_for_output("the observer was killed")
        up = text_of(browser, "#facts")
        wait_for(lambda: text_of(browser, "#state") == "serving" and text_of(browser, "#facts") != up, "it goes on")
