"""The sha256 of clips, remembered for as long as their file is not touched."""

import os
import sqlite3
import time
from hashlib import sha256
from pathlib import Path
from threading import Lock

from earmark.audio.clips import Clip, TarMember, file_stamp
from earmark.audio.decode import decoding_variant
from earmark.files.hashing import file_hash

SETTLED = 2.0  # seconds since a file's last change: until then, another change might leave the same time stamp
WRITTEN_TOGETHER = 512
# How clips are decoded, apart from their hashes: databases of former releases have those alone, and keep them.
VARIANTS = "variants (path BLOB PRIMARY KEY, stamp TEXT, variant TEXT)"
LOOK_UP = "SELECT stamp, hash, variant FROM contents LEFT JOIN variants USING (path, stamp) WHERE path = ?"


class ContentHashes:
    """Hashes of the contents of clips, kept in a small database that threads and processes share.

    A file counts as untouched while its `file_stamp` is the same. The database only saves time: where it cannot be
    used, files are read.
    """

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._new: dict[bytes, tuple[str, bytes, str | None]] = {}
        self._database: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=10, check_same_thread=False)
            for columns in ("contents (path BLOB PRIMARY KEY, stamp TEXT, hash BLOB)", VARIANTS):
                self._database.execute(f"CREATE TABLE IF NOT EXISTS {columns} WITHOUT ROWID")
        except (sqlite3.Error, OSError):
            self._give_up()

    def of(self, clip: Clip) -> str:
        """The sha256 of a clip's bytes, in hexadecimal: the same for a file and for a copy of it inside a tar file.

        Where a clip is not decoded libsndfile's plain way, the hash covers the name of the other way: an embedding made
        of it before there was that way may be wrong, and is not found again.
        Raises OSError where it cannot be read, AudioError where a tar file ends before its member does.
        """
        path = clip.tar if isinstance(clip, TarMember) else clip
        part = f"\0{clip.offset} {clip.size}" if isinstance(clip, TarMember) else ""
        name = sha256(os.fsencode(path.absolute()) + part.encode()).digest()[:16]
        stamp = file_stamp(path)
        with self._lock:
            known = self._new.get(name) or self._known(name)
        if known is None or known[0] != stamp:
            digest = sha256(clip.read()).digest() if isinstance(clip, TarMember) else bytes.fromhex(file_hash(path))
            known = (stamp, digest, None)
        elif known[2] is not None:
            return _key(known[1], known[2])
        digest, variant = known[1], decoding_variant(clip)
        if _settled(path) and file_stamp(path) == stamp:
            with self._lock:
                self._new[name] = (stamp, digest, variant)
                if len(self._new) >= WRITTEN_TOGETHER:
                    self._write()
        return _key(digest, variant)

    def close(self) -> None:
        """Keep what was found for the next time."""
        with self._lock:
            self._write()
            self._give_up()

    def _known(self, name: bytes) -> tuple[str, bytes, str | None] | None:
        if self._database is None:
            return None
        try:
            row = self._database.execute(LOOK_UP, (name,)).fetchone()
        except sqlite3.Error:
            self._give_up()
            return None
        return (str(row[0]), bytes(row[1]), row[2]) if row else None

    def _write(self) -> None:
        rows = [(name, stamp, digest) for name, (stamp, digest, _) in self._new.items()]
        variants = [(name, stamp, variant) for name, (stamp, _, variant) in self._new.items()]
        self._new.clear()
        if self._database is None or not rows:
            return
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", rows)
                self._database.executemany("INSERT OR REPLACE INTO variants VALUES (?, ?, ?)", variants)
        except sqlite3.Error:
            self._give_up()

    def _give_up(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _key(digest: bytes, variant: str) -> str:
    return sha256(digest + variant.encode()).hexdigest() if variant else digest.hex()


def _settled(path: Path) -> bool:
    """Whether a file's last change is so long ago that another would have got another time."""
    found = path.stat()
    return max(found.st_mtime, found.st_ctime) < time.time() - SETTLED
