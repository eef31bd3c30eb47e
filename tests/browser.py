"""A real headless Chromium for tests of pages; skipped where none is installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[tuple[Any, list[str]]]:
    """A page of a file, opened and drawn, and what went wrong: console errors, exceptions, requests to a network."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra `test` is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    problems: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(**options)
            page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "request",
                lambda request: (
                    None
                    if request.url.startswith(("file:", "data:", "blob:"))
                    else problems.append(f"request to {request.url}")
                ),
            )
            page.goto(path.resolve().as_uri())
            page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
            yield page, problems
        finally:
            browser.close()
