"""SHA-256 hashes of clips, cached until the file changes."""

import os
import sqlite3
import time
from hashlib import sha256
from pathlib import Path
from threading import Lock

from earmark.audio.clips import Clip, TarMember, file_stamp
from earmark.audio.decode import decoding_variant
from earmark.files.hashing import file_hash
from earmark.files.remote import RemotePath

# Hashes of files changed more recently are not cached: a further change could leave the time stamp as it is.
MIN_AGE_SECONDS = 2.0
ROWS_PER_WRITE = 512
# Decoding variants have their own table, so that databases of earlier releases, which have hashes only, stay valid.
VARIANTS_TABLE = "variants (path BLOB PRIMARY KEY, stamp TEXT, variant TEXT)"
LOOK_UP_QUERY = "SELECT stamp, hash, variant FROM contents LEFT JOIN variants USING (path, stamp) WHERE path = ?"


class ContentHashes:
    """Content hashes of clips, cached in an SQLite database that threads and processes share.

    A cached hash is valid while the `file_stamp` of its file is unchanged. If the database cannot be used, every file
    is read.

    Parameters
    ----------
    path : Path
        The database; it is created with its parent folders.
    """

    _rows_per_write = ROWS_PER_WRITE

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._pending: dict[bytes, tuple[str, bytes, str | None]] = {}  # {key of path: (stamp, hash, variant)}
        self._database: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=10, check_same_thread=False)
            for columns in ("contents (path BLOB PRIMARY KEY, stamp TEXT, hash BLOB)", VARIANTS_TABLE):
                self._database.execute(f"CREATE TABLE IF NOT EXISTS {columns} WITHOUT ROWID")
        except (sqlite3.Error, OSError):
            self._disconnect()

    def content_hash(self, clip: Clip) -> str:
        """SHA-256 of the bytes of a clip, in hexadecimal.

        A file and its copy inside a tar file have the same hash. If plain libsndfile does not decode the clip, the
        hash also covers the name of the `decoding_variant`: embeddings of such clips by earlier releases may be wrong
        and must not be reused.

        Raises
        ------
        OSError
            If the file cannot be read.
        AudioError
            If a tar file ends before its member.
        """
        path, name = _path_and_key(clip)
        stamp = file_stamp(path)
        with self._lock:
            known = self._pending.get(name) or self._look_up(name)
        if known is None or known[0] != stamp:
            digest = _digest(clip)
            known = (stamp, digest, None)
        elif known[2] is not None:
            return _combined_hash(known[1], known[2])
        digest, variant = known[1], decoding_variant(clip)
        if _is_settled(path) and file_stamp(path) == stamp:
            with self._lock:
                self._pending[name] = (stamp, digest, variant)
                if len(self._pending) >= self._rows_per_write:
                    self._write()
        return _combined_hash(digest, variant)

    def known_hash(self, clip: Clip) -> str | None:
        """The content hash of a clip if it is cached and the file is unchanged; nothing is read from the file.

        Raises
        ------
        OSError
            If the file cannot be examined.
        """
        path, name = _path_and_key(clip)
        with self._lock:
            known = self._pending.get(name) or self._look_up(name)
        if known is None or known[0] != file_stamp(path) or known[2] is None:
            return None
        return _combined_hash(known[1], known[2])

    def flush(self) -> None:
        """Write pending hashes."""
        with self._lock:
            self._write()

    def close(self) -> None:
        """Write pending hashes and close the database."""
        with self._lock:
            self._write()
            self._disconnect()

    def _look_up(self, name: bytes) -> tuple[str, bytes, str | None] | None:
        if self._database is None:
            return None
        try:
            row = self._database.execute(LOOK_UP_QUERY, (name,)).fetchone()
        except sqlite3.Error:
            self._disconnect()
            return None
        return (str(row[0]), bytes(row[1]), row[2]) if row else None

    def _write(self) -> None:
        rows = [(name, stamp, digest) for name, (stamp, digest, _) in self._pending.items()]
        variants = [(name, stamp, variant) for name, (stamp, _, variant) in self._pending.items()]
        self._pending.clear()
        if self._database is None or not rows:
            return
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", rows)
                self._database.executemany("INSERT OR REPLACE INTO variants VALUES (?, ?, ?)", variants)
        except sqlite3.Error:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _path_and_key(clip: Clip) -> tuple[Path, bytes]:
    """The file of a clip, and the key of the clip in the database."""
    path = clip.tar if isinstance(clip, TarMember) else clip
    part = f"\0{clip.offset} {clip.size}" if isinstance(clip, TarMember) else ""
    return path, sha256(os.fsencode(str(path.absolute())) + part.encode()).digest()[:16]


def _digest(clip: Clip) -> bytes:
    if isinstance(clip, TarMember):
        return sha256(clip.read()).digest()
    return sha256(clip.read_clip()).digest() if isinstance(clip, RemotePath) else bytes.fromhex(file_hash(clip))


def _combined_hash(digest: bytes, variant: str) -> str:
    return sha256(digest + variant.encode()).hexdigest() if variant else digest.hex()


def _is_settled(path: Path) -> bool:
    """Whether the last change of a file is old enough that a further change would have another time stamp."""
    status = path.stat()
    return max(status.st_mtime, status.st_ctime) < time.time() - MIN_AGE_SECONDS
