"""The embedding cache in a remote folder, such as a bucket.

Files on object storage are written whole and cannot be appended to or locked. Each writer therefore collects arrays in
memory and writes them as shards of its own, in the format of `shards`, under names that no other writer uses. NAME.ids
is written last: a shard without it does not exist for readers, so an interrupted writer leaves no invalid arrays. Any
number of machines can fill one folder at the same time. A folder that is copied to disk is a valid local cache, and the
other way round.
"""

import contextlib
import json
import time
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from earmark.embeddings.content_hashes import ContentHashes
from earmark.embeddings.shards import Array, Layout, ShardedArrayStore, id_lines, json_text, shard_sidecar
from earmark.errors import EarmarkError
from earmark.files.remote import RemotePath, read_together

MAX_UNWRITTEN_BYTES = 1 << 25  # of arrays in memory; then a shard is written
MAX_UNWRITTEN_SECONDS = 60.0
BLOCK_BYTES, MAX_BLOCKS = 1 << 21, 64  # of shards, kept in memory
HASHES_PER_FILE = 1 << 14
HASHES = "contents"  # folder of the content hashes
_Hashes = dict[bytes, tuple[str, bytes, str | None]]


def open_store(folder: Path, description: dict[str, Any], layout: Layout) -> ShardedArrayStore:
    """Open the store in a local or remote folder (parameters: see `ShardedArrayStore`)."""
    if isinstance(folder, RemotePath):
        return RemoteArrayStore(folder, description, layout)
    return ShardedArrayStore(folder, description, layout)


def open_hashes(root: Path) -> ContentHashes:
    """Open the content hashes of a local or remote cache."""
    return (
        RemoteContentHashes(root / HASHES) if isinstance(root, RemotePath) else ContentHashes(root / "contents.sqlite")
    )


