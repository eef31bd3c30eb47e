"""Pages in a real browser: no error, no network, tables that sort and filter, clips that play, nothing unescaped."""

import base64

import numpy as np
import pytest

from earmark.report.figures import histograms
from earmark.report.page import AudioContent, ClipList, ListedClip, LongTable, page
from tests.browser import opened
from tests.conftest import ROOT

CLIP = next((ROOT / "dataset/emolia-emo/data").rglob("*.mp3"))
HOSTILE = "<script>document.title = 'broken'</script>"
REPORT = f"""# Report

Headline **0.5** for {HOSTILE.replace("<", "&lt;")}.

## First

| name | value |
|---|---:|
| ten | 10 |
| nine | 9 |
| two | 2 |
| hundred | 100 |
| three | 3 |

## Second

Text.
"""


def written(folder, **parts):
    """A page on disk."""
    path = folder / "report.html"
    path.write_text(page("A title", REPORT, folder, **parts), encoding="utf-8")
    return path


def figure():
    """Two distributions."""
    return histograms("scores", "Scores by label.", {"present": np.arange(9.0), "absent": np.arange(5.0)}, "score")


def test_page_parts_are_in_order(tmp_path):
    text = page("A title", REPORT, tmp_path, figures=[figure()], tables=[LongTable("All", ["a"], [[1]])])
    places = [text.index(part) for part in ("Headline", 'id="figures"', "Second", 'id="long-0"')]
    assert places == sorted(places)
    assert text.startswith("<!doctype html>") and "<title>A title</title>" in text


def test_page_has_no_images_beside_it(tmp_path):
    text = page("t", "# T\n\n## A\n\n![a curve](det.svg)\n\nText ![x](https://example.org/x.png).\n", tmp_path)
    assert "<img" not in text and "det.svg" not in text


def test_page_escapes_text_of_data(tmp_path):
    clips = [ClipList(HOSTILE, HOSTILE, [[ListedClip(HOSTILE, None, [(HOSTILE, HOSTILE)])]])]
    text = page(HOSTILE, REPORT, tmp_path, clips=clips, tables=[LongTable(HOSTILE, [HOSTILE], [[HOSTILE]])])
    assert HOSTILE not in text


def test_clips_are_linked_by_relative_path_or_embedded_up_to_a_limit(tmp_path):
    folder = tmp_path / "out/deep"
    folder.mkdir(parents=True)
    own = tmp_path / "a b&c.mp3"
    own.write_bytes(CLIP.read_bytes())
    clips = [ClipList("Clips", "", [[ListedClip("one", own)], [ListedClip("two", own)]])]
    assert 'src="../../a%20b%26c.mp3"' in page("t", REPORT, folder, clips=clips)
    size = len(CLIP.read_bytes()) / 2**20
    text = page("t", REPORT, folder, clips=clips, embed_audio_mib=1.5 * size)
    assert text.count(base64.b64encode(CLIP.read_bytes()).decode()) == 1
    assert "1 clips beyond the limit" in text and "../../a%20b%26c.mp3" in text


def test_member_of_a_tar_is_embedded_or_named(tmp_path):
    content = AudioContent("x.mp3", len(CLIP.read_bytes()), "train.tar", CLIP.read_bytes)
    clips = [ClipList("Clips", "", [[ListedClip("x", content)]])]
    assert "in train.tar" in page("t", REPORT, tmp_path, clips=clips)
    assert "data:audio/mpeg;base64," in page("t", REPORT, tmp_path, clips=clips, embed_audio_mib=5)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_works_in_a_browser(tmp_path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra `test` is not installed")
    rows = [[f"clip-{i}", ("Anger", "Joy")[i % 2], i / 7] for i in range(300)]
    clips = [ClipList("Clips", "Some.", [[ListedClip("one", CLIP, [("label", HOSTILE)])]])]
    path = written(tmp_path, figures=[figure()], clips=clips, tables=[LongTable("All", ["clip", "emotion", "s"], rows)])
    with opened(path, color_scheme=scheme) as (shown, problems):
        column = "[...document.querySelectorAll('table.report-table tbody tr td:nth-child(2)')].map(x => x.textContent)"
        assert shown.evaluate(column) == ["10", "9", "2", "100", "3"]
        shown.click("table.report-table thead th:nth-child(2)")
        shown.wait_for_function(f"{column}[0] === '2'")
        assert shown.evaluate(column) == ["2", "3", "9", "10", "100"]  # as numbers, not as texts
        shown.fill("#long-0_wrapper input[type=search]", "Joy")
        body = "[...document.querySelectorAll('#long-0 tbody tr td:nth-child(2)')].map(x => x.textContent)"
        assert set(shown.evaluate(body)) == {"Joy"}
        shown.locator("audio").scroll_into_view_if_needed()
        shown.wait_for_function("document.querySelector('audio').duration > 1")
        assert shown.title() == "A title"
        found = axe.Axe().run(shown)
        assert [one["id"] for one in found.response["violations"] if one["impact"] in ("serious", "critical")] == []
        assert problems == []


@pytest.mark.slow
def test_page_with_20_000_rows_paints_within_two_seconds_and_stays_small(tmp_path):
    rows = [[f"emolia/{i:05d}.mp3", ("Anger", "Joy")[i % 2], "contrastive_1", 1, i / 7, 1, ""] for i in range(20_000)]
    path = written(tmp_path, tables=[LongTable("All pairs", list("abcdefg"), rows)])
    assert path.stat().st_size < 10_000_000
    with opened(path) as (shown, problems):
        paint = shown.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        assert paint < 2000
        assert problems == []


@pytest.mark.slow
def test_page_prints_to_pdf_without_controls(tmp_path):
    path = written(tmp_path, figures=[figure()])
    with opened(path) as (shown, problems):
        shown.emulate_media(media="print")
        assert not shown.locator("nav").is_visible()
        assert len(shown.pdf()) > 5000
        assert problems == []
