"""Scoring through an endpoint: requests, replies, the journal and failures."""

import base64
import json
import math
import threading
import time
from contextlib import ExitStack

import pytest

from earmark.audio_text.scorers import ClipTextPair
from earmark.audio_text.scorers.endpoint import EndpointScorer
from earmark.audio_text.scorers.sham import sham_similarity
from earmark.audio_text.scorers.sham_stem import sham_stem
from earmark.errors import MissingError
from earmark.models.http import Client, StoppedError, UnauthorisedError
from earmark.models.journal import Journal
from sham_server import Faults, make_server
from tests.hostile import Reply, hostile_server


def make_pairs(folder, n_clips=3, n_texts=4):
    pairs = []
    for c in range(n_clips):
        clip = folder / f"clip_{c}.mp3"
        clip.write_bytes(bytes([c]) * 100)
        pairs += [ClipTextPair(clip, f"x/{clip.name}", clip.stem, f"sentence {t}") for t in range(n_texts)]
    return pairs


def run_scorer(server, folder, pairs, **options):
    retries = options.pop("retries", 0)
    with Journal(folder / "journal.jsonl") as journal:
        return dict(EndpointScorer(Client(server.url, retries=retries), journal, **options)(pairs))


def by_text(n, body):
    return Reply({"similarity": float(body["text"][-1]) + float(body["audio_filename"][5]) / 10})


def test_request_body(tmp_path):
    with hostile_server(by_text) as server:
        run_scorer(server, tmp_path, make_pairs(tmp_path, 1, 1))
    headers, body = server.requests[0]
    assert body == {
        "text": "sentence 0",
        "audio_filename": "clip_0.mp3",
        "audio_relpath": "x/clip_0.mp3",
        "audio_base64": base64.b64encode(b"\0" * 100).decode(),
    }
    assert headers["Content-Type"] == "application/json"


def test_request_body_without_audio(tmp_path):
    with hostile_server(by_text) as server:
        run_scorer(server, tmp_path, make_pairs(tmp_path, 1, 1), send_audio=False)
    assert server.requests[0][1] == {
        "text": "sentence 0",
        "audio_filename": "clip_0.mp3",
        "audio_relpath": "x/clip_0.mp3",
        "audio_stem": "clip_0",
    }


@pytest.mark.parametrize("key", ["similarity", "score", "logit"])
def test_reply_keys(tmp_path, key):
    with hostile_server(lambda n, body: Reply({key: 2})) as server:
        assert run_scorer(server, tmp_path, make_pairs(tmp_path, 1, 1))[0].similarity == 2.0


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b'{"similarity": NaN}', "not finite"),
        (b'{"similarity": Infinity}', "not finite"),
        (b'{"similarity": 1e999}', "not finite"),
        (b'{"similarity": ' + b"9" * 400 + b"}", "not finite"),
        (b'{"similarity": "0.3"}', "not a number"),
        (b'{"similarity": true}', "not a number"),
        (b'{"similarity": null}', "has none of similarity, score, logit"),
        (b'{"cosine": 0.3}', "has none of similarity, score, logit"),
        (b"[0.3]", "has none of similarity, score, logit"),
        (b'{"similarity": 0.3', "not JSON"),
    ],
)
def test_invalid_reply_is_error_of_its_pair(tmp_path, reply, message):
    with hostile_server(lambda n, body: Reply(reply) if body["text"].endswith("1") else by_text(n, body)) as server:
        scores = run_scorer(server, tmp_path, make_pairs(tmp_path))
    assert sorted(i for i, score in scores.items() if score.error) == [1, 5, 9]
    assert all(message in scores[i].error and scores[i].similarity is None for i in (1, 5, 9))


@pytest.mark.parametrize("concurrency", [1, 3, 32])
def test_scores_do_not_depend_on_concurrency(tmp_path, concurrency):
    def slow_at_first(n, body):
        time.sleep(0.05 if n < 3 else 0)
        return by_text(n, body)

    pairs = make_pairs(tmp_path)[::-1]
    with hostile_server(slow_at_first) as server:
        scores = run_scorer(server, tmp_path, pairs, concurrency=concurrency)
    assert [scores[i].similarity for i in range(12)] == [
        float(pair.text[-1]) + float(pair.clip.name[5]) / 10 for pair in pairs
    ]


def test_clip_is_read_once(tmp_path, monkeypatch):
    reads = []
    pairs = make_pairs(tmp_path, 3, 20)
    path_type = type(pairs[0].clip)
    original = path_type.read_bytes
    monkeypatch.setattr(path_type, "read_bytes", lambda self: reads.append(self.name) or original(self))
    with hostile_server(by_text) as server:
        run_scorer(server, tmp_path, pairs, concurrency=8)
    assert sorted(reads) == ["clip_0.mp3", "clip_1.mp3", "clip_2.mp3"]


