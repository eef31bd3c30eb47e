"""Content hashes of clips; they cover the decoding variant of clips that plain libsndfile does not decode."""

import sqlite3
from hashlib import sha256
from pathlib import Path

import numpy as np

from earmark.audio.clips import file_stamp
from earmark.embeddings.cache import EmbeddingCache
from earmark.embeddings.content_hashes import ContentHashes
from earmark.models.encoders.logmel import LogMel
from tests.audio.files import encoded, mp3, noise, wav, without_xing_frame


def test_content_hash_covers_decoding_variant(tmp_path: Path):
    files = {"a.mp3": mp3(), "b.wav": wav(bytes(8000)), "c.flac": encoded("FLAC"), "d": b"no audio"}
    other = {"e.mp3": without_xing_frame(mp3()), "f.mp3": mp3() * 2, "g.wav": wav(bytes(8000), rate=1)}
    hashes = ContentHashes(tmp_path / "contents.sqlite")
    for name, content in (files | other).items():
        (tmp_path / name).write_bytes(content)
        assert (hashes.content_hash(tmp_path / name) == sha256(content).hexdigest()) == (name in files)
    hashes.close()


def test_database_of_earlier_release_stays_valid(tmp_path: Path):
    path, database = tmp_path / "clip.mp3", tmp_path / "contents.sqlite"
    path.write_bytes(without_xing_frame(mp3()))
    expected = ContentHashes(tmp_path / "other.sqlite").content_hash(path)
    name = sha256(str(path.absolute()).encode()).digest()[:16]
    with sqlite3.connect(database) as old:
        old.execute("CREATE TABLE contents (path BLOB PRIMARY KEY, stamp TEXT, hash BLOB) WITHOUT ROWID")
        digest = sha256(path.read_bytes()).digest()
        old.execute("INSERT INTO contents VALUES (?, ?, ?)", (name, file_stamp(path), digest))
    for _ in range(2):
        hashes = ContentHashes(database)
        assert hashes.content_hash(path) == expected != digest.hex()
        hashes.close()


def test_only_incompletely_decoded_clip_is_embedded_again(tmp_path: Path, monkeypatch):
    paths = [tmp_path / "whole.wav", tmp_path / "joined.mp3"]
    paths[0].write_bytes(wav((noise(16_000) * 3000).astype("<i2").tobytes()))
    paths[1].write_bytes(mp3(noise(16_000, 1)) + mp3(noise(16_000, 2)))
    cache = EmbeddingCache(tmp_path / "store")
    with monkeypatch.context() as before:  # as in releases without decoding variants
        before.setattr("earmark.embeddings.content_hashes.decoding_variant", lambda clip: "")
        old = LogMel()
        assert all(embedding.vector is not None for _, embedding in cache.embed(old, paths))

    class Counting(LogMel):
        embedded = 0

        def embed_prepared(self, prepared):
            self.embedded += len(prepared)
            return super().embed_prepared(prepared)

    encoder = Counting()
    assert encoder.identity == old.identity
    vectors = {path.name: embedding.vector for path, embedding in cache.embed(encoder, paths)}
    assert encoder.embedded == 1 and set(vectors) == {"whole.wav", "joined.mp3"}
    assert all(np.isfinite(vector).all() for vector in vectors.values())
