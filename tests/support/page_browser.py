"""A browser, the page in it, and `palo-cpp serve` for it; the tests of the page import the fixtures.

Set PALO_CPP_TEST_BROWSER to a Chromium that is not found by its name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SCENE = Path(__file__).parents[2] / "examples" / "scene.png"
LONG_ANSWER = {"messages": [{"role": "user", "content": "x"}], "temperature": 100, "seed": 1, "max_tokens": 900}


def _executable() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("PALO_CPP_TEST_BROWSER") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; it ends with each module, because Playwright's event loop is in the way of other tests' loops."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `page-tests` is not installed")
    executable = _executable()
    if executable is None:  # a browser is too large a condition for testing a Python package
        pytest.skip("no Chromium here; Debian's is in the package chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """The address of `palo-cpp serve` with the demo."""
    with serving() as (_child, url):
        yield url


@pytest.fixture
def opened(browser: Any, demo: str) -> Iterator[Any]:
    """Opens pages, each in a browser of its own; at the end, none of them has complained."""
    pages: list[Page] = []

    def open_page(lang: str = "en", url: str = demo, **context: Any) -> Page:
        page = Page(browser.new_context(locale=lang, **{"viewport": {"width": 1000, "height": 800}, **context}), url)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.context.close()
        assert page.complaints == []


@contextmanager
def serving(*arguments: str, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`palo-cpp serve` in a child; its process and its address."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PALO_CPP_")}
    command = [sys.executable, "-m", "palo_cpp", "serve", "-m", "nano", "-p", str(port), "-t", "1", *arguments]
    child = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    try:
        url = next(found[1] for line in child.stderr if (found := re.search(r"at (http://\S+)", line)))
        reading = threading.Thread(target=child.stderr.read)  # a full pipe would stop it
        reading.start()
        yield child, url
    finally:
        child.kill()
        child.wait()
        reading.join()
        child.stderr.close()


class Page:
    """The page as its users see it, in one tab or more of one browser.

    Args:
        context: Playwright's.
        url: where the server is.
    """

    def __init__(self, context: Any, url: str) -> None:
        self.context, self.url = context, url
        self.complaints: list[str] = []
        self.requests: list[Any] = []
        self.tab = self._new_tab()

    def _new_tab(self) -> Any:
        tab = self.context.new_page()
        tab.set_default_timeout(60_000)
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("request", self._on_request)
        tab.on("console", self._on_console)
        tab.goto(self.url)
        tab.wait_for_selector("#page:not([hidden])")
        return tab

    def another_tab(self) -> Page:
        """A further tab of the same browser."""
        other = object.__new__(Page)
        other.__dict__.update(self.__dict__)
        other.tab = other._new_tab()
        return other

    def _on_request(self, request: Any) -> None:
        self.requests.append(request)
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.complaints.append(f"called {request.url}")

    def _on_console(self, message: Any) -> None:
        # A refusal of the server is no mistake of the page; the browser mentions it all the same.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def pick(self, file: Any = SCENE) -> None:
        """Choose a picture."""
        self.tab.set_input_files("#file", file)
        self.tab.wait_for_selector("#pending:not([hidden])")

    def ask(self, question: str = "") -> Any:
        """Ask, wait for the end of the answer; where it is written."""
        self.tab.fill("#question", question)
        self.tab.click("#ask")
        return self.answered()

    def answered(self) -> Any:
        """Wait for the end of the last answer; where it is written."""
        self.tab.locator(".turn:last-child .tools").last.wait_for()
        self.tab.wait_for_selector("#ask:not([hidden])")
        return self.tab.locator(".turn:last-child .written").last

    def notice(self, key: str) -> Any:
        """One of the messages at the top, when it is there."""
        found = self.tab.locator(f"#notice-{key}")
        found.wait_for()
        return found

    def choose_language(self, code: str) -> None:
        self.tab.select_option("#language", code)

    def shows_no_bar(self) -> bool:
        """Whether everything fits between the two sides."""
        return int(self.tab.evaluate("document.documentElement.scrollWidth")) <= self.tab.viewport_size["width"]


def texts() -> dict[str, dict[str, str]]:
    """The table of the page's texts."""
    from palo_cpp import server

    path = Path(server.__file__).parent / "page" / "strings.json"
    table: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))["strings"]
    return table


def shown(key: str, code: str, **values: str) -> str:
    """A text as the page shows it."""
    isolated = {name: f"\u2068{value}\u2069" for name, value in values.items()}
    return texts()[key][code].format(**isolated)