def test_duplicate_pair_is_requested_once(tmp_path):
    pairs = make_pairs(tmp_path, 1, 2) * 3
    with hostile_server(by_text) as server:
        scores = run_scorer(server, tmp_path, pairs)
        assert len(server.requests) == 2
    assert [scores[i].similarity for i in range(6)] == [0.0, 1.0] * 3


def test_second_run_requests_failed_pairs_only(tmp_path):
    pairs = make_pairs(tmp_path)
    with hostile_server(lambda n, body: Reply({}, 404) if body["text"].endswith("2") else by_text(n, body)) as server:
        run_scorer(server, tmp_path, pairs)
    with hostile_server(by_text) as server:
        scores = run_scorer(server, tmp_path, pairs)
    # Another port is another endpoint, so stored replies do not apply.
    assert len(server.requests) == 12
    with hostile_server(by_text, int(server.url.split(":")[2].split("/")[0])) as again:
        repeated = run_scorer(again, tmp_path, pairs)
        assert len(again.requests) == 1  # the first pair, to check that the model is the same
    assert repeated == scores


def port_of(server):
    return int(server.url.split(":")[2].split("/")[0])


@pytest.mark.parametrize(("by", "accepted"), [(0.0, True), (9e-7, True), (1.1e-6, False), (0.5, False)])
@pytest.mark.parametrize("send_audio", [True, False])
def test_changed_model_is_detected(tmp_path, by, accepted, send_audio):
    pairs = make_pairs(tmp_path)
    with hostile_server(by_text) as server:
        run_scorer(server, tmp_path, pairs[:6], send_audio=send_audio)
    before = (tmp_path / "journal.jsonl").read_bytes()

    def changed(n, body):
        return Reply({"similarity": by_text(n, body).body["similarity"] + by})

    with hostile_server(changed, port_of(server)) as server:
        if accepted:
            assert len(run_scorer(server, tmp_path, pairs, send_audio=send_audio)) == 12
            assert len(server.requests) == 7
            return
        with pytest.raises(
            MissingError, match=r"its 6 results are from a different model than the one at .*Use --restart"
        ):
            run_scorer(server, tmp_path, pairs, send_audio=send_audio)
        assert len(server.requests) == 1
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_changed_model_has_relative_tolerance(tmp_path):
    pairs = make_pairs(tmp_path, 1, 2)
    with hostile_server(lambda n, body: Reply({"logit": 12345.678})) as server:
        run_scorer(server, tmp_path, pairs)
    with hostile_server(lambda n, body: Reply({"logit": 12345.679}), port_of(server)) as server:
        assert [score.similarity for score in run_scorer(server, tmp_path, pairs).values()] == [12345.678] * 2


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (
            Reply({"error": "unknown clip"}, 422),
            MissingError,
            "different model.*an error .HTTP 422: .*unknown clip",
        ),
        (Reply({"other": 1}), MissingError, "different model.*has none of similarity"),
        (Reply({"error": "busy"}, 503), StoppedError, "/v1/similarity: no valid reply: HTTP 503"),
        (Reply({}, 401), UnauthorisedError, "EARMARK_API_KEY"),
    ],
)
def test_known_pair_without_reply_stops_the_run(tmp_path, reply, error, message):
    with hostile_server(by_text) as server:
        run_scorer(server, tmp_path, make_pairs(tmp_path))
    with hostile_server(lambda n, body: reply, port_of(server)) as server, pytest.raises(error, match=message):
        run_scorer(server, tmp_path, make_pairs(tmp_path))


def test_invalid_journal_values_are_ignored(tmp_path):
    pairs = make_pairs(tmp_path)
    with hostile_server(by_text) as server:
        first = run_scorer(server, tmp_path, pairs)
        path = tmp_path / "journal.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        invalid = ["0.5", None, [1], math.nan, math.inf, True, {}]
        values = [{**line, "value": invalid[i % len(invalid)]} for i, line in enumerate(lines)]
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
        assert run_scorer(server, tmp_path, pairs) == first
        assert len(server.requests) == 24


def test_invalid_paths_and_text_are_errors_of_their_pairs(tmp_path):
    pairs = make_pairs(tmp_path, 1, 2)
    unreadable = [tmp_path / "a\0b.mp3", tmp_path / ("x" * 300 + ".mp3"), tmp_path / "caf\udce9.mp3"]
    pairs += [ClipTextPair(clip, f"x/{clip.name}", clip.stem, "sentence 0") for clip in unreadable]
    pairs.append(ClipTextPair(pairs[0].clip, pairs[0].relative_path, pairs[0].stem, "half \ud800"))
    with hostile_server(lambda n, body: Reply({"similarity": 1})) as server:
        for _ in range(2):  # the second run has a journal
            scores = run_scorer(server, tmp_path, pairs)
            assert [bool(scores[i].error) for i in range(6)] == [False, False, True, True, True, False]
    assert all(scores[i].error.isprintable() and str(tmp_path) not in scores[i].error for i in range(6))


