"""Embeddings that were made elsewhere, by the path of the clip.

.npz       arrays `ids` and `embeddings` (IDS and VECTORS hold the other names), or one array for each clip
.npy       (n, d), with the n ids in a file beside it: NAME.ids, NAME.txt or NAME.ids.txt (a line each), or NAME.ids.npy
.ark .scp  Kaldi's vectors, text or binary, or matrices of one row; an .scp names arks relative to the working folder
           or to itself
.parquet   a column of ids, and one column of lists or the columns of one name and a number (x0, x1, …)

A clip has one vector. A matrix of several rows is refused, for nothing says whether they are frames to average.
Files are not trusted: nothing in them is run. Pickles, commands in an .scp, and audio are refused.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from earmark.errors import DataError, EarmarkError, Fault, MissingError, shown_path
from earmark.models.embedding import Embedding
from earmark.models.encoders.base import Array, embedding_fault, encoder_key
from earmark.models.encoders.output import DEFAULT_REQUEST, EmbeddingRequest
from earmark.models.encoders.torch_encoder import require_encoder_library

ID_NAMES = ("ids", "id", "keys", "key", "paths", "path", "utterances", "utterance", "utt")
VECTOR_NAMES = ("embeddings", "embedding", "vectors", "vector", "X", "x")
SCP_LINE = re.compile(r"(?P<id>\S+)\s+(?P<ark>.*?)(:(?P<offset>\d+))?\s*")
MAX_TEXT_LENGTH = 1 << 20  # characters of one vector in a text ark
ROWS_PER_HASH_UPDATE = 4096
ONE_VECTOR = "where a clip has one vector; of frames (frames, d), write the mean over frames, x.mean(axis=0), instead"
IdsAndVectors = tuple[list[str], Any]  # ids, and vectors of the same number


class MatrixError(ValueError):
    """Numbers of a clip that are no one vector."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        super().__init__(f"a matrix of shape {self.shape}, {ONE_VECTOR}")


@dataclass(frozen=True)
class PrecomputedEmbeddings:
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

    def lookup(self, path: Path, *others: Path) -> Embedding:
        """The vector of one id, or of the first of others that it may have."""
        for each in (path, *others):
            row = self.rows.get(each.as_posix(), self.rows.get(each.with_suffix("").as_posix()))
            if row is not None:
                fault = embedding_fault(self.vectors[row], self.dimension)
                return Embedding(None, f"{each.as_posix()}: {fault}") if fault else Embedding(self.vectors[row])
        tried = ", ".join(each.as_posix() for each in dict.fromkeys(others) if each != path)
        also = f", nor is {tried}" if tried else ""
        return Embedding(None, f"{path.as_posix()}: is not among the {len(self.rows):,} ids of {self.name}{also}")

    def require_support(self, request: EmbeddingRequest) -> None:
        """EarmarkError where more is asked for than a clip's one vector."""
        if request != DEFAULT_REQUEST:
            raise EarmarkError(
                f"{self.name}: holds one vector for a clip; {request.name} need an encoder that hears the audio."
            )


def load(name: str, device: str = "auto", dtype: str = "float32") -> PrecomputedEmbeddings:
    """The vectors of a file.

    Raises MissingError where it, or what reads it, is not there; EarmarkError where it is not as described.
    """
    file = Path(name)
    if not file.is_file():
        raise MissingError(f"{shown_path(file)}: no such file; embeddings:FILE takes {_alternatives(READERS)}.")
    ids, vectors = READERS.get(file.suffix.lower(), _read_numpy)(file)
    if vectors.ndim > 2 and len(vectors) == len(ids) and ids:
        raise _not_one_vector(file, ids[0], MatrixError(vectors.shape[1:]))
    if vectors.ndim != 2 or len(vectors) != len(ids) or not _is_real(vectors.dtype):
        raise EarmarkError(
            f"{shown_path(file)}: {len(ids):,} ids and embeddings of shape {vectors.shape}, {vectors.dtype}; "
            "(n, d) numbers for n ids are expected."
        )
    rows = {key: row for row, key in enumerate(ids)}
    if len(rows) < len(ids):
        twice = next(key for row, key in enumerate(ids) if rows[key] != row)
        raise EarmarkError(f"{shown_path(file)}: the id {twice!r} is there more than once, {ONE_VECTOR}.")
    numbers = vectors if vectors.dtype == np.float32 else vectors.astype(np.float32)
    digest = _hash(ids, numbers)
    described = {"file": file.name, "sha256": digest, "embeddings": len(ids), "dimension": numbers.shape[1]}
    return PrecomputedEmbeddings(
        file.stem, encoder_key(f"embeddings-{file.stem}", sha256=digest), described, numbers.shape[1], rows, numbers
    )


