"""Precomputed embeddings, indexed by the path of the clip.

.npz       arrays `ids` and `embeddings` (other names: `ID_NAMES`, `VECTOR_NAMES`), or one array per clip
.npy       (n, d), with n ids in NAME.ids, NAME.txt or NAME.ids.txt (one per line), or NAME.ids.npy
.ark .scp  Kaldi vectors, text or binary, or matrices with one row; paths in an .scp are relative to the working folder
           or to the .scp
.parquet   a column of ids, and one column of lists or columns named by a stem and a number (x0, x1, …)

Each clip has one vector. A matrix with several rows is an error, since its meaning is unknown (frames, layers, …).
Files are not trusted: pickles, commands in an .scp, and audio are errors.
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
MAX_TEXT_LENGTH = 1 << 20  # characters per line of a text ark
ROWS_PER_HASH_UPDATE = 4096
ONE_VECTOR = "expected one vector per clip. For frames (frames, d), store the mean over frames, x.mean(axis=0)"
IdsAndVectors = tuple[list[str], Any]  # n ids, and an array (n, d)


class MatrixError(ValueError):
    """A clip has a matrix instead of a vector."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        super().__init__(f"a matrix of shape {self.shape}; {ONE_VECTOR}")


@dataclass(frozen=True)
class PrecomputedEmbeddings:
    """Embeddings by clip.

    Attributes
    ----------
    name : str
        Name for messages and reports.
    identity : str
        Contains a hash of ids and vectors; valid as a file name.
    description : dict
        File, hash and size, as recorded in summaries.
    dimension : int
        Of the embeddings.
    rows : dict of str to int
        Row of `vectors` by id. An id is the path of a clip relative to the audio root, with or without suffix.
    vectors : (n, d) float32
        The embeddings.
    """

    name: str
    identity: str
    description: dict[str, Any]
    dimension: int
    rows: dict[str, int]
    vectors: Array

    def embed_paths(self, paths: Sequence[Path], root: Path | None = None) -> Iterator[tuple[Path, Embedding]]:
        """Look up the embeddings of clips.

        Parameters
        ----------
        paths : sequence of Path
            Clips.
        root : Path, optional
            Folder that the ids are relative to. By default, the paths are the ids.

        Yields
        ------
        path : Path
            The clip.
        embedding : Embedding
            Its embedding, or an error.
        """
        for path in paths:
            yield path, self.lookup(path.relative_to(root) if root and path.is_relative_to(root) else path)

    def lookup(self, path: Path, *others: Path) -> Embedding:
        """Look up one embedding.

        Parameters
        ----------
        path : Path
            The id of the clip.
        *others : Path
            Alternative ids, used if there is no `path`.

        Returns
        -------
        Embedding
            The embedding, or an error if no id is known or the vector is invalid.
        """
        for candidate in (path, *others):
            row = self.rows.get(candidate.as_posix(), self.rows.get(candidate.with_suffix("").as_posix()))
            if row is not None:
                fault = embedding_fault(self.vectors[row], self.dimension)
                return Embedding(None, f"{candidate.as_posix()}: {fault}") if fault else Embedding(self.vectors[row])
        tried = ", ".join(each.as_posix() for each in dict.fromkeys(others) if each != path)
        also = f", nor is {tried}" if tried else ""
        return Embedding(None, f"{path.as_posix()}: is not among the {len(self.rows):,} ids of {self.name}{also}")

    def require_support(self, request: EmbeddingRequest) -> None:
        """Raise EarmarkError for any other request than one embedding per clip."""
        if request != DEFAULT_REQUEST:
            raise EarmarkError(
                f"{self.name}: has one vector per clip; {request.name} requires an encoder that takes audio."
            )


def load(name: str, device: str = "auto", dtype: str = "float32") -> PrecomputedEmbeddings:
    """Load precomputed embeddings.

    Parameters
    ----------
    name : str
        The file; its suffix determines the format.
    device, dtype : str
        Ignored.

    Returns
    -------
    PrecomputedEmbeddings
        The embeddings as float32.

    Raises
    ------
    MissingError
        If the file, its ids or the library to read it is missing.
    EarmarkError
        If the file is damaged or does not have one vector per clip.
    """
    file = Path(name)
    if not file.is_file():
        raise MissingError(
            f"{shown_path(file)}: no such file; expected embeddings:FILE with suffix {_alternatives(READERS)}."
        )
    ids, vectors = READERS.get(file.suffix.lower(), _read_numpy)(file)
    if vectors.ndim > 2 and len(vectors) == len(ids) and ids:
        raise _not_one_vector(file, ids[0], MatrixError(vectors.shape[1:]))
    if vectors.ndim != 2 or len(vectors) != len(ids) or not _is_real(vectors.dtype):
        raise EarmarkError(
            f"{shown_path(file)}: {len(ids):,} ids and embeddings of shape {vectors.shape}, {vectors.dtype}; "
            f"expected shape ({len(ids)}, d) and a numeric type."
        )
    rows = {key: row for row, key in enumerate(ids)}
    if len(rows) < len(ids):
        duplicate = next(key for row, key in enumerate(ids) if rows[key] != row)
        raise EarmarkError(f"{shown_path(file)}: the id {duplicate!r} occurs more than once; {ONE_VECTOR}.")
    embeddings = vectors if vectors.dtype == np.float32 else vectors.astype(np.float32)
    digest = _hash(ids, embeddings)
    dimension = embeddings.shape[1]
    description = {"file": file.name, "sha256": digest, "embeddings": len(ids), "dimension": dimension}
    return PrecomputedEmbeddings(
        file.stem, encoder_key(f"embeddings-{file.stem}", sha256=digest), description, dimension, rows, embeddings
    )