def test_changed_audio_is_requested_again(tmp_path):
    pairs = make_pairs(tmp_path, 1, 2)
    with hostile_server(by_text) as server:
        run_scorer(server, tmp_path, pairs)
        pairs[0].clip.write_bytes(b"something else")
        run_scorer(server, tmp_path, pairs)
        assert len(server.requests) == 4


def test_missing_clip_is_error_of_its_pairs(tmp_path):
    pairs = make_pairs(tmp_path)
    pairs[4].clip.unlink()
    with hostile_server(by_text) as server:
        scores = run_scorer(server, tmp_path, pairs)
    assert [bool(scores[i].error) for i in range(12)] == [4 <= i < 8 for i in range(12)]


def test_consecutive_failures_stop_the_run(tmp_path):
    pairs = make_pairs(tmp_path, 10, 10)
    with hostile_server(lambda n, body: by_text(n, body) if n < 30 else Reply({"error": "gone"}, 404)) as server:
        with pytest.raises(StoppedError, match=r"5 consecutive requests failed\. Last error: HTTP 404: .*gone"):
            run_scorer(server, tmp_path, pairs, concurrency=2, max_consecutive_failures=5)
        assert len(server.requests) < 45
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert len(journal) == 30


def test_single_failures_do_not_stop_the_run(tmp_path):
    with hostile_server(lambda n, body: Reply({}, 404) if n % 2 else by_text(n, body)) as server:
        scores = run_scorer(server, tmp_path, make_pairs(tmp_path, 10, 10), concurrency=1, max_consecutive_failures=2)
    assert sum(bool(score.error) for score in scores.values()) == 50


def test_missing_token_stops_the_run(tmp_path):
    with hostile_server(lambda n, body: Reply({"error": "token?"}, 401)) as server:
        with pytest.raises(UnauthorisedError, match="EARMARK_API_KEY"):
            run_scorer(server, tmp_path, make_pairs(tmp_path, 10, 10), concurrency=2)
        assert len(server.requests) <= 4


def test_closing_early_ends_threads(tmp_path):
    with hostile_server(lambda n, body: Reply({}, 503, {"Retry-After": "20"}) if n else by_text(n, body)) as server:
        with Journal(tmp_path / "journal.jsonl") as journal:
            scores = EndpointScorer(Client(server.url), journal, 4)(make_pairs(tmp_path))
            next(scores)
            started = time.monotonic()
            scores.close()
        assert time.monotonic() - started < 5
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor") and t.is_alive()]


@pytest.mark.slow
def test_server_restart_during_run(tmp_path):
    pairs = make_pairs(tmp_path, 5, 20)

    def slow(n, body):
        time.sleep(0.02)
        return by_text(n, body)

    with hostile_server(slow) as first:
        url, port = first.url, int(first.url.split(":")[2].split("/")[0])
        with Journal(tmp_path / "journal.jsonl") as journal:
            scores = EndpointScorer(Client(url), journal, 2)(pairs)
            received = dict(next(scores) for _ in range(20))
            first.stop()
            back = threading.Timer(2, lambda: stack.enter_context(hostile_server(by_text, port)))
            with ExitStack() as stack:
                back.start()
                received |= dict(scores)
                back.join()
    assert [received[i].similarity for i in range(100)] == [
        float(pair.text.split()[1]) % 10 + int(pair.clip.name[5]) / 10 for pair in pairs
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_flaky_sham_server_gives_sham_similarities(tmp_path, seed):
    faults = Faults(error_rate=0.2, status=(429, 500, 503), retry_after=0, drop_rate=0.1, latency_ms=(5, 5), seed=seed)
    pairs = make_pairs(tmp_path, 5, 6)
    with make_server("127.0.0.1", 0, faults) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with Journal(tmp_path / "journal.jsonl") as journal:
            client = Client(server.url, retries=8)
            scores = dict(EndpointScorer(client, journal, 8)(pairs))
        server.shutdown()
        thread.join()
    expected = [sham_similarity(sham_stem(pair.relative_path), pair.text) for pair in pairs]
    assert [scores[i].similarity for i in range(30)] == expected
    assert client.traffic.retries > 0


def test_garbage_replies_are_errors_of_single_pairs(tmp_path):
    pairs = make_pairs(tmp_path, 5, 10)
    with make_server("127.0.0.1", 0, Faults(garbage_rate=0.3)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        scores = run_scorer(server, tmp_path, pairs)
        server.shutdown()
        thread.join()
    failed = [score for score in scores.values() if score.error]
    assert 5 < len(failed) < 30
    assert {score.similarity for score in failed} == {None}
