"""Hashes of files, read in pieces: a file may be larger than the memory."""

from collections.abc import Sequence
from hashlib import file_digest, sha256
from pathlib import Path


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """The digest of a file's bytes, as hexadecimal digits. OSError where it cannot be read."""
    with path.open("rb") as file:
        return file_digest(file, algorithm).hexdigest()


def contents_hash(paths: Sequence[Path]) -> str:
    """16 hexadecimal digits of the sha256 over the bytes of files, one after the other in the order given."""
    digest = sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def files_hash(paths: Sequence[Path], root: Path) -> str:
    """16 hexadecimal digits over the paths of files below `root` and their contents, whatever the order given."""
    lines = (f"{path.relative_to(root).as_posix()}\0{file_hash(path)}\0" for path in sorted(paths))
    return sha256("".join(lines).encode()).hexdigest()[:16]
