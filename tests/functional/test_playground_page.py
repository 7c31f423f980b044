"""The playground in a real browser: conversations, running again, tabs, speech, keyboard, sizes, and accessibility."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
    wait_for_page,
)
from tests.functional.playing import Playground, open_page, running_playground, say, wait_for_open, wait_for_turns
from tests.functional.processes import wait_for_drain, write_agent
from tests.helpers import free_port

pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
pytestmark = needs_browser

AGENT = """
    import asyncio
    VERSION = "one"
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said == "history":
            await session.send_response(repr([entry.content for entry in transcript[:-1]]))
            return
        async def words():
            text = f"Version {VERSION} heard {said}."
            if "story" in said:
                text = "Once upon a time there was a long story. " * 40
            for word in text.split():
                yield word + " "
                await asyncio.sleep(0.02)
        await session.send_response(words())
"""
# Replaces both interfaces of speech: the test says what is heard, and ends what is spoken.
FAKE_SPEECH = """
  window.spoken = []; window.ears = [];
  window.SpeechSynthesisUtterance = class { constructor(text) { this.text = text; } };
  Object.defineProperty(window, "speechSynthesis", { value: {
    speak(one) { spoken.push(one); setTimeout(() => one.onstart?.()); }, cancel() { window.cancelled = true; },
    getVoices: () => [], addEventListener() {},
  } });
  window.SpeechRecognition = class {
    start() { ears.push(this); } stop() { this.onend?.(); } abort() { this.onend?.(); }
    static async available() { return "unavailable"; }
  };
  window.hear = (text, isFinal) => {
    const result = [{ transcript: text }]; result.isFinal = isFinal;
    ears.at(-1).onresult({ results: [result], resultIndex: 0 });
  };
