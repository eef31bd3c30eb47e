"""Arrays by key on disk, in append-only shards.

A shard consists of three files with the same stem:
  NAME.json   dimension, dtype and description of the encoder; written first
  NAME.npy    (n, d) rows; a valid NumPy file at any time
  NAME.ids    one line per array: key (SHA-256 in hexadecimal) and CRC-32 of its bytes; for ragged arrays, which have
              any number of rows, also the index of the first row and the number of rows, in hexadecimal

Each process appends to a shard of its own, first the rows, then their line in NAME.ids. Rows without a line, or with
another checksum, are ignored. An interrupted process therefore leaves no invalid arrays, and every array whose `add`
returned is kept.
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
ENTRY_BITS = 40  # a location is the shard number << ENTRY_BITS | index of the array in the shard
MAX_OPEN_FILES = 64
_IS_HEX = np.isin(np.arange(256), np.frombuffer(b"0123456789abcdef", dtype=np.uint8))  # by byte


@dataclass(frozen=True)
class Layout:
    """Layout of the arrays in a store.

    Attributes
    ----------
    ragged : bool
        Arrays are (rows, d) with any number of rows, instead of (d,).
    dtype : {"<f4", "<f2"}
        Storage type.
    """

    ragged: bool = False
    dtype: Literal["<f4", "<f2"] = "<f4"

    @property
    def line(self) -> re.Pattern[bytes]:
        """Pattern of a line in NAME.ids. All lines have the same length."""
        return re.compile(rb"([0-9a-f]{64}) ([0-9a-f]{8})" + rb"( [0-9a-f]{12} [0-9a-f]{8})" * self.ragged + rb"\n")

    @property
    def line_bytes(self) -> int:
        """Length of a line in NAME.ids."""
        return 64 + 1 + 8 + (1 + 12 + 1 + 8 if self.ragged else 0) + 1

    def header(self, rows: int, dimension: int) -> bytes:
        """The NumPy header. NumPy pads it, so its length does not depend on the number of rows."""
        header = io.BytesIO()
        described = {"descr": self.dtype, "fortran_order": False, "shape": (rows, dimension)}
        np.lib.format.write_array_header_1_0(header, described)
        return header.getvalue()

    def row_bytes(self, dimension: int) -> int:
        """Size of a row in bytes."""
        return np.dtype(self.dtype).itemsize * dimension


@dataclass
class _Shard:
    """Index of a shard.

    Attributes
    ----------
    rows : int
        Number of rows that belong to an array.
    first, count, checksums : array of int
        First row, number of rows and CRC-32 of each array.
    """

    path: Path
    dimension: int
    rows: int = 0
    first: "array[int]" = field(default_factory=lambda: array("Q"))
    count: "array[int]" = field(default_factory=lambda: array("I"))
    checksums: "array[int]" = field(default_factory=lambda: array("I"))

    def append(self, first: int, count: int, checksum: int) -> None:
        """Add an array to the index."""
        self.first.append(first)
        self.count.append(count)
        self.checksums.append(checksum)
        self.rows = max(self.rows, first + count)


class ShardedArrayStore:
    """Arrays by key, for one encoder and request. Threads can share a store, processes its folder.

    Parameters
    ----------
    folder : Path
        Folder of the shards; created if necessary.
    description : dict
        Written to encoder.json and to the sidecar of each new shard.
    layout : Layout, optional
        Vectors in float32 by default.

    Raises
    ------
    EarmarkError
        If the folder cannot be written.
    """

    def __init__(self, folder: Path, description: dict[str, Any], layout: Layout | None = None) -> None:
        self.folder = folder
        self.layout = layout or Layout()
        self._description = description
        self._shards: list[_Shard] = []
        self._locations: dict[bytes, int] = {}
        self._duplicates: dict[bytes, list[int]] = {}  # other locations of keys that several processes wrote
        self._files: OrderedDict[int, int] = OrderedDict()  # {shard number: file descriptor}, least recently used first
        self._own: _Writer | None = None
        self._lock = Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "encoder.json").exists():
                write_json(folder / "encoder.json", description)
        except OSError as error:
            raise EarmarkError(
                f"{shown_path(folder)} cannot be written: {error.strerror}. Choose another folder."
            ) from error
        for path in sorted(folder.glob("*.npy")):
            self._read_shard(path)

    def __len__(self) -> int:
        return len(self._locations)

    def __contains__(self, key: str) -> bool:
        """Whether there is an array of this key; its checksum is not verified."""
        return bytes.fromhex(key) in self._locations

    @property
    def dimension(self) -> int | None:
        """Dimension of the stored arrays; None while the store is empty."""
        return next((shard.dimension for shard in self._shards if shard.checksums), None)

    def get(self, key: str) -> Array | None:
        """Return the array of a key in float32, (d,) or, in a ragged layout, (rows, d).

        None if there is none or its checksum does not match.
        """
        name = bytes.fromhex(key)
        with self._lock:
            while (location := self._locations.get(name)) is not None:
                stored = self._read_array(location)
                if stored is not None:
                    return stored
                del self._locations[name]
                if duplicates := self._duplicates.get(name):
                    self._locations[name] = duplicates.pop()
            return None

    def _read_array(self, location: int) -> Array | None:
        number, entry = location >> ENTRY_BITS, location & ((1 << ENTRY_BITS) - 1)
        shard = self._shards[number]
        row_bytes, start = self.layout.row_bytes(shard.dimension), len(self.layout.header(0, shard.dimension))
        size = shard.count[entry] * row_bytes
        try:
            content = self._read(number, size, start + shard.first[entry] * row_bytes)
        except OSError:
            return None
        if len(content) < size or zlib.crc32(content) != shard.checksums[entry]:
            return None
        values = np.frombuffer(content, dtype=self.layout.dtype).astype(np.float32, copy=False)
        return values.reshape(-1, shard.dimension) if self.layout.ragged else values

    def add(self, keys: Sequence[str], arrays: Sequence[Array] | Array) -> None:
        """Write arrays to disk.

        Parameters
        ----------
        keys : sequence of str
            SHA-256 in hexadecimal, one per array.
        arrays : sequence of (d,) or (rows, d)

        Raises
        ------
        EarmarkError
            If they cannot be written, for example because the disk is full.
        """
        blocks = [np.ascontiguousarray(np.atleast_2d(each), dtype=self.layout.dtype) for each in arrays]
        with self._lock:
            try:
                if self._own is None:
                    self._own = _Writer.create(self.folder, blocks[0].shape[1], self._description, self.layout)
                    self._shards.append(self._own.shard)
                first = len(self._own.shard.checksums)
                self._own.append(keys, blocks)
            except OSError as error:
                raise EarmarkError(
                    f"{shown_path(self.folder)} cannot be written: {error.strerror}. {len(self):,} embeddings "
                    "are stored. Free some disk space and run the same command again."
                ) from error
            number = self._shards.index(self._own.shard)
            for entry, key in enumerate(keys, first):
                self._locations[bytes.fromhex(key)] = number << ENTRY_BITS | entry

    def flush(self) -> None:
        """Make the arrays of this process permanent, also if its machine is lost.

        Raises
        ------
        EarmarkError
            If they cannot be written, for example because the disk is full.
        """
        with self._lock:
            if self._own is None:
                return
            try:
                os.fsync(self._own.rows_file)
                os.fsync(self._own.ids_file)
            except OSError as error:
                raise EarmarkError(f"{shown_path(self.folder)} cannot be written: {error.strerror}.") from error

    def close(self) -> None:
        """Close all files. Everything is written already."""
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

    def _read_shard(self, path: Path) -> None:
        """Index a shard; skip it if its sidecar or header is incomplete."""
        try:
            dimension = int(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["dimension"])
            ids = path.with_suffix(".ids").read_bytes()
            with path.open("rb") as file:
                magic = file.read(len(np.lib.format.MAGIC_PREFIX))
        except (OSError, ValueError, KeyError, TypeError):
            return
        if magic == np.lib.format.MAGIC_PREFIX:
            self._index_shard(path, dimension, ids)

    def _index_shard(self, path: Path, dimension: int, ids: bytes) -> None:
        """Index a shard by the content of its NAME.ids; skip it if it has another dimension than the others."""
        if (self.dimension or dimension) != dimension:
            return
        shard = _Shard(path, dimension)
        number, size, line = len(self._shards), self.layout.line_bytes, self.layout.line
        entries = 0 if self._index_valid_lines(shard, number, ids) else len(ids) // size
        for entry in range(entries):
            parts = line.fullmatch(ids, entry * size, (entry + 1) * size)
            if parts is None:
                shard.append(0, 0, 0)
                continue
            first, count = parts[3].split() if self.layout.ragged else (b"%x" % entry, b"1")
            shard.append(int(first, 16), int(count, 16), int(parts[2], 16))
            key = bytes.fromhex(parts[1].decode())
            if key in self._locations:
                self._duplicates.setdefault(key, []).append(number << ENTRY_BITS | entry)
            else:
                self._locations[key] = number << ENTRY_BITS | entry
        self._shards.append(shard)

    def _read(self, number: int, size: int, offset: int) -> bytes:
        """Read from the rows of a shard; fewer bytes at their end."""
        return _read(self._file(number), size, offset)

    def _index_valid_lines(self, shard: _Shard, number: int, ids: bytes) -> bool:
        """Index all lines of a shard of vectors at once, in a fraction of the time.

        False, without effect, if the arrays are ragged, a line is damaged, or a key occurs twice.
        """
        n, size = len(ids) // self.layout.line_bytes, self.layout.line_bytes
        if self.layout.ragged or not n:
            return False
        lines = np.frombuffer(ids, dtype=np.uint8, count=n * size).reshape(n, size)
        keys, checksums = np.ascontiguousarray(lines[:, :64]), np.ascontiguousarray(lines[:, 65:73])
        separated = (lines[:, 64] == ord(" ")).all() and (lines[:, 73] == ord("\n")).all()
        if not separated or not (_IS_HEX[keys].all() and _IS_HEX[checksums].all()):
            return False
        names = bytes.fromhex(keys.tobytes().decode())
        width, base = len(names) // n, number << ENTRY_BITS
        found = {names[start : start + width]: base | entry for entry, start in enumerate(range(0, len(names), width))}
        if len(found) < n or not self._locations.keys().isdisjoint(found):
            return False
        shard.first.frombytes(np.arange(n, dtype=shard.first.typecode).tobytes())
        shard.count.frombytes(np.ones(n, dtype=shard.count.typecode).tobytes())
        crc = np.frombuffer(bytes.fromhex(checksums.tobytes().decode()), dtype=">u4")
        shard.checksums.frombytes(crc.astype(shard.checksums.typecode).tobytes())
        shard.rows = n
        self._locations |= found
        return True

    def _file(self, number: int) -> int:
        """Open file descriptor of a shard."""
        if number not in self._files:
            while len(self._files) >= MAX_OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
            self._files[number] = os.open(self._shards[number].path, os.O_RDONLY)
        self._files.move_to_end(number)
        return self._files[number]


@dataclass
class _Writer:
    """The shard that this process appends to. rows_file, ids_file: file descriptors of NAME.npy and NAME.ids."""

    shard: _Shard
    layout: Layout
    rows_file: int
    ids_file: int

    @classmethod
    def create(cls, folder: Path, dimension: int, description: dict[str, Any], layout: Layout) -> Self:
        path = folder / f"{uuid.uuid4().hex}.npy"
        write_json(path.with_suffix(".json"), shard_sidecar(dimension, description, layout))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        writer = cls(
            _Shard(path, dimension),
            layout,
            os.open(path, flags, 0o644),
            os.open(path.with_suffix(".ids"), flags, 0o644),
        )
        _write(writer.rows_file, layout.header(0, dimension), 0)
        return writer

    def append(self, keys: Sequence[str], blocks: Sequence[NDArray[Any]]) -> None:
        shard, layout = self.shard, self.layout
        first = shard.rows + np.cumsum([0, *(len(block) for block in blocks)])
        checksums = [zlib.crc32(block.data) for block in blocks]
        lines = id_lines(keys, checksums, first.tolist(), blocks, ragged=layout.ragged)
        start = len(layout.header(0, shard.dimension)) + shard.rows * layout.row_bytes(shard.dimension)
        _write(self.rows_file, np.concatenate(blocks).data.cast("B"), start)
        _write(self.rows_file, layout.header(int(first[-1]), shard.dimension), 0)
        _write(self.ids_file, lines, len(shard.checksums) * layout.line_bytes)
        for row, block, checksum in zip(first, blocks, checksums, strict=False):
            shard.append(int(row), len(block), checksum)

    def close(self) -> None:
        os.close(self.rows_file)
        os.close(self.ids_file)


def shard_sidecar(dimension: int, description: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """The content of NAME.json."""
    sidecar = {"schema_version": SCHEMA_VERSION, "dimension": dimension, "dtype": layout.dtype, **description}
    return sidecar | ({"ragged": True} if layout.ragged else {})


def id_lines(
    keys: Sequence[str],
    checksums: Sequence[int],
    first: Sequence[int],
    blocks: Sequence[NDArray[Any]],
    *,
    ragged: bool,
) -> bytes:
    """Lines of NAME.ids for arrays with these keys, CRC-32 and first rows."""
    lines = [f"{key} {checksum:08x}" for key, checksum in zip(keys, checksums, strict=True)]
    if ragged:
        lines = [f"{line} {row:012x} {len(block):08x}" for line, row, block in zip(lines, first, blocks, strict=False)]
    return "".join(f"{line}\n" for line in lines).encode()


def json_text(data: Any) -> str:
    """JSON as it is stored."""
    return json.dumps(data, indent=2, sort_keys=True, default=str, allow_nan=False)


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically; other processes see the whole file or none."""
    write_together({path: json_text(data)})


def _read(file: int, size: int, offset: int) -> bytes:
    """Read `size` bytes, or fewer at the end of the file."""
    content = os.pread(file, size, offset)
    while len(content) < size and (more := os.pread(file, size - len(content), offset + len(content))):
        content += more  # a system call reads at most 2 GiB
    return content


def _write(file: int, content: bytes | memoryview, offset: int) -> None:
    """Write all of the content. OSError if that is not possible."""
    done = 0
    while done < len(content):
        written = os.pwrite(file, memoryview(content)[done:], offset + done)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done += written
