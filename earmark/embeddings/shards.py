"""Arrays by key on disk, in append-only shards.

A shard is three files of one name:
  NAME.json   what the shard is: dimension, encoder; written first
  NAME.npy    (n, d) numbers, an ordinary array that `numpy.load` reads at any time
  NAME.ids    a line for each array: the key (sha256 in hexadecimal) and the CRC-32 of its bytes; in a ragged shard,
              whose arrays have any number of rows, also the first row and how many there are, in hexadecimal
Each process that adds arrays appends to a shard of its own, first the rows, then their ids: a row without its id, or
whose bytes do not have its checksum, does not exist. So nothing a process leaves behind when it is killed is taken
for an array, and every array whose `add` returned is kept.
"""

import errno
import io
import json
import os
import re
import uuid
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from earmark.errors import EarmarkError, shown_path
from earmark.files.atomic import write_together

Array = NDArray[np.float32]
SCHEMA_VERSION = 1
ENTRY = 40  # bits of a place that say which of a shard's arrays
OPEN = 64  # shards whose files are open for reading at once


@dataclass(frozen=True)
class Layout:
    """How arrays are laid out. ragged: each is (rows, d) and not (d,). dtype: in which they are stored."""

    ragged: bool = False
    dtype: Literal["<f4", "<f2"] = "<f4"

    @property
    def line(self) -> re.Pattern[bytes]:
        """A line of ids, always of one length."""
        return re.compile(rb"([0-9a-f]{64}) ([0-9a-f]{8})" + rb"( [0-9a-f]{12} [0-9a-f]{8})" * self.ragged + rb"\n")

    @property
    def line_bytes(self) -> int:
        """How long it is."""
        return 64 + 1 + 8 + (1 + 12 + 1 + 8 if self.ragged else 0) + 1

    def header(self, rows: int, dimension: int) -> bytes:
        """What stands before the numbers; numpy leaves room for more rows, so that its length never changes."""
        header = io.BytesIO()
        described = {"descr": self.dtype, "fortran_order": False, "shape": (rows, dimension)}
        np.lib.format.write_array_header_1_0(header, described)
        return header.getvalue()

    def row_bytes(self, dimension: int) -> int:
        """The size of a row."""
        return np.dtype(self.dtype).itemsize * dimension


@dataclass
class _Shard:
    """A shard as far as it was read. first, count: each array's rows. checksums: of their bytes. rows: of all."""

    path: Path
    dimension: int
    rows: int = 0
    first: "array[int]" = field(default_factory=lambda: array("Q"))
    count: "array[int]" = field(default_factory=lambda: array("I"))
    checksums: "array[int]" = field(default_factory=lambda: array("I"))

    def note(self, first: int, count: int, checksum: int) -> None:
        """Take in one more array."""
        self.first.append(first)
        self.count.append(count)
        self.checksums.append(checksum)
        self.rows = max(self.rows, first + count)


