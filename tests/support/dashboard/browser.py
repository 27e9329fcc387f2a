"""A real Chromium, headless, driven by selenium."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.mosquitto import PATIENCE

OBSERVE_LONG_TASKS = """
window.longTasks = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.longTasks.push(entry.duration);
}).observe({type: "longtask", buffered: true});
"""
"""The browser calls each stretch of more than 50 ms in which it cannot react a long task."""


def missing() -> str | None:
    """Return why there is no browser on this machine; None if there is one."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if not absent:
        return None
    return f"{' and '.join(absent)} not found: apt-get install chromium chromium-driver"


class Browser(webdriver.Chrome):
    """A browser with a separate window."""

    def __init__(self, profile: Path, *, width: int = 1440, height: int = 1240) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        assert chromium is not None
        assert driver is not None
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in (
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        super().__init__(options=options, service=Service(driver))
        self.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument", {"source": OBSERVE_LONG_TASKS}
        )

    def until(self, condition: str, *arguments: object) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        return self.until_value(lambda: self.value(condition, *arguments), condition)

    def until_value(self, find: Callable[[], Any], description: str) -> Any:
        """Wait until a function returns a true value, and return it."""
        wait = WebDriverWait(self, PATIENCE, poll_frequency=0.05)
        return wait.until(lambda _: find(), f"never: {description}")

    def value(self, expression: str, *arguments: object) -> Any:
        """Return the value of a JavaScript expression."""
        return self.execute_script(f"return ({expression})", *arguments)

    def text(self, selector: str) -> str:
        """Return the visible text of an element."""
        return str(self.value("document.querySelector(arguments[0]).innerText", selector))

    def click(self, selector: str) -> None:
        self.find_element("css selector", selector).click()

    def errors(self) -> list[str]:
        """Return the errors and warnings that the browser has logged since the last call."""
        entries: list[dict[str, str]] = self.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries]

    def set_dark(self, dark: bool) -> None:
        """Choose the colours that the system prefers."""
        value = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": value}]
        self.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