def _not_one_vector(file: Path, key: str, error: MatrixError) -> EarmarkError:
    return EarmarkError(f"{shown_path(file)}: {key!r} has {error}.")


def _is_real(dtype: Any) -> bool:
    return np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.floating)


def _hash(ids: list[str], vectors: Array) -> str:
    """Hash ids and vectors to 16 hexadecimal digits, independent of the file format."""
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
            f"{shown_path(file)}: is not an .npz or .npy file of numbers and strings ({error}). "
            "Store ids as an array of strings, not of Python objects."
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
    one_per_clip = all(_is_real(array.dtype) for array in arrays.values())  # else an array has ids under another name
    for key, array in arrays.items():
        if one_per_clip and array.ndim > 1 and array.size > array.shape[-1]:
            raise _not_one_vector(file, key, MatrixError(array.shape))
    arrays = {key: array.ravel() for key, array in arrays.items()}  # a matrix with one row is a vector
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1:
        raise EarmarkError(
            f"{shown_path(file)}: has neither the arrays `ids` and `embeddings` nor one vector of equal dimension per "
            f"clip. Its arrays: {', '.join(sorted(arrays)[:8]) or 'none'}."
        )
    return list(arrays), np.stack(list(arrays.values()))


def _from_npy(file: Path, vectors: Array) -> IdsAndVectors:
    for suffix in (".ids", ".txt", ".ids.txt", ".ids.npy"):
        ids_file = file.with_name(file.stem + suffix)
        if ids_file.is_file() and suffix == ".ids.npy":
            return [str(key) for key in np.load(ids_file, allow_pickle=False).ravel()], vectors
        if ids_file.is_file():
            return ids_file.read_text(encoding="utf-8").splitlines(), vectors
    raise MissingError(
        f"{shown_path(file)}: ids not found; write them to {file.stem}.ids in the same folder, one per line."
    )


# --- Kaldi --------------------------------------------------------------------------------------------------


def _read_ark(file: Path) -> IdsAndVectors:
    matio = require_encoder_library("kaldiio", "--with kaldiio").matio
    rows: list[tuple[str, Array]] = []
    with file.open("rb") as ark:
        try:
            while key := matio.read_token(ark):
                rows.append((key, _kaldi_vector(matio, ark)))
            if ark.read(MAX_TEXT_LENGTH).strip():  # a space in place of an id also ends the loop
                raise ValueError("an id is empty")
        except MatrixError as error:
            raise _not_one_vector(file, key, error) from error
        except (ValueError, OSError) as error:
            after = f" after the id {rows[-1][0]!r}" if rows else ""
            raise EarmarkError(f"{shown_path(file)}: is not a Kaldi ark of vectors{after} ({error}).") from error
    return _stack_vectors(file, rows)


def _read_scp(file: Path) -> IdsAndVectors:
    """Read the vectors of lines `id ark:offset`; each ark is opened once."""
    matio = require_encoder_library("kaldiio", "--with kaldiio").matio
    lines = _scp_lines(file)
    faults: list[Fault] = []
    rows_by_ark: dict[Path, list[int]] = {}
    for row, (_, ark, _) in enumerate(lines):
        rows_by_ark.setdefault(ark, []).append(row)
    vectors: dict[int, tuple[str, Array]] = {}
    for path, rows in rows_by_ark.items():
        with path.open("rb") as ark_file:
            for row in rows:
                key, _, offset = lines[row]
                try:
                    ark_file.seek(offset)
                    vectors[row] = key, _kaldi_vector(matio, ark_file)
                except MatrixError as error:
                    faults.append(Fault(row + 1, "", f"{key!r} has {error}"))
                except (ValueError, OSError) as error:
                    faults.append(Fault(row + 1, "", f"{shown_path(path)} has no vector at {offset} ({error})"))
    if faults:
        raise DataError({shown_path(file): faults}, _SCP_REMEDY)
    return _stack_vectors(file, [vectors[row] for row in range(len(lines))])


