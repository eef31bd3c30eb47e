"""Find the clips of an annotated subset."""

import re
from collections.abc import Mapping
from functools import cached_property
from itertools import product
from pathlib import Path

from earmark.annotation.subsets import Subset
from earmark.audio.decode import SUFFIXES


class ClipIndex:
    """Find the clips of a subset below a directory.

    A clip is looked up by its path first. If file names are unique in the subset, the fallbacks are the path with
    directory names reduced to letters and digits (`Jealousy___Envy` matches `Jealousy_&_Envy`), then the file name.
    Suffixes may differ in both fallbacks.

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
        candidates = [self.subset.clip.format(**{**row, **dict(zip(carried, v, strict=True))}) for v in values]
        if exact := next((path for path in candidates if is_file(self.folder / path)), None):
            return exact
        if self.subset.clip_columns != ("file_name",):
            return candidates[0]
        normalised = map(_normalised_path, candidates)
        match = next((self._by_normalised_path[path] for path in normalised if path in self._by_normalised_path), None)
        return match or self._by_stem.get(Path(candidates[0]).stem, candidates[0])

    @cached_property
    def _files(self) -> list[str]:
        files = (path for path in self.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        return sorted(path.relative_to(self.folder).as_posix() for path in files)

    @cached_property
    def _by_normalised_path(self) -> dict[str, str]:
        return {_normalised_path(path): path for path in reversed(self._files)}

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        return {Path(path).stem: path for path in reversed(self._files)}


def is_file(path: Path) -> bool:
    """Whether a file exists; False for a name that is too long for the file system."""
    try:
        return path.is_file()
    except OSError:
        return False


def _normalised_path(path: str) -> str:
    folders, _, name = path.rpartition("/")
    return "/".join([*(re.sub(r"[\W_]+", "", part).casefold() for part in folders.split("/")), Path(name).stem])
