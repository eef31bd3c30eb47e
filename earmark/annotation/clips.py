"""Find the clips of an annotated subset."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from itertools import product
from pathlib import Path
from urllib.parse import unquote, urlsplit

from earmark.annotation.subsets import EMOLIA_BENCH, Subset
from earmark.audio.decode import SUFFIXES

UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")  # Label Studio puts it before the name of an uploaded file
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")


class ClipIndex:
    """Find the clips of a subset below a directory.

    A clip is looked up by its path first. If one column names the clip, the fallbacks are the path with directory names
    reduced to letters and digits (`Jealousy___Envy` matches `Jealousy_&_Envy`), then the file name. Suffixes may differ
    in both fallbacks. A file name that several clips share finds none, except in emolia-bench's format.

    Annotation tools name clips by URLs, by absolute paths and by uploads with eight hexadecimal digits before the name.
    Of the first two the last component counts; the digits are left out where nothing is found with them. A path that
    leaves the directory is treated as an absolute path, so that no other file is opened.

    Parameters
    ----------
    folder : Path
        Directory of the subset.
    subset : Subset
        Defines the path of a clip.
    """

    def __init__(self, folder: Path, subset: Subset) -> None:
        self.folder = folder
        self.subset = subset

    def relative_path(self, row: Mapping[str, str]) -> str:
        """Path of an item's clip below the directory.

        Parameters
        ----------
        row : mapping
            The item's columns in the labels.

        Returns
        -------
        str
            The path of an existing file, or the expected path if there is none.
        """
        carried = self.subset.carried
        values = product(*(row[column].split("|") for column in carried))
        pattern = self.subset.clip_pattern
        rows = ({**row, **dict(zip(carried, v, strict=True))} for v in values)
        candidates = [inner_path(pattern.format(**{k: inner_path(str(c)) for k, c in each.items()})) for each in rows]
        if exact := next((path for path in candidates if is_file(self.folder / path)), None):
            return exact
        if len(self.subset.clip_columns) != 1:
            return candidates[0]
        for path in (*candidates, *(without_upload_prefix(path) for path in candidates)):
            if match := self._by_normalised_path.get(_normalised_path(path)):
                return match
        name = candidates[0].rpartition("/")[2]
        for stem in (Path(name).stem, name, Path(shorter := without_upload_prefix(name)).stem, shorter):
            if match := self._by_stem.get(stem):
                return match
        return candidates[0]

    @cached_property
    def _files(self) -> list[str]:
        files = (path for path in self.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        return sorted(path.relative_to(self.folder).as_posix() for path in files)

    @cached_property
    def _by_normalised_path(self) -> dict[str, str]:
        return {_normalised_path(path): path for path in reversed(self._files)}

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        stems = Counter(Path(path).stem for path in self._files)
        unique = self.subset.format == EMOLIA_BENCH  # there, file names are unique and copies are alike
        return {Path(path).stem: path for path in reversed(self._files) if unique or stems[Path(path).stem] == 1}


def inner_path(value: str) -> str:
    """Path below a directory: the last component of a URL, of an absolute path and of a path that leaves the directory.

    Examples
    --------
    >>> inner_path("https://host/data/upload/3/my%20clip.wav?token=1"), inner_path("/data/a.wav"), inner_path("b/a.wav")
    ('my clip.wav', 'a.wav', 'b/a.wav')
    >>> inner_path("../../secret.wav"), inner_path("..")
    ('secret.wav', '')
    """
    if URL.match(value):
        value = "/" + unquote(urlsplit(value).path)
    parts = re.split(r"[/\\]", value)
    if not ABSOLUTE.match(value) and ".." not in parts:
        return value
    return "" if parts[-1] in ("..", ".") else parts[-1]


def without_upload_prefix(path: str) -> str:
    """Path without the eight hexadecimal digits that Label Studio puts before the name of an uploaded file.

    Examples
    --------
    >>> without_upload_prefix("3/1a2b3c4d-clip.wav"), without_upload_prefix("clip.wav")
    ('3/clip.wav', 'clip.wav')
    """
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{UPLOAD_PREFIX.sub('', name, count=1) if UPLOAD_PREFIX.match(name) else name}"


def is_file(path: Path) -> bool:
    """Whether a file exists; False for a name that is too long for the file system."""
    try:
        return path.is_file()
    except OSError:
        return False


def _normalised_path(path: str) -> str:
    folders, _, name = path.rpartition("/")
    return "/".join([*(re.sub(r"[\W_]+", "", part).casefold() for part in folders.split("/")), Path(name).stem])