def _not_one_vector(file: Path, key: str, error: MatrixError) -> EarmarkError:
    return EarmarkError(f"{shown_path(file)}: {key!r} has {error}.")


def _is_real(dtype: Any) -> bool:
    return np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.floating)


def _hash(ids: list[str], vectors: Array) -> str:
    """16 hex digits over the ids and numbers, which are the same in whatever form they came."""
    digest = sha256("\n".join(ids).encode("utf-8", "surrogatepass") + b"\0")
    for start in range(0, len(vectors), ROWS_PER_HASH_UPDATE):
        digest.update(np.ascontiguousarray(vectors[start : start + ROWS_PER_HASH_UPDATE]).tobytes())
    return digest.hexdigest()[:16]


# --- numpy --------------------------------------------------------------------------------------------------


def _read_numpy(file: Path) -> IdsAndVectors:
    try:
        content = np.load(file, mmap_mode="r" if file.suffix == ".npy" else None, allow_pickle=False)
        return _from_npy(file, content) if isinstance(content, np.ndarray) else _from_npz(file, content)
    except EarmarkError:
        raise
    except (ValueError, OSError, EOFError) as error:
        raise EarmarkError(
            f"{shown_path(file)}: is no .npz or .npy file of plain numbers and strings ({error}); "
            "ids have to be an array of strings, not of Python objects."
        ) from error
    except Exception as error:  # zipfile.BadZipFile, zlib.error
        raise EarmarkError(f"{shown_path(file)}: is damaged ({error}).") from error


def _from_npz(file: Path, content: Any) -> IdsAndVectors:
    with content:
        ids = next((name for name in ID_NAMES if name in content.files), None)
        vectors = next((name for name in VECTOR_NAMES if name in content.files), None)
        if ids and vectors:
            return [str(key) for key in content[ids].ravel()], content[vectors]
        arrays = {name: np.atleast_1d(content[name]) for name in content.files}
    of_clips = all(_is_real(array.dtype) for array in arrays.values())  # else some are ids of another name
    for key, array in arrays.items():
        if of_clips and array.ndim > 1 and array.size > array.shape[-1]:
            raise _not_one_vector(file, key, MatrixError(array.shape))
    arrays = {key: array.ravel() for key, array in arrays.items()}  # a matrix of one row is a vector
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1:
        raise EarmarkError(
            f"{shown_path(file)}: has neither the arrays `ids` and `embeddings` nor one vector of one dimension for "
            f"each clip; it has {', '.join(sorted(arrays)[:8]) or 'nothing'}."
        )
    return list(arrays), np.stack(list(arrays.values()))


def _from_npy(file: Path, vectors: Array) -> IdsAndVectors:
    for suffix in (".ids", ".txt", ".ids.txt", ".ids.npy"):
        beside = file.with_name(file.stem + suffix)
        if beside.is_file() and suffix == ".ids.npy":
            return [str(key) for key in np.load(beside, allow_pickle=False).ravel()], vectors
        if beside.is_file():
            return beside.read_text(encoding="utf-8").splitlines(), vectors
    raise MissingError(f"{shown_path(file)}: the ids are not beside it; put one a line into {file.stem}.ids.")


# --- Kaldi --------------------------------------------------------------------------------------------------


def _read_ark(file: Path) -> IdsAndVectors:
    matio = require_encoder_library("kaldiio", "--with kaldiio").matio
    found: list[tuple[str, Array]] = []
    with file.open("rb") as ark:
        try:
            while key := matio.read_token(ark):
                found.append((key, _kaldi_vector(matio, ark)))
            if ark.read(MAX_TEXT_LENGTH).strip():  # a space where an id should begin also ends the loop
                raise ValueError("an id is empty")
        except MatrixError as error:
            raise _not_one_vector(file, key, error) from error
        except (ValueError, OSError) as error:
            after = f" after the id {found[-1][0]!r}" if found else ""
            raise EarmarkError(f"{shown_path(file)}: is no ark of vectors{after} ({error}).") from error
    return _stack_vectors(file, found)


