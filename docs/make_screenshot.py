"""Take the picture that README.md begins with: the page of the demo in a headless Chromium.

Reads   the demo data
Writes  docs/report.png

  uv run --extra test docs/make_screenshot.py
"""

import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import benchmark  # noqa: E402

WIDTH, HEIGHT = 1200, 1500


def main() -> int:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.stderr.write("No Chromium found; install Debian's package chromium.\n")
        return 2
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        code = benchmark.main(["--quiet", "--subset", "emolia-emo", "--figures", "--output-dir", folder])
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto((Path(folder) / "emolia-emo/report.html").as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        page.locator("#figures").scroll_into_view_if_needed()
        page.evaluate("window.scrollTo(0, 0)")
        page.screenshot(path=ROOT / "docs/report.png")
        browser.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
