"""The page for operators in a real browser: content, live update, keyboard, and no overflow at any width."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.browsing import (
    check_logs,
    fresh_tab,
    needs_browser,
    resize,
    running_browser,
    text_of,
    wait_for,
)
from tests.functional.observing import TOKEN, Admin, observed_server
from tests.functional.processes import needs_proc, write_agent
from tests.functional.test_timelines import AGENT
from tests.helpers import START_TIMEOUT_S, connect, init_message, read_answer, transcript_message

pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
pytestmark = [needs_proc, needs_browser]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with running_browser() as driver:
        yield driver


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """A tab of its own, whose page logs no error and asks no other host."""
    with fresh_tab(chromium) as driver:
        yield driver
        check_logs(driver)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """A server without conversations."""
    folder = tmp_path_factory.mktemp("observer")
    with observed_server(app=write_agent(folder / "agent.py"), workers=1, tokens=folder / "tokens") as admin:
        yield admin


CUT = (
    "return [...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth)"
    ".map((box) => box.ariaLabel)"
)
"""The tables that are wider than their card."""


def show(browser: Any, admin: Admin, width: int = 1280, scheme: str = "light") -> None:
    resize(browser, width, scheme=scheme)
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
            resize(browser, 360)
            assert browser.execute_script(CUT) == []
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


def test_nothing_overflows_at_any_width(browser: Any, quiet: Admin) -> None:
    root = "document.documentElement"
    for width in (360, 768, 1600):
        show(browser, quiet, width)
        if width == 360:
            unlock(browser)
        assert browser.execute_script(f"return {root}.scrollWidth - {root}.clientWidth") == 0, width
        wait_for(lambda: text_of(browser, "#workers td"), "the workers are listed")
        assert browser.execute_script(CUT) == [], width


def test_light_and_dark_have_their_own_colours(browser: Any, quiet: Admin) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    show(browser, quiet, scheme="light")
    light = browser.execute_script(ground)
    resize(browser, 1280, scheme="dark")
    dark = browser.execute_script(ground)
    assert light != dark
    browser.execute_script("document.querySelector('#theme').click()")
    assert browser.execute_script(ground) == light


def test_an_action_and_a_restart_are_seen(browser: Any, tmp_path: Path) -> None:
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
        # An observer that dies is found again by the page.
        os.kill(admin.pid(), signal.SIGKILL)
        admin.server.wait_for_output("the observer was killed")
        up = text_of(browser, "#facts")
        wait_for(lambda: text_of(browser, "#state") == "serving" and text_of(browser, "#facts") != up, "it goes on")