"""

AXE = "4.14.1"  # the newest rules might find more than those that the page was checked by

NO_EARS = {
    "There is no microphone.",
    "The browser's speech recognition cannot be reached: type instead.",
    "The browser does not let this page listen: allow the microphone for this address.",
}


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


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent.py", AGENT)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    with running_playground(app=write_agent(tmp_path_factory.mktemp("page") / "agent.py", AGENT)) as page:
        yield page


def click(browser: Any, name: str) -> None:
    browser.find_element("id", name).click()


def answers(browser: Any) -> list[str]:
    return [
        str(text)
        for text in browser.execute_script(
            "return [...document.querySelectorAll('.answer > p')].map((p) => p.textContent)"
        )
    ]


def test_three_turns_are_held_and_exported(browser: Any, page: Playground, tmp_path: Path) -> None:
    resize(browser, 1280)
    open_page(browser, page)
    say(browser, "a story")
    wait_for(lambda: "Once upon a time" in text_of(browser, "#turn-0 .answer"), "words stream")
    say(browser, "another story")  # interrupts by typing
    wait_for(lambda: "Once upon" in text_of(browser, "#turn-1 .answer"), "the next answer streams")
    click(browser, "interrupt")
    wait_for_turns(browser, 3)
    assert answers(browser)[2] == "Version one heard Wait a moment.. "
    assert "interrupted" in text_of(browser, "#turn-0 .chips")
    assert "interrupted" in text_of(browser, "#turn-1 .chips")
    assert "first word" in text_of(browser, "#turn-2 .chips")
    wait_for(lambda: "provider" in text_of(browser, "#ledger .parts"), "the ledger is drawn")
    lanes = text_of(browser, "#lanes")
    assert all(lane in lanes for lane in ("transcript", "handler", "provider", "flushes", "heard", "final"))
    assert "user_transcript" in text_of(browser, "#frames")
    browser.find_element("css selector", ".frame summary").click()
    wait_for(lambda: '"event_id"' in text_of(browser, ".frame[open] pre"), "the message unfolds")
    # The switch of a habit, and what the server made of it.
    click(browser, "settings-open")
    browser.find_element("css selector", "#switches .switch:nth-child(2) input").click()
    click(browser, "settings-close")
    say(browser, "two ids")
    wait_for(lambda: "a further id for the same pause" in text_of(browser, "#turn-3"), "the habit is told")
    wait_for_turns(browser, 4)
    link = browser.execute_script("return document.querySelector('#as-test').href")
    status, text = page.ask(link.removeprefix(page.url))
    assert status == 200
    (tmp_path / "test_conversation.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, text + result.stdout


def test_an_edit_is_compared_by_running_again(browser: Any, app: Path) -> None:
    with running_playground("--reload", "--log-level", "debug", app=app, workers=1) as page:
        page.server.wait_for_output("watching .* for changes")
        old = int(page.server.wait_for_output(r"worker 0 \(pid (\d+)\) is ready")[1])
        open_page(browser, page)
        say(browser, "hello")
        wait_for_turns(browser, 1)
        write_agent(app, AGENT, version="two")
        wait_for_drain(page.server, old)
        click(browser, "again")
        wait_for(lambda: text_of(browser, "#turn-0 ins") == "two", "the new word is marked")
        assert text_of(browser, "#turn-0 del") == "one"
        assert "other words" in text_of(browser, "#turn-0 .chips")
        say(browser, "and now")
        wait_for_turns(browser, 2)
        assert answers(browser)[1] == "Version two heard and now. "


def test_tabs_are_conversations_of_their_own(browser: Any, app: Path, tmp_path: Path) -> None:
    port = free_port()
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with running_playground(app=app, port=port, env=env, workers=1) as page:
        others = set(browser.window_handles) - {browser.current_window_handle}
        browser.get(page.url)
        for _ in range(9):  # they load at the same time
            browser.execute_cdp_cmd("Target.createTarget", {"url": page.url, "background": True})
        handles = [handle for handle in browser.window_handles if handle not in others]
        assert len(handles) == 10
        for number, handle in enumerate(handles):
            browser.switch_to.window(handle)
            wait_for_open(browser)
            say(browser, f"tab {number}")
        for number, handle in enumerate(handles):
            browser.switch_to.window(handle)
            wait_for_turns(browser, 1)
            assert answers(browser) == [f"Version one heard tab {number}. "]
        closed = str(browser.execute_script("return document.querySelector('#state').title"))
        browser.close()
        page.server.wait_for_output(f"conversation ended: conversation_id={closed}")
        assert page.server.output().count("conversation ended") == 1
        browser.switch_to.window(handles[0])
    wait_for(lambda: "looking for it" in text_of(browser, "#state"), "the page says that the server is gone")
    with running_playground(app=app, port=port, env=env, workers=1):
        wait_for(lambda: text_of(browser, "#state") == "open", "the page finds the next server")
        assert "The server is back" in text_of(browser, "#turns")
        say(browser, "hello again")
        wait_for_turns(browser, 1)


def hush(browser: Any, turns: int) -> None:
    """Wait until so many turns are complete and spoken: the test ends what is spoken."""
    ended = "spoken.forEach((one) => one.onend()); return document.querySelector('#interrupt').disabled"
    wait_for_page(browser, f"document.querySelectorAll('li.turn').length === {turns}")
    last = f"document.querySelector('#turn-{turns - 1}')?.querySelector('.wait') === null"
    wait_for_page(browser, last)
    wait_for(lambda: browser.execute_script(ended), "the voice has ended")


def test_speech_is_read_cut_and_heard(browser: Any, page: Playground) -> None:
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FAKE_SPEECH})
    open_page(browser, page)
    click(browser, "voice")
    say(browser, "a story")
    wait_for_page(browser, "spoken.length > 2", "sentences are spoken before the answer is complete")
    assert browser.execute_script("return spoken.every((one) => one.text.length <= 200)")
    assert browser.execute_script("return spoken[0].text") == "Once upon a time there was a long story."
    browser.execute_script("spoken[0].onend(); spoken[1].onboundary({charIndex: 9})")
    # The space bar, outside of the text, interrupts; what was spoken is the history.
    browser.execute_script("document.activeElement.blur()")
    browser.find_element("css selector", "body").send_keys(" ")
    hush(browser, 2)
    assert browser.execute_script("return window.cancelled") is True
    assert "Once upon" in text_of(browser, "#turn-0 s") or text_of(browser, "#turn-0 s") != ""
    say(browser, "history")
    hush(browser, 3)
    assert "'Once upon a time there was a long story. Once upon'" in answers(browser)[2].replace("upon '", "upon'")
    # Push to talk, then hands-free with headphones: its own voice is dropped, another one interrupts.
    browser.execute_script("document.querySelector('#mic').dispatchEvent(new PointerEvent('pointerdown'))")
    browser.execute_script(
        "hear('say something', true); document.querySelector('#mic').dispatchEvent(new PointerEvent('pointerup'))"
    )
    hush(browser, 4)
    assert text_of(browser, "#turn-3 .said") == "say something"
    click(browser, "settings-open")
    assert "sends what you say to its maker" in text_of(browser, "#ears-note")
    browser.find_element("css selector", "#speech-mode [value=free]").click()
    click(browser, "headphones")
    click(browser, "settings-close")
    say(browser, "a story")
    wait_for_page(browser, "spoken.at(-1).text.includes('long story')", "it speaks")
    browser.execute_script("spoken.at(-1).onstart(); hear('time there was a long story', true)")
    browser.execute_script("hear('no wait please', false)")
    browser.execute_script("hear('no wait please stop', true)")
    wait_for_page(browser, "document.querySelectorAll('li.turn').length === 6")
    assert text_of(browser, "#turn-5 .said") == "no wait please stop"


def test_a_browser_without_a_recogniser_says_so(browser: Any, page: Playground) -> None:
    """Chromium has both interfaces of speech, and here neither a microphone nor a recogniser or a voice behind them."""
    open_page(browser, page)
    hear = "document.querySelector('#mic').dispatchEvent(new PointerEvent('pointer{}'))"
    browser.execute_script(hear.format("down"))
    wait_for(lambda: text_of(browser, "#heard-now") in NO_EARS, "the page says why it hears nothing")
    browser.execute_script(hear.format("up"))
    say(browser, "hello")  # which reads the answer aloud, since the microphone was used
    wait_for_turns(browser, 1)
    assert answers(browser) == ["Version one heard hello. "]


def test_the_keyboard_alone_is_enough(browser: Any, page: Playground) -> None:
    from selenium.webdriver.common.keys import Keys

    def tab_to(name: str) -> None:
        for _ in range(60):
            if browser.switch_to.active_element.get_attribute("id") == name:
                return
            browser.switch_to.active_element.send_keys(Keys.TAB)
        raise AssertionError(f"no way to {name}")

    open_page(browser, page)
    browser.switch_to.active_element.send_keys("a story" + Keys.ENTER)  # the text has the focus
    wait_for(lambda: "Once" in text_of(browser, "#turn-0 .answer"), "words stream")
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait_for_turns(browser, 2)
    assert "interrupted" in text_of(browser, "#turn-0 .chips")
    tab_to("turn-before")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    wait_for(lambda: text_of(browser, "#turn-title").startswith("Turn 1 of 2"), "the first turn is shown")
    tab_to("settings-open")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    wait_for_page(browser, "document.querySelector('#settings').open")
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait_for_page(browser, "!document.querySelector('#settings').open")
    browser.switch_to.active_element.send_keys("/")
    assert browser.switch_to.active_element.get_attribute("id") == "words"
    tab_to("new")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    wait_for_page(browser, "document.querySelectorAll('li.turn').length === 0")


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install axe-core, and return its source; skip where there is no npm or no registry."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs axe-core: apt-get install npm")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--silent", "--no-save", "--prefix", str(folder), f"axe-core@{AXE}"]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=60)
    except (subprocess.SubprocessError, OSError):
        pytest.skip("needs axe-core, which npm cannot install: the registry must be reachable")
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


def problems(browser: Any, axe: str) -> list[str]:
    """Return what axe-core finds serious or critical on the page as it stands."""
    browser.execute_script(axe)
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    return [
        f"{problem['id']}: {node['html'][:160]}"
        for problem in found["violations"]
        if problem["impact"] in ("serious", "critical")
        for node in problem["nodes"]
    ]


def test_nothing_overflows_in_either_theme(browser: Any, page: Playground) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    height = (
        "const middles = [...[...document.querySelectorAll(arguments[0])].at(-1).children].map((item) => {"
        " const box = item.getBoundingClientRect(); return (box.top + box.bottom) / 2; });"
        "return Math.max(...middles) - Math.min(...middles)"
    )
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    open_page(browser, page)
    say(browser, "a_very_long_word_" * 20)
    wait_for_turns(browser, 1)
    grounds = []
    for width, scheme in ((360, "light"), (768, "dark"), (1600, "light")):
        resize(browser, width, scheme=scheme)
        grounds.append(browser.execute_script(ground))
        assert browser.execute_script(overflow) == 0, width
        for bar in ("header nav", ".headline", ".card .headline"):
            assert browser.execute_script(height, bar) < 5, (width, bar)  # what is in the bar is in one row
        click(browser, "settings-open")
        assert browser.execute_script(overflow) == 0, width
        click(browser, "settings-close")
    assert grounds[0] != grounds[1]
    click(browser, "theme")
    assert browser.execute_script(ground) == grounds[1]


def test_axe_finds_nothing_serious(browser: Any, app: Path, axe: str) -> None:
    with running_playground(
        "--first-word-after-s", "0.01", "--first-word-text", "One moment.", app=app, workers=1
    ) as page:
        open_page(browser, page)
        say(browser, "a **bold** story")  # with a hint, a filler, and an interruption
        wait_for(
            lambda: text_of(browser, "#turn-0 .hint") or text_of(browser, "#turn-0 .answer p"), "there is an answer"
        )
        say(browser, "hello **you**")
        wait_for_turns(browser, 2)
        for width, scheme in ((360, "light"), (1280, "dark")):
            resize(browser, width, scheme=scheme)
            assert problems(browser, axe) == [], (width, scheme)
            click(browser, "settings-open")
            browser.find_element("css selector", "[data-preset=hostile]").click()
            assert problems(browser, axe) == [], (width, scheme, "settings")
            browser.find_element("css selector", "[data-preset=polite]").click()
            click(browser, "settings-close")