class RemoteArrayStore(ShardedArrayStore):
    """Arrays by key in a remote folder.

    Arrays of this writer can be read at once; they are written when they take `MAX_UNWRITTEN_BYTES`, when the first of
    them is older than `MAX_UNWRITTEN_SECONDS` and another is added, and on closing.

    Parameters
    ----------
    folder : RemotePath
        Folder of the shards.
    description : dict
        Written to encoder.json and to the sidecar of each new shard.
    layout : Layout

    Raises
    ------
    EarmarkError
        If the folder cannot be listed or written.
    """

    def __init__(self, folder: RemotePath, description: dict[str, Any], layout: Layout) -> None:
        self.folder: RemotePath = folder
        self.layout, self._description = layout, description
        self._shards, self._locations, self._duplicates = [], {}, {}
        self._lock = Lock()
        self._unwritten: dict[bytes, NDArray[Any]] = {}
        self._unwritten_bytes, self._unwritten_since = 0, 0.0
        self._blocks: OrderedDict[tuple[Path, int], bytes] = OrderedDict()  # least recently used first
        names = folder.list_now()
        if "encoder.json" not in names:
            (folder / "encoder.json").put(json_text(description).encode())
        present = set(names)
        stems = [name.removesuffix(".ids") for name in names if name.endswith(".ids")]
        stems = [stem for stem in stems if {f"{stem}.npy", f"{stem}.json"} <= present]
        contents = read_together(folder, [f"{stem}.{suffix}" for stem in stems for suffix in ("json", "ids")])
        for stem in stems:
            self._read_remote_shard(stem, contents)

    def __len__(self) -> int:
        return len(self._locations) + len(self._unwritten)

    @property
    def dimension(self) -> int | None:
        """Dimension of the stored arrays; None while the store is empty."""
        waiting = next(iter(self._unwritten.values()), None)
        return super().dimension if waiting is None else waiting.shape[1]

    def get(self, key: str) -> Array | None:
        """Return the array of a key in float32, (d,) or, in a ragged layout, (rows, d).

        None if there is none or its checksum does not match.
        """
        with self._lock:
            block = self._unwritten.get(bytes.fromhex(key))
        if block is None:
            return super().get(key)
        values = block.astype(np.float32)
        return values if self.layout.ragged else values[0]

    def add(self, keys: Sequence[str], arrays: Sequence[Array] | Array) -> None:
        """Add arrays, and write a shard if enough of them wait.

        Parameters
        ----------
        keys : sequence of str
            SHA-256 in hexadecimal, one per array.
        arrays : sequence of (d,) or (rows, d)

        Raises
        ------
        EarmarkError
            If a shard cannot be written.
        """
        with self._lock:
            if not self._unwritten:
                self._unwritten_since = time.monotonic()
            for key, each in zip(keys, arrays, strict=True):
                block = np.ascontiguousarray(np.atleast_2d(each), dtype=self.layout.dtype)
                self._unwritten[bytes.fromhex(key)] = block
                self._unwritten_bytes += block.nbytes
            age = time.monotonic() - self._unwritten_since
            if self._unwritten_bytes >= MAX_UNWRITTEN_BYTES or age >= MAX_UNWRITTEN_SECONDS:
                self._write_shard()

    def flush(self) -> None:
        """Write what waits; errors as `close`."""
        with self._lock:
            self._write_shard()

    def close(self) -> None:
        """Write what waits.

        Raises
        ------
        EarmarkError
            If it cannot be written.
        """
        with self._lock:
            self._write_shard()
            self._blocks.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After an error, what waits is still written if possible; the error itself is reported.
        with contextlib.suppress(*([EarmarkError, OSError] if kind else [])):
            self.close()

    def _read_remote_shard(self, stem: str, contents: dict[str, bytes]) -> None:
        """Index a shard; skip it if its sidecar is invalid."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            dimension = int(json.loads(contents[f"{stem}.json"])["dimension"])
            self._index_shard(self.folder / f"{stem}.npy", dimension, contents[f"{stem}.ids"])

    def _write_shard(self) -> None:
        waiting, self._unwritten, self._unwritten_bytes = self._unwritten, {}, 0
        if not waiting:
            return
        keys, blocks = [key.hex() for key in waiting], list(waiting.values())
        first = np.cumsum([0, *(len(block) for block in blocks)])
        rows, ragged = np.concatenate(blocks), self.layout.ragged
        dimension, path = rows.shape[1], self.folder / f"{uuid.uuid4().hex}.npy"
        ids = id_lines(keys, [zlib.crc32(block.data) for block in blocks], first.tolist(), blocks, ragged=ragged)
        try:
            path.with_suffix(".json").put(json_text(shard_sidecar(dimension, self._description, self.layout)).encode())
            path.put(self.layout.header(len(rows), dimension) + rows.tobytes())
            path.with_suffix(".ids").put(ids)
        except (EarmarkError, OSError) as error:
            raise EarmarkError(
                f"{error} {len(self):,} embeddings are stored; the last {len(keys):,} could not be written. Run the "
                "same command again to resume."
            ) from None
        self._index_shard(path, dimension, ids)

    def _read(self, number: int, size: int, offset: int) -> bytes:
        """Read from a shard by blocks, which are kept: neighbours are usually wanted next."""
        path, start, end = self._shards[number].path, offset, offset + size
        assert isinstance(path, RemotePath)
        if end - start > BLOCK_BYTES:
            return path.read_stored(start, end)
        parts = []
        for number in range(start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES + 1):
            block = self._blocks.get((path, number))
            if block is None:
                block = path.read_stored(number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES)
                self._blocks[path, number] = block
                while len(self._blocks) > MAX_BLOCKS:
                    self._blocks.popitem(last=False)
            self._blocks.move_to_end((path, number))
            base = number * BLOCK_BYTES
            parts.append(block[max(start - base, 0) : end - base])
        return b"".join(parts)


class RemoteContentHashes(ContentHashes):
    """Content hashes of clips in a remote folder, for all machines that use the cache.

    A remote clip has one URL and entity tag everywhere, so it is read once, by whichever machine comes first. Each
    writer writes files of its own, with one line per clip: SHA-256 of its path, stamp, hash, decoding variant. If they
    cannot be written, later runs read the clips again.

    Parameters
    ----------
    folder : RemotePath
    """

    _rows_per_write = HASHES_PER_FILE
    _read_before: ClassVar[dict[RemotePath, tuple[set[str], _Hashes]]] = {}  # per folder: names of files, their hashes

    def __init__(self, folder: RemotePath) -> None:
        self._lock = Lock()
        self._pending = {}
        self._database = None
        self._folder = folder
        files, self._known = self._read_before.setdefault(folder, (set(), {}))
        names = [name for name in folder.list_now() if name.endswith(".tsv") and name not in files]
        for content in read_together(folder, names).values():
            for line in content.decode(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    name, stamp, digest, variant = line.split("\t")
                    self._known[bytes.fromhex(name)] = (stamp, bytes.fromhex(digest), variant)
        files.update(names)

    def _look_up(self, name: bytes) -> tuple[str, bytes, str | None] | None:
        return self._known.get(name)

    def _write(self) -> None:
        rows, self._pending = self._pending, {}
        if not rows:
            return
        self._known |= rows
        lines = (
            f"{name.hex()}\t{stamp}\t{digest.hex()}\t{variant}\n" for name, (stamp, digest, variant) in rows.items()
        )
        with contextlib.suppress(EarmarkError, OSError):
            (self._folder / f"{uuid.uuid4().hex}.tsv").put("".join(lines).encode())
