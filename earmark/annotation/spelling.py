"""Spelling variants of item keys: equivalent spellings are merged, similar ones are reported.

Spellings are equivalent if they differ in Unicode form, blanks or zero decimals. In tables other than those of
emolia-bench, spellings of a file or word that differ in case, audio suffix or folder are merged too, unless a rater
rated both.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

import numpy as np
import pandas as pd

from earmark.audio.formats import SUFFIXES

WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")
ENDS_OF_NUMBER = re.compile(r"^[+]|[.,](0+)?$")
LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
MAX_SHOWN = 5  # examples in one warning


def canonical_key(value: str) -> str:
    """Key with equivalent spellings unified: Unicode form NFC, spaces, zero decimals of whole numbers.

    Parameters
    ----------
    value : str
        Cell of a key column.

    Returns
    -------
    str

    Examples
    --------
    >>> canonical_key("5.0"), canonical_key("Caf\\u0065\\u0301  au lait") == canonical_key("Caf\\u00e9 au lait")
    ('5', True)
    """
    text = value
    if not (value.isascii() and value.isprintable()) or " " in value:  # most keys have nothing to unify
        visible = "".join(c for c in unicodedata.normalize("NFC", value) if unicodedata.category(c) != "Cf")
        text = " ".join(visible.split())
    number = WHOLE_NUMBER.fullmatch(text) if text.endswith("0") else None
    return number[1] if number else text


def loose_key(value: str) -> str:
    """Key without differences that may be accidental: case, folder, file suffix, leading zeros, URL encoding.

    Parameters
    ----------
    value : str
        Cell of a key column.

    Returns
    -------
    str

    Examples
    --------
    >>> loose_key("clips/Anna_01.MP3") == loose_key("anna_1.wav")
    True
    """
    text = unicodedata.normalize("NFKC", unquote(canonical_key(value)).partition("?")[0]).casefold()
    path = text.replace("\\", "/")
    name = PurePosixPath(path).name or text if "/" in path or path == "." else text
    while name.endswith(SUFFIXES):
        name = name[: name.rindex(".")]
    return LEADING_ZEROS.sub("", ENDS_OF_NUMBER.sub("", name))


def merged_spellings(values: pd.Series) -> dict[str, str]:
    """Map each spelling to the most frequent equivalent one; spellings that stay as they are have no entry.

    Parameters
    ----------
    values : Series of str
        Cells of a key column.

    Returns
    -------
    dict of str to str
        Of equally frequent spellings the first in sorted order is used.

    Examples
    --------
    >>> merged_spellings(pd.Series(["5", "5", "5.0"]))
    {'5.0': '5'}
    """
    codes, spellings = pd.factorize(values)  # in order of their first cells
    counts = dict(zip(spellings, np.bincount(codes, minlength=len(spellings)).tolist(), strict=True))
    variants = _of_equal_keys(list(counts), canonical_key)
    preferred: dict[str, str] = {}
    for value in sorted(variants, key=lambda value: (-counts[value], value)):
        preferred.setdefault(variants[value], value)
    return {value: preferred[key] for value, key in variants.items() if preferred[key] != value}


def _of_equal_keys(values: Sequence[str], key: Callable[[str], str]) -> dict[str, str]:
    """Key of each value that shares it with another value, in the order of the values."""
    keys = list(map(key, values))
    if len(set(keys)) == len(keys):
        return {}
    shared = {each for each, n in Counter(keys).items() if n > 1}
    return {value: each for value, each in zip(values, keys, strict=True) if each in shared}


def file_key(value: str) -> tuple[str, ...]:
    """Folders and name of a key, without case and without the suffix of an audio file.

    Parameters
    ----------
    value : str
        Cell of a key column.

    Returns
    -------
    tuple of str
        Folders from the outermost to the innermost, and the name.

    Examples
    --------
    >>> file_key("Clips/Anna_01.MP3"), file_key("anna_01")
    (('clips', 'anna_01'), ('anna_01',))
    """
    text = canonical_key(value).casefold().replace("\\", "/")
    *folders, name = [part for part in text.split("/") if part not in ("", ".")] or [text]
    if name.endswith(SUFFIXES) and name[: name.rindex(".")]:
        name = name[: name.rindex(".")]
    return (*folders, name)


def same_files(values: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of spellings that differ in case, audio suffix or folder.

    Folders are the same if one path is the end of the other, so that `a/x.wav` and `b/x.wav` are different files, and
    `x.wav` beside them belongs to neither. Values without an audio suffix are words, whose slashes are no folders.

    Parameters
    ----------
    values : sequence of str
        Different spellings.

    Returns
    -------
    list of tuple of str
        Groups of two or more sorted spellings.

    Examples
    --------
    >>> same_files(["x.wav", "X.mp3", "clips/x.wav", "a/y.wav", "b/y.wav"])
    [('X.mp3', 'clips/x.wav', 'x.wav')]
    """
    by_name: dict[str, dict[tuple[str, ...], list[str]]] = {}
    for value in sorted(_of_equal_keys(values, lambda value: file_key(value)[-1])):
        path = file_key(value)
        by_name.setdefault(path[-1], {}).setdefault(path, []).append(value)
    groups: list[list[str]] = []
    for paths in by_name.values():
        longest = max(paths, key=len)
        spellings = [value for of_path in paths.values() for value in of_path]
        is_file = any(value.casefold().endswith(SUFFIXES) for value in spellings)
        if is_file and all(longest[-len(path) :] == path for path in paths):
            groups.append(sorted(spellings))
        else:
            groups += paths.values()
    return [tuple(group) for group in groups if len(group) > 1]


