"""Shared by the tests of pages: Chromium without a screen, and waiting for what a page shows."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.helpers import START_TIMEOUT_S

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs a browser: apt-get install chromium chromium-driver"
)


@contextmanager
def running_browser(*arguments: str) -> Iterator[Any]:
    """Run Chromium until the end of the block; `arguments` are further ones of its command line."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def fresh_tab(browser: Any) -> Iterator[Any]:
    """Open a tab, so that tests share a browser. At the end all tabs are closed, and no page has stored anything."""
    first = browser.current_window_handle
    browser.get_log("browser")
    browser.get_log("performance")
    browser.switch_to.new_window("tab")
    try:
        yield browser
    finally:
        for handle in browser.window_handles:
            if handle != first:
                browser.switch_to.window(handle)
                browser.execute_script("try { localStorage.clear(); sessionStorage.clear(); } catch { }")
                browser.close()
        browser.switch_to.window(first)


def check_logs(browser: Any) -> None:
    """Check that no page has logged an error or asked another host since the tab was opened."""
    # A page looks for a server that is gone, as at the end of tests.
    assert [entry for entry in browser.get_log("browser") if "net::ERR_" not in entry["message"]] == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [message["params"]["request"]["url"] for message in sent if message["method"] == "Network.requestWillBeSent"]
    assert urls
    assert [url for url in urls if not url.startswith(("http://127.0.0.1:", "data:"))] == []


def resize(browser: Any, width: int, height: int = 900, scheme: str = "light") -> None:
    """Give the page a size and a colour scheme."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Look until a condition is true, and return its value."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.03)
    return found


def wait_for_page(browser: Any, expression: str, what: str = "") -> Any:
    """Look until an expression of JavaScript is true on the page, and return its value."""
    return wait_for(lambda: browser.execute_script(f"return {expression}"), what or expression)


def text_of(browser: Any, selector: str) -> str:
    """Return the text of the first element that fits."""
    return str(browser.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector))
