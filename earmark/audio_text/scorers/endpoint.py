"""Score pairs with a server: one JSON request per pair, many requests in parallel.

Request   {"text", "audio_filename", "audio_relpath", "audio_base64"}; without audio, "audio_stem" replaces the last
Reply     {"similarity": x}, {"score": x} or {"logit": x}, x finite

Replies are stored in a journal, so that an interrupted run can continue. A run that continues first requests one known
pair again: a different reply means that another model is behind the URL, and the run stops rather than mix two models.
"""

import base64
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from earmark.audio_text.scorers import ClipTextPair, Score
from earmark.audio_text.scorers.parallel import in_parallel
from earmark.files.hashing import file_hash
from earmark.files.safe_text import one_line, shown_url
from earmark.models.http import Client, RefusedError, ReplyError, StoppedError, TransientError
from earmark.models.journal import Journal, journal_key

REPLY_KEYS = ("similarity", "score", "logit")


@dataclass(frozen=True)
class EndpointScorer:
    """Score pairs with a server.

    Attributes
    ----------
    client : Client
    journal : Journal
        Stores every similarity.
    concurrency : int
        Number of concurrent requests.
    send_audio : bool
        Whether to send the audio of a clip, or only its name.
    max_consecutive_failures : int
        Number of consecutive failed requests after which the run stops.
    """

    client: Client
    journal: Journal
    concurrency: int = 8
    send_audio: bool = True
    max_consecutive_failures: int = 20

    def __call__(self, pairs: Sequence[ClipTextPair]) -> Iterator[tuple[int, Score]]:
        """Score pairs, clip by clip, so that each clip is read once. Duplicate pairs are requested once.

        Yields
        ------
        tuple of int and Score
            In the order in which replies arrive.

        Raises
        ------
        StoppedError
            If too many consecutive requests fail, or a known pair cannot be requested again.
        UnauthorisedError
            If the server requires another token.
        MissingError
            If the journal holds replies of another model.
        """
        duplicates: dict[tuple[str, str], list[int]] = {}
        for i in sorted(range(len(pairs)), key=lambda i: pairs[i].relative_path):
            duplicates.setdefault((pairs[i].relative_path, pairs[i].text), []).append(i)
        unique = [pairs[indices[0]] for indices in duplicates.values()]
        clips = _ClipCache(unique, self.send_audio)
        self._require_same_model(unique)
        for indices, score in in_parallel(
            zip(duplicates.values(), unique, strict=True),
            lambda pair: self._score(pair, clips),
            self.client,
            self.concurrency,
            self.max_consecutive_failures,
        ):
            yield from ((i, score) for i in indices)

    def _score(self, pair: ClipTextPair, clips: "_ClipCache") -> Score:
        try:
            fields, audio_hash = clips.get(pair)
            key = self._key(pair, audio_hash)
            if (stored := self._stored(key)) is not None:
                return Score(stored)
            similarity = self._request(pair, fields)
        except (TransientError, RefusedError) as error:
            return Score(None, str(error))
        except (OSError, ValueError) as error:  # ValueError: invalid path
            return Score(None, f"{one_line(pair.clip.name)}: cannot be read ({_reason(error)})")
        finally:
            clips.release(pair)
        self.journal.add(key, similarity)
        return Score(similarity)

    def _request(self, pair: ClipTextPair, fields: bytes) -> float:
        text = json.dumps(pair.text).encode()
        similarity: float = self.client.post(b'{"text": ' + text + b", " + fields, parse_similarity)
        return similarity

    def _key(self, pair: ClipTextPair, audio_hash: str) -> str:
        mode = "audio" if self.send_audio else "name"
        return journal_key(audio_hash, pair.relative_path, pair.text, self.client.url, mode)

    def _stored(self, key: str) -> float | None:
        """Similarity in the journal; None if the key is absent or its value is not a similarity."""
        value = self.journal.get(key)
        return value if isinstance(value, float) and math.isfinite(value) else None

    def _require_same_model(self, pairs: Sequence[ClipTextPair]) -> None:
        """Request the first pair of the journal again and compare the similarities."""
        if not len(self.journal):
            return
        for clip, clip_pairs in groupby(pairs, key=lambda pair: pair.clip):
            try:
                audio_hash = file_hash(clip)
            except (OSError, ValueError):
                continue  # reported later as the error of its pairs
            for pair in clip_pairs:
                stored = self._stored(self._key(pair, audio_hash))
                if stored is None:
                    continue
                url, fields = shown_url(self.client.url), _ClipCache([pair], self.send_audio).get(pair)[0]
                try:
                    self.journal.require_same_score(stored, self._request(pair, fields), url)
                except TransientError as error:
                    raise StoppedError(f"{url}: no valid reply: {error}") from None
                except RefusedError as error:
                    self.journal.raise_model_changed(f"an error ({error})", url)
                return


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def parse_similarity(reply: Any) -> float:
    """Extract the similarity from a reply.

    Parameters
    ----------
    reply : object
        The decoded JSON.

    Returns
    -------
    float
        Value of the first of `REPLY_KEYS` in the reply.

    Raises
    ------
    ReplyError
        If the reply has none of the keys or the value is not a finite number.
    """
    value = next((reply[key] for key in REPLY_KEYS if key in reply), None) if isinstance(reply, dict) else None
    if value is None:
        raise ReplyError(f"the reply has none of {', '.join(REPLY_KEYS)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReplyError("the similarity is not a number")
    try:
        similarity = float(value)
    except OverflowError:
        similarity = math.inf
    if not math.isfinite(similarity):
        raise ReplyError("the similarity is not finite")
    return similarity


class _ClipCache:
    """Encoded clips in memory, from their first pair to their last."""

    def __init__(self, pairs: Sequence[ClipTextPair], send_audio: bool) -> None:
        self._remaining = Counter(pair.clip for pair in pairs)
        self._locks = {clip: threading.Lock() for clip in self._remaining}
        self._encoded: dict[Path, tuple[bytes, str]] = {}
        self._send_audio = send_audio

    def get(self, pair: ClipTextPair) -> tuple[bytes, str]:
        """The JSON fields of the clip, including the closing brace, and the sha256 of the file."""
        with self._locks[pair.clip]:
            if pair.clip not in self._encoded:
                self._encoded[pair.clip] = self._encode(pair)
            return self._encoded[pair.clip]

    def _encode(self, pair: ClipTextPair) -> tuple[bytes, str]:
        audio = pair.clip.read_bytes()
        fields: dict[str, Any] = {"audio_filename": pair.clip.name, "audio_relpath": pair.relative_path}
        if self._send_audio:
            fields["audio_base64"] = base64.b64encode(audio).decode("ascii")
        else:
            fields["audio_stem"] = pair.stem
        return json.dumps(fields)[1:].encode(), sha256(audio).hexdigest()

    def release(self, pair: ClipTextPair) -> None:
        """Count a finished pair; drop the clip after its last one."""
        with self._locks[pair.clip]:
            self._remaining[pair.clip] -= 1
            if not self._remaining[pair.clip]:
                self._encoded.pop(pair.clip, None)
