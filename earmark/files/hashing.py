"""Hashes of files, read in blocks."""

from collections.abc import Sequence
from hashlib import file_digest, sha256
from pathlib import Path


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file's bytes.

    Parameters
    ----------
    path : Path
    algorithm : str
        A name known to hashlib.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        return file_digest(file, algorithm).hexdigest()


def contents_hash(paths: Sequence[Path]) -> str:
    """First 16 hexadecimal digits of the SHA-256 over the bytes of files in the given order."""
    digest = sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def files_hash(paths: Sequence[Path], root: Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 over the relative paths and contents of files, in any order.

    Parameters
    ----------
    paths : sequence of Path
    root : Path
        Directory that the paths are relative to.
    """
    lines = (f"{path.relative_to(root).as_posix()}\0{file_hash(path)}\0" for path in sorted(paths))
    return sha256("".join(lines).encode()).hexdigest()[:16]
