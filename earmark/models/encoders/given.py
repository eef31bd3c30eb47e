"""Embeddings that were made elsewhere, by the path of the clip.

.npz   arrays `ids` and `embeddings` (also: keys, paths, utterances; vectors, X), or one array for each clip
.npy   (n, d), with the n ids in a file beside it: NAME.ids, NAME.txt or NAME.ids.txt (a line each), or NAME.ids.npy
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.models.encoders import Array, identity, wrong
from earmark.models.encoders.networks import files_hash
from earmark.models.scorers.cosine import Embedding

IDS = ("ids", "keys", "paths", "utterances")
VECTORS = ("embeddings", "vectors", "X")


@dataclass(frozen=True)
class GivenEmbeddings:
    """Vectors by clip. rows: {id: row}. An id is a path below the audio's root, with or without its suffix."""

    name: str
    identity: str
    description: dict[str, Any]
    dimension: int
    rows: dict[str, int]
    vectors: Array

    def embed_paths(self, paths: Sequence[Path], root: Path | None = None) -> Iterator[tuple[Path, Embedding]]:
        """Each clip's vector, or why there is none. root: what ids are relative to; without it paths are ids."""
        for path in paths:
            yield path, self.lookup(path.relative_to(root) if root and path.is_relative_to(root) else path)

    def lookup(self, path: Path) -> Embedding:
        """The vector of one id."""
        row = self.rows.get(path.as_posix(), self.rows.get(path.with_suffix("").as_posix()))
        if row is None:
            return Embedding(None, f"{path.as_posix()}: is not among the {len(self.rows):,} ids of {self.name}")
        if fault := wrong(self.vectors[row], self.dimension):
            return Embedding(None, f"{path.as_posix()}: {fault}")
        return Embedding(self.vectors[row])


def load(name: str, device: str = "auto", dtype: str = "float32") -> GivenEmbeddings:
    """The vectors of a file. Raises MissingError where it is not there, EarmarkError where it is not as described."""
    file = Path(name)
    if not file.is_file():
        raise MissingError(f"{shown_path(file)}: no such file; embeddings:FILE takes a .npz or .npy file.")
    try:
        content = np.load(file, mmap_mode="r" if file.suffix == ".npy" else None, allow_pickle=False)
        ids, vectors, files = _from_npy(file, content) if isinstance(content, np.ndarray) else _from_npz(file, content)
    except EarmarkError:
        raise
    except (ValueError, OSError, EOFError) as error:
        raise EarmarkError(
            f"{shown_path(file)}: is no .npz or .npy file of plain numbers and strings ({error}); "
            "ids have to be an array of strings, not of Python objects."
        ) from error
    except Exception as error:  # zipfile.BadZipFile, zlib.error
        raise EarmarkError(f"{shown_path(file)}: is damaged ({error}).") from error
    if vectors.ndim != 2 or len(vectors) != len(ids) or not np.issubdtype(vectors.dtype, np.number):
        raise EarmarkError(
            f"{shown_path(file)}: {len(ids):,} ids and embeddings of shape {vectors.shape}, {vectors.dtype}; "
            "(n, d) numbers for n ids are expected."
        )
    rows = {key: row for row, key in enumerate(ids)}
    if len(rows) < len(ids):
        twice = next(key for row, key in enumerate(ids) if rows[key] != row)
        raise EarmarkError(f"{shown_path(file)}: the id {twice!r} is there more than once.")
    digest = files_hash(files, file.parent)
    described = {"file": file.name, "sha256": digest, "embeddings": len(ids), "dimension": vectors.shape[1]}
    numbers = vectors if vectors.dtype == np.float32 else vectors.astype(np.float32)
    return GivenEmbeddings(
        file.stem, identity(f"embeddings-{file.stem}", sha256=digest), described, vectors.shape[1], rows, numbers
    )


def _from_npz(file: Path, content: Any) -> tuple[list[str], Array, list[Path]]:
    with content:
        ids = next((name for name in IDS if name in content.files), None)
        vectors = next((name for name in VECTORS if name in content.files), None)
        if ids and vectors:
            return [str(key) for key in content[ids].ravel()], content[vectors], [file]
        arrays = {name: np.ravel(content[name]) for name in content.files}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1:
        raise EarmarkError(
            f"{shown_path(file)}: has neither the arrays `ids` and `embeddings` nor one vector of one dimension for "
            f"each clip; it has {', '.join(sorted(arrays)[:8]) or 'nothing'}."
        )
    return list(arrays), np.stack(list(arrays.values())), [file]


def _from_npy(file: Path, vectors: Array) -> tuple[list[str], Array, list[Path]]:
    for suffix in (".ids", ".txt", ".ids.txt", ".ids.npy"):
        beside = file.with_name(file.stem + suffix)
        if beside.is_file() and suffix == ".ids.npy":
            return [str(key) for key in np.load(beside, allow_pickle=False).ravel()], vectors, [file, beside]
        if beside.is_file():
            return beside.read_text(encoding="utf-8").splitlines(), vectors, [file, beside]
    raise MissingError(f"{shown_path(file)}: the ids are not beside it; put one a line into {file.stem}.ids.")
