"""One self-contained HTML page from a report: figures, tables that sort and filter, clips to listen to.

The page needs no network and no other file, except the clips it links to.
"""

import base64
import json
import mimetypes
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup as Html

from earmark.files.remote import is_remote
from earmark.report.figures import Figure

MIB = 1024 * 1024
NUMBER = re.compile(r"^[−-]?\d[\d,]*(\.\d+)?")
IMAGE = re.compile(r"^!\[[^\]\n]*\]\([^)\n]*\)$", re.MULTILINE)
HEADING = re.compile(r"^## ", re.MULTILINE)


@dataclass(frozen=True)
class AudioContent:
    """Audio that is not a file of its own, such as a member of a tar file.

    Attributes
    ----------
    name : with a suffix that names the format.
    size : bytes.
    container : the file it lies in, for messages.
    read : returns the bytes.
    """

    name: str
    size: int
    container: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class ListedClip:
    """A clip on a page.

    Attributes
    ----------
    name : what is printed above it.
    audio : its file or content; None if there is no audio.
    facts : (name, value) pairs printed below it.
    """

    name: str
    audio: Path | AudioContent | None
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class ClipList:
    """Clips of one kind, such as the false positives with the highest similarity.

    Attributes
    ----------
    heading, explanation : printed above the clips.
    clips : each a group of clips that belong side by side, such as the two sides of a trial.
    """

    heading: str
    explanation: str
    clips: Sequence[Sequence[ListedClip]]


@dataclass(frozen=True)
class LongTable:
    """A table of many rows, which the page draws only as far as it is shown.

    Attributes
    ----------
    caption : printed above it.
    columns : names.
    rows : values; numbers are rounded to four decimals.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass
class EmbeddedAudio:
    """How much audio goes into a page.

    Attributes
    ----------
    limit_mib : largest total size of the audio files; 0 links to the files instead.
    used : bytes embedded so far.
    left_out : clips beyond the limit, which are linked.
    """

    limit_mib: float = 0.0
    used: int = 0
    left_out: int = field(default=0)

    def takes(self, size: int) -> bool:
        """Whether a file of this size still fits; counts it either way."""
        if self.used + size > self.limit_mib * MIB:
            self.left_out += self.limit_mib > 0
            return False
        self.used += size
        return True


def page(
    title: str,
    markdown: str,
    folder: Path,
    *,
    figures: Sequence[Figure] = (),
    clips: Sequence[ClipList] = (),
    tables: Sequence[LongTable] = (),
    embed_audio_mib: float = 0.0,
) -> str:
    """The HTML of a report.

    Parameters
    ----------
    title : of the page.
    markdown : the report. Text from data must be escaped as in `render`; HTML in it is shown as text.
    folder : where the page will lie; links to clips are relative to it.
    figures : shown after the first section, in this order.
    clips : lists of clips to listen to, shown after the figures.
    tables : long tables, shown at the end.
    embed_audio_mib : clips are embedded up to this total size in MiB; 0 links to them.

    Returns
    -------
    str
        A page that works from the file system.
    """
    budget = EmbeddedAudio(embed_audio_mib)
    shown = [_shown_list(one, folder, budget) for one in clips if one.clips]
    first, rest = _split(markdown)
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            first=_html(first, "a"),
            rest=_html(rest, "b"),
            figures=[(figure, _data_uri("image/svg+xml", figure.svg.encode())) for figure in figures],
            clips=shown,
            budget=budget,
            tables=[(number, one, _json(one)) for number, one in enumerate(tables)],
            script=base64.b64encode(_bundle("dt_bundle.js").encode()).decode(),
            style=Html(_bundle("dt_bundle.css")),
        )
    )


def _split(markdown: str) -> tuple[str, str]:
    """The headline, which ends where the second section of second level begins, and the rest."""
    starts = [match.start() for match in HEADING.finditer(markdown)]
    end = starts[1] if len(starts) > 1 else len(markdown)
    return markdown[:end], markdown[end:]


def _html(markdown: str, prefix: str) -> Html:
    """Markdown as HTML: headings with ids, tables with captions that screen readers find and numeric sort keys.

    Images are left out: they are files beside the report, and the page has figures of its own.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(IMAGE.sub("", markdown))
    heading = ""
    numbers: dict[str, int] = {}
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[position + 1].content
            slug = re.sub(r"\W+", "-", heading.lower()).strip("-") or "section"
            numbers[slug] = numbers.get(slug, 0) + 1
            token.attrSet("id", f"{prefix}-{slug}" + (f"-{numbers[slug]}" if numbers[slug] > 1 else ""))
        elif token.type == "table_open":
            token.attrSet("class", "report-table")
            token.attrSet("aria-label", heading or "Table")
        elif token.type == "th_open":
            token.attrSet("scope", "col")
        elif token.type == "td_open" and (found := NUMBER.match(tokens[position + 1].content.strip("*"))):
            token.attrSet("data-order", found.group().replace("−", "-").replace(",", ""))
    return Html(parser.renderer.render(tokens, parser.options, {}))


def _shown_list(one: ClipList, folder: Path, budget: EmbeddedAudio) -> dict[str, Any]:
    groups = [[(clip, *_source(clip, folder, budget)) for clip in group] for group in one.clips]
    return {"heading": one.heading, "explanation": one.explanation, "groups": groups}


def _source(clip: ListedClip, folder: Path, budget: EmbeddedAudio) -> tuple[str, str]:
    """The address of a clip's audio, and why there is none."""
    if clip.audio is None:
        return "", "no audio"
    if isinstance(clip.audio, AudioContent):
        if not budget.takes(clip.audio.size):
            return "", f"in {clip.audio.container}; --embed-audio puts it into the page"
        return _data_uri(_media_type(clip.audio.name), clip.audio.read()), ""
    if not clip.audio.is_file():
        return "", "audio not found"
    if budget.takes(clip.audio.stat().st_size):
        return _data_uri(_media_type(clip.audio.name), clip.audio.read_bytes()), ""
    if is_remote(clip.audio):
        return "", "in a remote folder; --embed-audio puts it into the page"
    return "/".join(map(_quoted, Path(os.path.relpath(clip.audio.resolve(), folder.resolve())).parts)), ""


def _quoted(part: str) -> str:
    from urllib.parse import quote

    return part if part == ".." else quote(part)


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _json(table: LongTable) -> Html:
    """Rows as JSON that cannot end the script element around it."""
    rows = [[round(value, 4) if isinstance(value, float) else value for value in row] for row in table.rows]
    text = json.dumps({"columns": list(table.columns), "rows": rows}, ensure_ascii=False, separators=(",", ":"))
    return Html(text.replace("<", "\\u003c"))


@cache
def _bundle(name: str) -> str:
    """DataTables, as the package itables ships it."""
    return files("itables").joinpath("html", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("earmark.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