_SCP_REMEDY = "Expected lines `id FILE.ark:OFFSET`; commands are not run."


def _scp_lines(file: Path) -> list[tuple[str, Path, int]]:
    """Id, ark and offset of every line; DataError with all invalid lines."""
    lines: list[tuple[str, Path, int]] = []
    faults: list[Fault] = []
    # Invalid UTF-8 becomes a replacement character, so the file is not found.
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        match = SCP_LINE.fullmatch(line)
        if not match or not match["ark"]:
            faults.append(Fault(number, "", "is not `id FILE.ark:OFFSET`"))
        elif "|" in (match["ark"][0], match["ark"][-1]):
            faults.append(Fault(number, "", "is a command; write its output to an ark file"))
        else:
            existing = [ark for ark in (Path(match["ark"]), file.parent / match["ark"]) if ark.is_file()]
            if existing:
                lines.append((match["id"], existing[0], int(match["offset"] or 0)))
            else:
                faults.append(
                    Fault(number, "", f"{match['ark']} not found in the working folder or the folder of the .scp")
                )
    if faults:
        raise DataError({shown_path(file): faults}, _SCP_REMEDY)
    return lines


def _kaldi_vector(matio: Any, ark: BinaryIO) -> Array:
    """Read the vector at the current position.

    Only the kaldiio reader for binary matrices and vectors is used. Its generic reader unpickles, and its text reader
    parses numbers as integers if the first one has no decimal point.
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
    except Exception as error:  # a damaged header raises struct.error, AssertionError or MemoryError
        raise ValueError(f"damaged: {error or type(error).__name__}") from error
    if vector.ndim == 2 and len(vector) == 1:
        vector = vector[0]
    if vector.ndim != 1:
        raise MatrixError(vector.shape)
    if kind != b"\0BC" and ark.tell() - start != size:  # kaldiio checks the size of compressed matrices
        raise ValueError("damaged: the file ends within a vector")
    return vector


def _text_row(ark: BinaryIO) -> str:
    """Text of the single row of a text matrix; MatrixError if it has several."""
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


def _stack_vectors(file: Path, rows: list[tuple[str, Array]]) -> IdsAndVectors:
    if not rows:
        raise EarmarkError(f"{shown_path(file)}: contains no vectors.")
    dimension = len(rows[0][1])
    for key, vector in rows:
        if len(vector) != dimension:
            raise EarmarkError(
                f"{shown_path(file)}: {key!r} has {len(vector)} dimensions where {rows[0][0]!r} has {dimension}."
            )
    return [key for key, _ in rows], np.stack([vector for _, vector in rows])


# --- parquet ------------------------------------------------------------------------------------------------


def _read_parquet(file: Path) -> IdsAndVectors:
    arrow = require_encoder_library("pyarrow", "--with pyarrow")
    parquet = require_encoder_library("pyarrow.parquet", "--with pyarrow")
    try:
        return _from_table(arrow, file, parquet.read_table(file))
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise EarmarkError(f"{shown_path(file)}: is not a parquet file, or is damaged ({error}).") from error


def _from_table(arrow: Any, file: Path, table: Any) -> IdsAndVectors:
    names: list[str] = table.column_names
    ids = next((name for name in ID_NAMES if name in names), None)
    if ids is None or table[ids].null_count:
        fault = "has no column of ids" if ids is None else f"column {ids} has empty cells"
        raise EarmarkError(f"{shown_path(file)}: {fault}; expected a column named {_alternatives(ID_NAMES)}.")
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
        if matrix := rows.as_py():
            raise _not_one_vector(file, str(key.as_py()), MatrixError((len(matrix), len(matrix[0] or ()))))


def _from_lists(file: Path, name: str, column: Any) -> Array:
    """(n, d) numbers of a column of lists, without conversion to Python objects."""
    compute = require_encoder_library("pyarrow.compute", "--with pyarrow")
    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise EarmarkError(f"{shown_path(file)}: the lists of column {name} differ in length or are empty.")
    return np.asarray(compute.list_flatten(column).to_numpy()).reshape(len(column), lengths[0])


def _numbered_columns(file: Path, names: list[str], lists: list[str]) -> list[str]:
    """Columns named by a stem and a number (x0, x1, …), sorted by number; other columns are ignored."""
    stems: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if match := re.fullmatch(r"(.*?)(\d+)", name):
            stems.setdefault(match[1], []).append((int(match[2]), name))
    if len(stems) != 1:
        actual = f"several ({', '.join(lists or list(stems))})" if lists or stems else "none"
        raise EarmarkError(
            f"{shown_path(file)}: expected one column of lists, named {_alternatives(VECTOR_NAMES)}, or columns "
            f"named by a stem and a number (x0, x1, …); it has {actual}."
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