def merged_files(table: pd.DataFrame, column: str, others: Sequence[str]) -> dict[str, str]:
    """Map spellings of a file to the most frequent one, where no rater rated two of them.

    Parameters
    ----------
    table : DataFrame
        Ratings as text.
    column : str
        Column of the key.
    others : sequence of str
        The other columns that identify a rating: those of the key and the rater.

    Returns
    -------
    dict of str to str
        As from `merged_spellings`. A group of which a rater rated two spellings is left out: these are different items.

    Examples
    --------
    >>> table = pd.DataFrame({"clip": ["a.wav", "A.wav", "b.wav", "b.mp3"], "username": ["x", "y", "x", "x"]})
    >>> merged_files(table, "clip", ["username"])
    {'a.wav': 'A.wav'}
    """
    counts = table[column].value_counts()
    groups = same_files(list(counts.index))
    if not groups:
        return {}
    number = {value: at for at, group in enumerate(groups) for value in group}
    rows = table[table[column].isin(list(number))]
    rated = pd.DataFrame({at: rows[name] for at, name in enumerate(others)})
    rated = rated.assign(group=rows[column].map(number), spelling=rows[column]).drop_duplicates()
    twice = rated.duplicated([*range(len(others)), "group"])
    different = set(rated["group"][twice])
    merged: dict[str, str] = {}
    for at, group in enumerate(groups):
        if at not in different:
            preferred = min(group, key=lambda value: (-int(counts[value]), value))
            merged |= {value: preferred for value in group if value != preferred}
    return merged


def lookalikes(values: pd.Series) -> list[tuple[str, ...]]:
    """Groups of different spellings that may mean the same key.

    Parameters
    ----------
    values : Series of str
        Cells of a key column.

    Returns
    -------
    list of tuple of str
        Groups of two or more sorted spellings with the same `loose_key`.

    Examples
    --------
    >>> lookalikes(pd.Series(["joy", "Joy", "fear"]))
    [('Joy', 'joy')]
    """
    groups: dict[str, list[str]] = {}
    variants = _of_equal_keys(list(values.unique()), loose_key)
    for value in sorted(variants):
        groups.setdefault(variants[value], []).append(value)
    return [tuple(group) for group in groups.values()]


def describe_merged(column: str, merged: Mapping[str, str]) -> str:
    """Warning about spellings that were merged. merged: as `merged_spellings` returns them."""
    examples = [f"'{variant}' as '{preferred}'" for variant, preferred in list(merged.items())[:MAX_SHOWN]]
    more = f" and {len(merged) - MAX_SHOWN:,} more" if len(merged) > MAX_SHOWN else ""
    spellings = f"{len(merged):,} spelling{'s' if len(merged) > 1 else ''}"
    return f"{column}: merged {spellings} ({', '.join(examples)}{more}); --exact-keys treats them as different"


def describe_lookalikes(column: str, groups: Sequence[tuple[str, ...]]) -> str:
    """Warning about similar spellings that were not merged. groups: as `lookalikes` returns them."""
    examples = ["'" + "', '".join(group[:3]) + "'" for group in groups[:MAX_SHOWN]]
    more = f" and {len(groups) - MAX_SHOWN:,} more" if len(groups) > MAX_SHOWN else ""
    listed = "; ".join(examples) + more
    return f"{column}: similar keys count as different items ({listed}); correct them if they mean the same"