def _read_scp(file: Path) -> IdsAndVectors:
    """The vectors that the lines `id ark:offset` point to; each ark is opened once."""
    matio = require_encoder_library("kaldiio", "--with kaldiio").matio
    lines = _scp_lines(file)
    faults: list[Fault] = []
    places: dict[Path, list[int]] = {}
    for row, (_, ark, _) in enumerate(lines):
        places.setdefault(ark, []).append(row)
    found: dict[int, tuple[str, Array]] = {}
    for path, rows in places.items():
        with path.open("rb") as file_of_vectors:
            for row in rows:
                key, _, offset = lines[row]
                try:
                    file_of_vectors.seek(offset)
                    found[row] = key, _kaldi_vector(matio, file_of_vectors)
                except MatrixError as error:
                    faults.append(Fault(row + 1, "", f"{key!r} has {error}"))
                except (ValueError, OSError) as error:
                    faults.append(Fault(row + 1, "", f"{shown_path(path)} has no vector at {offset} ({error})"))
    if faults:
        raise DataError({shown_path(file): faults}, _SCP_REMEDY)
    return _stack_vectors(file, [found[row] for row in range(len(lines))])


_SCP_REMEDY = "A line is `id FILE.ark:OFFSET`; commands are not run."


def _scp_lines(file: Path) -> list[tuple[str, Path, int]]:
    """Id, ark and offset of every line. DataError with every wrong one."""
    lines: list[tuple[str, Path, int]] = []
    faults: list[Fault] = []
    # Bytes that are no UTF-8 become characters that no file's name holds.
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        match = SCP_LINE.fullmatch(line)
        if not match or not match["ark"]:
            faults.append(Fault(number, "", "is not `id FILE.ark:OFFSET`"))
        elif "|" in (match["ark"][0], match["ark"][-1]):
            faults.append(Fault(number, "", "is a command; write its output to an ark first"))
        else:
            here = [place for place in (Path(match["ark"]), file.parent / match["ark"]) if place.is_file()]
            if here:
                lines.append((match["id"], here[0], int(match["offset"] or 0)))
            else:
                faults.append(Fault(number, "", f"{match['ark']} is not there, nor is it beside the .scp"))
    if faults:
        raise DataError({shown_path(file): faults}, _SCP_REMEDY)
    return lines


def _kaldi_vector(matio: Any, ark: BinaryIO) -> Array:
    """The vector where the file stands.

    Only kaldiio's reader of binary matrices and vectors is used: what chooses a reader by content also unpickles, and
    the one for text takes numbers for integers when the first of them has no point.
    """
    start = ark.tell()
    kind = ark.read(3)
    ark.seek(start)
    if kind[:2] != b"\0B":
        text = ark.readline(MAX_TEXT_LENGTH).decode("ascii", "replace").strip()
        if text == "[":
            text = _text_row(ark)
        if not (text.startswith("[") and text.endswith("]")):
            raise ValueError("neither a binary vector nor one line `[ … ]`")
        return np.array(text[1:-1].split(), dtype=np.float32)
    try:
        vector, size = matio.read_matrix_or_vector(ark, return_size=True)
    except Exception as error:  # struct.error, AssertionError, MemoryError of a damaged header
        raise ValueError(f"damaged: {error or type(error).__name__}") from error
    if vector.ndim == 2 and len(vector) == 1:
        vector = vector[0]
    if vector.ndim != 1:
        raise MatrixError(vector.shape)
    if kind != b"\0BC" and ark.tell() - start != size:  # sizes of compressed matrices are checked on their way
        raise ValueError("damaged: the file ends within a vector")
    return vector


def _text_row(ark: BinaryIO) -> str:
    """The one row of a text matrix as a vector's text. MatrixError where it has more."""
    rows: list[str] = []
    while line := ark.readline(MAX_TEXT_LENGTH).decode("ascii", "replace"):
        row, end, _ = line.partition("]")
        rows += [row] if row.strip() else []
        if end:
            break
    else:
        raise ValueError("damaged: the file ends within a matrix")
    if len(rows) != 1:
        raise MatrixError((len(rows), len(rows[0].split()) if rows else 0))
    return f"[ {rows[0].strip()} ]"


