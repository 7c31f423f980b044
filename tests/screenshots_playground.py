"""Takes the pictures of the playground for its page in the documentation: `python -m tests.screenshots_playground`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from tests.functional.browsing import resize, running_browser, wait_for_page
from tests.functional.playing import open_page, running_playground, say, wait_for_turns

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "playground"


def hold(browser: Any) -> None:
    """Hold a conversation of three turns, the second of which is interrupted."""
    say(browser, "Hello! Who are you?")
    wait_for_turns(browser, 1)
    say(browser, "Tell me a story")
    wait_for_page(browser, "document.querySelector('#turn-1')?.textContent.includes('afraid of silence')")
    say(browser, "Wait. Is it a long one?")
    wait_for_turns(browser, 3)
    time.sleep(0.5)  # the server's side of the last turn is drawn


def main(folder: Path) -> None:
    """Take all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with running_playground() as page, running_browser("--hide-scrollbars") as browser:
        for width, height, scheme in ((1280, 800, "light"), (1280, 800, "dark"), (360, 780, "light")):
            resize(browser, width, height, scheme)
            open_page(browser, page)
            hold(browser)
            if width < 900:
                browser.execute_script("scrollTo(0, 0)")
            browser.save_screenshot(str(folder / f"{scheme}-{width}.png"))
        resize(browser, 1280, 800)
        browser.find_element("id", "settings-open").click()
        browser.find_element("css selector", "[data-preset=live]").click()
        browser.execute_script("document.querySelector('#switches').scrollIntoView({block: 'center'})")
        browser.save_screenshot(str(folder / "habits.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
