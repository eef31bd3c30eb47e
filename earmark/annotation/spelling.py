"""Keys that differ only in spelling: those that surely mean one item are joined, those that may are named."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import unquote

import pandas as pd

from earmark.audio.formats import SUFFIXES

WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")
SHOWN = 5


def plain(value: str) -> str:
    """A key without differences that mean nothing: Unicode's form, blanks, and decimals of a whole number.

    >>> plain("5.0"), plain("Caf\\u0065\\u0301  au lait") == plain("Caf\\u00e9 au lait")
    ('5', True)
    """
    visible = "".join(c for c in unicodedata.normalize("NFC", value) if unicodedata.category(c) != "Cf")
    text = " ".join(visible.split())
    number = WHOLE_NUMBER.fullmatch(text)
    return number[1] if number else text


def loose(value: str) -> str:
    """A key without differences that may mean nothing: case, folder, suffix, leading zeros.

    >>> loose("clips/Anna_01.MP3") == loose("anna_1.wav")
    True
    """
    text = unicodedata.normalize("NFKC", unquote(plain(value)).partition("?")[0]).casefold()
    name = PurePosixPath(text.replace("\\", "/")).name or text
    while name.endswith(SUFFIXES):
        name = name[: name.rindex(".")]
    decimals = re.sub(r"^[+]|[.,](0+)?$", "", name)
    return re.sub(r"(?<!\d)0+(?=\d)", "", decimals)


def respellings(values: "pd.Series") -> dict[str, str]:
    """{spelling: the most frequent one that surely means the same}, for those that are another's."""
    counts = Counter(values)
    best: dict[str, str] = {}
    for value, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        best.setdefault(plain(value), value)
    return {value: best[plain(value)] for value in counts if best[plain(value)] != value}


def lookalikes(values: "pd.Series") -> list[tuple[str, ...]]:
    """Groups of spellings that may mean the same, and are kept apart."""
    groups: dict[str, list[str]] = {}
    for value in sorted(set(values)):
        groups.setdefault(loose(value), []).append(value)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def told_joined(column: str, joined: Mapping[str, str]) -> str:
    """A line about spellings that were joined."""
    pairs = [f"'{other}' as '{kept}'" for other, kept in list(joined.items())[:SHOWN]]
    more = f" and {len(joined) - SHOWN:,} more" if len(joined) > SHOWN else ""
    listed = ", ".join(pairs) + more
    return f"{column}: {len(joined):,} spellings are taken for another ({listed}); --exact-keys keeps them apart"


def told_apart(column: str, groups: list[tuple[str, ...]]) -> str:
    """A line about spellings that were kept apart."""
    shown = ["'" + "', '".join(group[:3]) + "'" for group in groups[:SHOWN]]
    more = f" and {len(groups) - SHOWN:,} more" if len(groups) > SHOWN else ""
    listed = "; ".join(shown) + more
    return f"{column}: {listed} look alike and are counted as different; spell them alike if they are one"