def _stack_vectors(file: Path, found: list[tuple[str, Array]]) -> IdsAndVectors:
    if not found:
        raise EarmarkError(f"{shown_path(file)}: holds no vectors.")
    dimension = len(found[0][1])
    for key, vector in found:
        if len(vector) != dimension:
            raise EarmarkError(
                f"{shown_path(file)}: {key!r} has {len(vector)} dimensions where {found[0][0]!r} has {dimension}."
            )
    return [key for key, _ in found], np.stack([vector for _, vector in found])


# --- parquet ------------------------------------------------------------------------------------------------


def _read_parquet(file: Path) -> IdsAndVectors:
    arrow = require_encoder_library("pyarrow", "--with pyarrow")
    parquet = require_encoder_library("pyarrow.parquet", "--with pyarrow")
    try:
        return _from_table(arrow, file, parquet.read_table(file))
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise EarmarkError(f"{shown_path(file)}: is no parquet file, or damaged ({error}).") from error


def _from_table(arrow: Any, file: Path, table: Any) -> IdsAndVectors:
    names: list[str] = table.column_names
    ids = next((name for name in ID_NAMES if name in names), None)
    if ids is None or table[ids].null_count:
        what = "has no column of ids" if ids is None else f"column {ids} has empty cells"
        raise EarmarkError(f"{shown_path(file)}: {what}; it may be called {_alternatives(ID_NAMES)}.")
    list_types = arrow.types.is_list, arrow.types.is_large_list, arrow.types.is_fixed_size_list
    lists = [n for n in names if any(fits(table[n].type) for fits in list_types)]
    chosen = [n for n in VECTOR_NAMES if n in lists] or lists
    if chosen and (len(chosen) == 1 or chosen[0] in VECTOR_NAMES):
        if any(fits(table[chosen[0]].type.value_type) for fits in list_types):
            _refuse_nested(file, table, ids, chosen[0])
        vectors = _from_lists(file, chosen[0], table[chosen[0]])
    else:
        numeric = [n for n in names if arrow.types.is_floating(table[n].type) or arrow.types.is_integer(table[n].type)]
        columns = _numbered_columns(file, [n for n in numeric if n != ids], lists)
        vectors = np.stack([table[n].to_numpy() for n in columns], axis=1)
    return [str(key) for key in table[ids].to_pylist()], vectors


def _refuse_nested(file: Path, table: Any, ids: str, name: str) -> None:
    for key, rows in zip(table[ids], table[name], strict=True):
        if found := rows.as_py():
            raise _not_one_vector(file, str(key.as_py()), MatrixError((len(found), len(found[0] or ()))))


def _from_lists(file: Path, name: str, column: Any) -> Array:
    """(n, d) numbers of a column of lists, without a Python object for each."""
    compute = require_encoder_library("pyarrow.compute", "--with pyarrow")
    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise EarmarkError(f"{shown_path(file)}: the lists of column {name} are not all of one length.")
    return np.asarray(compute.list_flatten(column).to_numpy()).reshape(len(column), lengths[0])


def _numbered_columns(file: Path, names: list[str], lists: list[str]) -> list[str]:
    """The columns of one name and a number, by rising number: x0, x1, …; others (a duration, say) are left alone."""
    stems: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if match := re.fullmatch(r"(.*?)(\d+)", name):
            stems.setdefault(match[1], []).append((int(match[2]), name))
    if len(stems) != 1:
        found = f"several ({', '.join(lists or list(stems))})" if lists or stems else "none"
        raise EarmarkError(
            f"{shown_path(file)}: expected one column of lists, named {_alternatives(VECTOR_NAMES)}, or columns "
            f"named by a stem and a number (x0, x1, …); it has {found}."
        )
    return [name for _, name in sorted(next(iter(stems.values())))]


def _alternatives(names: Any) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"


READERS: dict[str, Callable[[Path], IdsAndVectors]] = {
    ".npz": _read_numpy,
    ".npy": _read_numpy,
    ".ark": _read_ark,
    ".scp": _read_scp,
    ".parquet": _read_parquet,
}
