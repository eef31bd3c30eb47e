"""Vectors by key on disk, in append-only shards.

A shard is three files of one name:
  NAME.json   what the shard is: dimension, encoder; written first
  NAME.npy    (n, d) float32, an ordinary array that `numpy.load` reads at any time
  NAME.ids    a line for each row: the key (sha256 in hexadecimal) and the CRC-32 of the row's bytes
Each process that adds vectors appends to a shard of its own, first the rows, then their ids: a row without its id, or
whose bytes do not have its checksum, does not exist. So nothing a process leaves behind when it is killed is taken
for a vector, and every vector whose `add` returned is kept.
"""

import errno
import io
import json
import os
import uuid
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from earmark.errors import EarmarkError, shown_path

Array = NDArray[np.float32]
SCHEMA_VERSION = 1
LINE = 64 + 1 + 8 + 1  # bytes of a line of ids
ROWS = 40  # bits of a place that say the row
OPEN = 64  # shards whose files are open for reading at once


@dataclass
class _Shard:
    """A shard as far as it was read. start: where the rows begin in the .npy. checksums: of the rows."""

    path: Path
    dimension: int
    start: int
    checksums: "array[int]" = field(default_factory=lambda: array("L"))


class Shelf:
    """The vectors of one encoder. Threads may share a shelf; processes may share its folder."""

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        self.folder = folder
        self._description = description
        self._shards: list[_Shard] = []
        self._places: dict[bytes, int] = {}
        self._others: dict[bytes, list[int]] = {}  # further places of keys that two processes wrote
        self._files: OrderedDict[int, int] = OrderedDict()  # shard → file descriptor, the longest unused first
        self._own: _Writer | None = None
        self._lock = Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "encoder.json").exists():
                write_json(folder / "encoder.json", description)
        except OSError as error:
            raise EarmarkError(
                f"{shown_path(folder)} cannot be written: {error.strerror}; choose another folder."
            ) from error
        for path in sorted(folder.glob("*.npy")):
            self._read(path)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def dimension(self) -> int | None:
        """Of the vectors that are there; None while there are none."""
        return next((shard.dimension for shard in self._shards if shard.checksums), None)

    def get(self, key: str) -> Array | None:
        """The vector of a key, or None; one whose bytes have changed since it was written counts as absent."""
        name = bytes.fromhex(key)
        with self._lock:
            while (place := self._places.get(name)) is not None:
                vector = self._at(place)
                if vector is not None:
                    return vector
                del self._places[name]
                if others := self._others.get(name):
                    self._places[name] = others.pop()
            return None

    def _at(self, place: int) -> Array | None:
        number, row = place >> ROWS, place & ((1 << ROWS) - 1)
        shard = self._shards[number]
        size = 4 * shard.dimension
        try:
            content = os.pread(self._file(number), size, shard.start + row * size)
        except OSError:
            return None
        if len(content) < size or zlib.crc32(content) != shard.checksums[row]:
            return None
        return np.frombuffer(content, dtype="<f4")

    def add(self, keys: Sequence[str], vectors: Array) -> None:
        """Write vectors down, (n, d) for n keys. EarmarkError when the disk will not take them."""
        rows = np.ascontiguousarray(vectors, dtype="<f4")
        with self._lock:
            try:
                if self._own is None:
                    self._own = _Writer.create(self.folder, rows.shape[1], self._description)
                    self._shards.append(self._own.shard)
                first = len(self._own.shard.checksums)
                self._own.append(keys, rows)
            except OSError as error:
                raise EarmarkError(
                    f"{shown_path(self.folder)} cannot be written: {error.strerror}. Its {len(self):,} embeddings are "
                    "safe; make room on the disk and give the same command again."
                ) from error
            number = self._shards.index(self._own.shard)
            for row, key in enumerate(keys, first):
                self._places[bytes.fromhex(key)] = number << ROWS | row

    def close(self) -> None:
        """Close all files; nothing is left to write."""
        with self._lock:
            for file in self._files.values():
                os.close(file)
            self._files.clear()
            if self._own is not None:
                self._own.close()
                self._own = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, path: Path) -> None:
        """Take in a shard; one whose sidecar or header is not whole holds nothing."""
        try:
            dimension = int(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["dimension"])
            ids = path.with_suffix(".ids").read_bytes()
            with path.open("rb") as file:
                start = len(_header(0, dimension))
                magic = file.read(len(np.lib.format.MAGIC_PREFIX))
        except (OSError, ValueError, KeyError, TypeError):
            return
        if magic != np.lib.format.MAGIC_PREFIX or (self.dimension or dimension) != dimension:
            return
        shard = _Shard(path, dimension, start)
        number = len(self._shards)
        for row in range(len(ids) // LINE):
            line = ids[row * LINE : (row + 1) * LINE]
            try:
                key, checksum = bytes.fromhex(line[:64].decode()), int(line[65:73], 16)
            except ValueError:
                key, checksum = b"", 0
            shard.checksums.append(checksum)
            if key in self._places:
                self._others.setdefault(key, []).append(number << ROWS | row)
            elif key:
                self._places[key] = number << ROWS | row
        self._shards.append(shard)

    def _file(self, number: int) -> int:
        if number not in self._files:
            while len(self._files) >= OPEN:
                os.close(self._files.popitem(last=False)[1])
            self._files[number] = os.open(self._shards[number].path, os.O_RDONLY)
        self._files.move_to_end(number)
        return self._files[number]


@dataclass
class _Writer:
    """The shard that this process appends to."""

    shard: _Shard
    rows: int
    ids: int

    @classmethod
    def create(cls, folder: Path, dimension: int, description: dict[str, Any]) -> Self:
        path = folder / f"{uuid.uuid4().hex}.npy"
        write_json(
            path.with_suffix(".json"),
            {"schema_version": SCHEMA_VERSION, "dimension": dimension, "dtype": "<f4", **description},
        )
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        writer = cls(
            _Shard(path, dimension, len(_header(0, dimension))),
            os.open(path, flags, 0o644),
            os.open(path.with_suffix(".ids"), flags, 0o644),
        )
        _write(writer.rows, _header(0, dimension), 0)
        return writer

    def append(self, keys: Sequence[str], rows: Array) -> None:
        shard, n = self.shard, len(self.shard.checksums)
        checksums = [zlib.crc32(row.tobytes()) for row in rows]
        lines = "".join(f"{key} {checksum:08x}\n" for key, checksum in zip(keys, checksums, strict=True))
        _write(self.rows, rows.tobytes(), shard.start + n * 4 * shard.dimension)
        _write(self.rows, _header(n + len(rows), shard.dimension), 0)
        _write(self.ids, lines.encode(), n * LINE)
        shard.checksums.extend(checksums)

    def close(self) -> None:
        os.close(self.rows)
        os.close(self.ids)


def write_json(path: Path, data: Any) -> None:
    """JSON in a file that is whole or not there, whoever else writes it."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_text(json.dumps(data, indent=2, sort_keys=True, default=str, allow_nan=False), encoding="utf-8")
    temporary.replace(path)


def _header(rows: int, dimension: int) -> bytes:
    """What stands before the numbers; numpy leaves room for more rows, so that its length never changes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)})
    return header.getvalue()


def _write(file: int, content: bytes, offset: int) -> None:
    """All of it, or OSError."""
    done = 0
    while done < len(content):
        written = os.pwrite(file, memoryview(content)[done:], offset + done)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done += written