class ShardedArrayStore:
    """The arrays of one encoder and view. Threads may share a shelf; processes may share its folder."""

    def __init__(self, folder: Path, description: dict[str, Any], layout: Layout | None = None) -> None:
        self.folder = folder
        self.layout = layout or Layout()
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
        """The array of a key in float32, (d,) or where the layout is ragged (rows, d).

        None where there is none; one whose bytes have changed since it was written counts as absent.
        """
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
        number, entry = place >> ENTRY, place & ((1 << ENTRY) - 1)
        shard = self._shards[number]
        row_bytes, start = self.layout.row_bytes(shard.dimension), len(self.layout.header(0, shard.dimension))
        size = shard.count[entry] * row_bytes
        try:
            content = _read(self._file(number), size, start + shard.first[entry] * row_bytes)
        except OSError:
            return None
        if len(content) < size or zlib.crc32(content) != shard.checksums[entry]:
            return None
        found = np.frombuffer(content, dtype=self.layout.dtype).astype(np.float32, copy=False)
        return found.reshape(-1, shard.dimension) if self.layout.ragged else found

    def add(self, keys: Sequence[str], arrays: Sequence[Array] | Array) -> None:
        """Write arrays down, one for each key. EarmarkError when the disk will not take them."""
        blocks = [np.ascontiguousarray(np.atleast_2d(one), dtype=self.layout.dtype) for one in arrays]
        with self._lock:
            try:
                if self._own is None:
                    self._own = _Writer.create(self.folder, blocks[0].shape[1], self._description, self.layout)
                    self._shards.append(self._own.shard)
                first = len(self._own.shard.checksums)
                self._own.append(keys, blocks)
            except OSError as error:
                raise EarmarkError(
                    f"{shown_path(self.folder)} cannot be written: {error.strerror}. Its {len(self):,} embeddings are "
                    "safe; make room on the disk and give the same command again."
                ) from error
            number = self._shards.index(self._own.shard)
            for entry, key in enumerate(keys, first):
                self._places[bytes.fromhex(key)] = number << ENTRY | entry

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
                magic = file.read(len(np.lib.format.MAGIC_PREFIX))
        except (OSError, ValueError, KeyError, TypeError):
            return
        if magic != np.lib.format.MAGIC_PREFIX or (self.dimension or dimension) != dimension:
            return
        shard = _Shard(path, dimension)
        number, size, line = len(self._shards), self.layout.line_bytes, self.layout.line
        for entry in range(len(ids) // size):
            parts = line.fullmatch(ids, entry * size, (entry + 1) * size)
            if parts is None:
                shard.note(0, 0, 0)
                continue
            place = parts[3].split() if self.layout.ragged else (b"%x" % entry, b"1")
            shard.note(int(place[0], 16), int(place[1], 16), int(parts[2], 16))
            key = bytes.fromhex(parts[1].decode())
            if key in self._places:
                self._others.setdefault(key, []).append(number << ENTRY | entry)
            else:
                self._places[key] = number << ENTRY | entry
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
    layout: Layout
    rows: int
    ids: int

    @classmethod
    def create(cls, folder: Path, dimension: int, description: dict[str, Any], layout: Layout) -> Self:
        path = folder / f"{uuid.uuid4().hex}.npy"
        sidecar = {"schema_version": SCHEMA_VERSION, "dimension": dimension, "dtype": layout.dtype, **description}
        write_json(path.with_suffix(".json"), sidecar | ({"ragged": True} if layout.ragged else {}))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        writer = cls(
            _Shard(path, dimension),
            layout,
            os.open(path, flags, 0o644),
            os.open(path.with_suffix(".ids"), flags, 0o644),
        )
        _write(writer.rows, layout.header(0, dimension), 0)
        return writer

    def append(self, keys: Sequence[str], blocks: Sequence[NDArray[Any]]) -> None:
        shard, layout = self.shard, self.layout
        first = shard.rows + np.cumsum([0, *(len(block) for block in blocks)])
        checksums = [zlib.crc32(block.data) for block in blocks]
        lines = [f"{key} {checksum:08x}" for key, checksum in zip(keys, checksums, strict=True)]
        if layout.ragged:
            lines = [
                f"{line} {row:012x} {len(block):08x}" for line, row, block in zip(lines, first, blocks, strict=False)
            ]
        start = len(layout.header(0, shard.dimension)) + shard.rows * layout.row_bytes(shard.dimension)
        _write(self.rows, np.concatenate(blocks).data.cast("B"), start)
        _write(self.rows, layout.header(int(first[-1]), shard.dimension), 0)
        _write(self.ids, "".join(f"{line}\n" for line in lines).encode(), len(shard.checksums) * layout.line_bytes)
        for row, block, checksum in zip(first, blocks, checksums, strict=False):
            shard.note(int(row), len(block), checksum)

    def close(self) -> None:
        os.close(self.rows)
        os.close(self.ids)


def write_json(path: Path, data: Any) -> None:
    """JSON in a file that is whole or not there, whoever else writes it."""
    text = json.dumps(data, indent=2, sort_keys=True, default=str, allow_nan=False)
    write_together({path: text})


def _read(file: int, size: int, offset: int) -> bytes:
    """As much of it as there is."""
    content = os.pread(file, size, offset)
    while len(content) < size and (more := os.pread(file, size - len(content), offset + len(content))):
        content += more  # a system call moves 2 GiB at most
    return content


def _write(file: int, content: bytes | memoryview, offset: int) -> None:
    """All of it, or OSError."""
    done = 0
    while done < len(content):
        written = os.pwrite(file, memoryview(content)[done:], offset + done)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done += written
