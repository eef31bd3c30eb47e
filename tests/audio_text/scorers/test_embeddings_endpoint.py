"""Scoring through an embeddings endpoint: batches, checks and the journal."""

import base64
import io
import json
import re

import numpy as np
import pytest
import soundfile

from earmark.audio_text.scorers import ClipTextPair
from earmark.audio_text.scorers.embeddings_endpoint import EmbeddingsEndpointScorer
from earmark.errors import EarmarkError, MissingError
from earmark.models.http import Client, StoppedError
from earmark.models.journal import Journal
from tests.hostile import Reply, hostile_server

DIMENSION = 5


def make_pairs(folder, n_clips=5, n_texts=3, rate=8000):
    pairs = []
    for c in range(n_clips):
        clip = folder / f"clip_{c}.wav"
        soundfile.write(clip, 0.1 * np.sin(np.arange(rate) * (0.01 + 0.01 * c)), rate)
        pairs += [ClipTextPair(clip, f"x/{clip.name}", clip.stem, f"sentence {t}") for t in range(n_texts)]
    return pairs


def vector_of(text):
    return np.random.default_rng(sum(text.encode())).normal(size=DIMENSION).astype(np.float32)


def embed(n, body, order=1):
    data = [{"index": i, "embedding": vector_of(text).tolist()} for i, text in enumerate(body["input"])]
    return Reply({"data": data[::order]})


def run_scorer(server, folder, pairs, retries=0, **options):
    with Journal(folder / "journal.jsonl") as journal:
        scorer = EmbeddingsEndpointScorer(Client(server.url, retries=retries, max_reply=1 << 26), journal, **options)
        return dict(scorer(pairs))


def expected(pairs):
    similarities = []
    for pair in pairs:
        uri = "data:audio/x-wav;base64," + base64.b64encode(pair.clip.read_bytes()).decode()
        a, b = vector_of(uri).astype(float), vector_of(pair.text).astype(float)
        similarities.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return similarities


@pytest.mark.parametrize("order", [1, -1])
def test_scores_are_cosines_in_any_reply_order(tmp_path, order):
    pairs = make_pairs(tmp_path)
    with hostile_server(lambda n, body: embed(n, body, order)) as server:
        scores = run_scorer(server, tmp_path, pairs)
    assert {body["encoding_format"] for _, body in server.requests} == {"float"}
    assert [scores[i].similarity for i in range(len(pairs))] == pytest.approx(expected(pairs), abs=1e-6)


def test_each_input_is_sent_once_in_batches(tmp_path):
    pairs = make_pairs(tmp_path, 7, 4)
    with hostile_server(embed) as server:
        run_scorer(server, tmp_path, pairs, batch_size=3, model="clap-x")
    bodies = [body for _, body in server.requests]
    assert {body["model"] for body in bodies} == {"clap-x"}
    assert sorted(len(b["input"]) for b in bodies if b["modality"] == "audio") == [1, 3, 3]
    assert sorted(len(b["input"]) for b in bodies if b["modality"] == "text") == [1, 3]
    sent = [text for b in bodies for text in b["input"]]
    assert len(sent) == len(set(sent)) == 11


def test_batch_size_is_at_most_32(tmp_path):
    pairs = make_pairs(tmp_path, 40, 1, rate=100)
    with hostile_server(embed) as server:
        run_scorer(server, tmp_path, pairs, batch_size=100)
    assert max(len(body["input"]) for _, body in server.requests) == 32


def test_sample_rate_resamples_clips(tmp_path):
    with hostile_server(embed) as server:
        run_scorer(server, tmp_path, make_pairs(tmp_path, 1, 1), sample_rate=16000)
    uri = next(body["input"][0] for _, body in server.requests if body["modality"] == "audio")
    kind, _, content = uri.partition(",")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
    assert kind == "data:audio/wav;base64"
    assert (rate, len(samples)) == (16000, 16000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "embeddings for"),
        (lambda data: [*data, data[0]], "embeddings for"),
        (lambda data: [{**d, "index": 7} for d in data], "indices"),
        (lambda data: [{**d, "index": "one"} for d in data], "indices"),
        (lambda data: [{**d, "index": str(d["index"])} for d in data], "indices"),
        (lambda data: [{**d, "index": None} for d in data], "indices"),
        (lambda data: [{**d, "index": float(d["index"])} for d in data], "indices"),
        (lambda data: [{**d, "index": bool(d["index"])} for d in data], "indices"),
        (lambda data: [{**d, "embedding": [str(x) for x in d["embedding"]]} for d in data], "not a list of numbers"),
        (lambda data: [{**d, "embedding": [x > 0 for x in d["embedding"]]} for d in data], "not a list of numbers"),
        (lambda data: [{**d, "embedding": [None, 1, 1, 1, 1]} for d in data], "not a list of numbers"),
        (lambda data: [{**d, "embedding": {"0": 1.0}} for d in data], "not a list of numbers"),
        (lambda data: [{**d, "embedding": 1.0} for d in data], "not a list of numbers"),
        (lambda data: [{**d, "embedding": []} for d in data], "is empty"),
        (lambda data: [{**d, "embedding": [1e39, 1, 1, 1, 1]} for d in data], "not finite"),
        (lambda data: [{**d, "embedding": [10**400, 1, 1, 1, 1]} for d in data], "not finite"),
        (lambda data: [{"index": d["index"]} for d in data], "no list `data`"),
        (lambda data: "nothing", "no list `data`"),
        (lambda data: [{**d, "embedding": ["a"]} for d in data], "not a list of numbers"),
        (lambda data: [{**d, "embedding": "%%%"} for d in data], "is a string; a list of numbers was requested"),
        (lambda data: [{**d, "embedding": [[1.0, 2.0]]} for d in data], "not a list of numbers"),
        (lambda data: [{**d, "embedding": [0.0] * DIMENSION} for d in data], "all zeros"),
        (lambda data: [{**d, "embedding": [1e999, 1, 1, 1, 1]} for d in data], "not finite"),
        (lambda data: [{**d, "embedding": [1.0] * 4} for d in data], "4 dimensions where earlier ones have 5"),
    ],
)
def test_invalid_embedding_is_error_of_its_clip(tmp_path, damage, message):
    def behave(n, body):
        reply = embed(n, body)
        return Reply({"data": damage(reply.body["data"])}) if body["modality"] == "audio" else reply

    pairs = make_pairs(tmp_path, 2, 2)
    with hostile_server(behave) as server:
        scores = run_scorer(server, tmp_path, pairs)
    assert all(message in score.error and score.similarity is None for score in scores.values())


def test_refused_batch_is_split(tmp_path):
    pairs = make_pairs(tmp_path, 8, 1)
    bad = base64.b64encode(pairs[5].clip.read_bytes()).decode()

    def behave(n, body):
        return Reply({"error": "cannot decode"}, 422) if any(bad in t for t in body["input"]) else embed(n, body)

    with hostile_server(behave) as server:
        scores = run_scorer(server, tmp_path, pairs, batch_size=8)
    assert [i for i in range(8) if scores[i].error] == [5]
    assert "cannot decode" in scores[5].error


def test_unreadable_clip_is_error_of_its_pairs(tmp_path):
    pairs = make_pairs(tmp_path, 3, 2)
    pairs[2].clip.write_bytes(b"no audio at all")
    with hostile_server(embed) as server:
        scores = run_scorer(server, tmp_path, pairs, sample_rate=16000)
    assert [bool(scores[i].error) for i in range(6)] == [False, False, True, True, False, False]
    assert "clip_1.wav" in scores[2].error


def test_second_run_uses_journal(tmp_path):
    pairs = make_pairs(tmp_path)
    with hostile_server(embed) as server:
        first = run_scorer(server, tmp_path, pairs)
        n = len(server.requests)
        assert run_scorer(server, tmp_path, pairs) == first
        repeated = [body for _, body in server.requests[n:]]
    assert [(body["modality"], len(body["input"])) for body in repeated] == [("text", 1), ("audio", 1)]


def shifted(modality, by):
    """A server whose embeddings of one modality are shifted by a fraction `by` of their length."""

    def behave(n, body):
        reply = embed(n, body)
        for d in reply.body["data"] if body["modality"] == modality else ():
            d["embedding"][0] += by * float(np.linalg.norm(d["embedding"]))
        return reply

    return behave


@pytest.mark.parametrize("modality", ["text", "audio"])
@pytest.mark.parametrize(("by", "accepted"), [(1e-8, True), (1e-4, False), (1.0, False)])
def test_changed_model_is_detected(tmp_path, modality, by, accepted):
    with hostile_server(embed) as server:
        run_scorer(server, tmp_path, make_pairs(tmp_path, 3, 2))
        before = (tmp_path / "journal.jsonl").read_bytes()
        port = int(server.url.split(":")[2].split("/")[0])
    with hostile_server(shifted(modality, by), port) as server:
        if accepted:
            run_scorer(server, tmp_path, make_pairs(tmp_path, 4, 2))
            return
        with pytest.raises(
            MissingError,
            match=r"journal\.jsonl: its 5 results are from a different model than the one at http://127.*--restart",
        ):
            run_scorer(server, tmp_path, make_pairs(tmp_path, 4, 2))
        assert len(server.requests) == 2
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_changed_model_is_detected_if_both_encoders_rotate(tmp_path):
    """All scores stay the same, but stored sentences do not match new clips."""
    pairs = make_pairs(tmp_path, 3, 2)
    with hostile_server(embed) as server:
        run_scorer(server, tmp_path, pairs)
        port = int(server.url.split(":")[2].split("/")[0])

    def turned(n, body):
        reply = embed(n, body)
        for d in reply.body["data"]:
            d["embedding"] = d["embedding"][1:] + d["embedding"][:1]
        return reply

    with hostile_server(turned, port) as server, pytest.raises(MissingError, match="different model"):
        run_scorer(server, tmp_path, pairs)


def test_changed_model_is_detected_by_error(tmp_path):
    pairs = make_pairs(tmp_path, 3, 2)
    with hostile_server(embed) as server:
        run_scorer(server, tmp_path, pairs)
        port = int(server.url.split(":")[2].split("/")[0])
    with (
        hostile_server(lambda n, body: Reply({"error": "no text"}, 422), port) as server,
        pytest.raises(MissingError, match=r"different model.*it returns an error \(HTTP 422: .*no text"),
    ):
        run_scorer(server, tmp_path, pairs)
    with (
        hostile_server(lambda n, body: Reply({"error": "busy"}, 503), port) as server,
        pytest.raises(StoppedError, match=r"/v1/similarity: no valid reply: HTTP 503"),
    ):
        run_scorer(server, tmp_path, pairs)


def test_invalid_journal_values_are_ignored(tmp_path):
    pairs = make_pairs(tmp_path)
    with hostile_server(embed) as server:
        first = run_scorer(server, tmp_path, pairs)
        path = tmp_path / "journal.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        invalid = [0.5, "AAA", None, [1], "AAAAAA==", "AAAAAAAA", {}, "\u00e9"]
        values = [{**line, "value": invalid[i % len(invalid)]} for i, line in enumerate(lines)]
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
        assert run_scorer(server, tmp_path, pairs) == first


def constant(modality, spread=0.0):
    def behave(n, body):
        reply = embed(n, body)
        for d, text in zip(reply.body["data"], body["input"], strict=True):
            if body["modality"] == modality:
                d["embedding"] = (np.eye(DIMENSION)[0] + spread * vector_of(text)).tolist()
        return reply

    return behave


@pytest.mark.parametrize(("modality", "inputs"), [("text", "3 different sentences"), ("audio", "5 different clips")])
@pytest.mark.parametrize("spread", [0.0, 1e-8])
def test_identical_embeddings_are_an_error(tmp_path, modality, inputs, spread):
    with (
        hostile_server(constant(modality, spread)) as server,
        pytest.raises(EarmarkError, match=rf"/v1/similarity: the embeddings of all {inputs} are identical\. Check"),
    ):
        run_scorer(server, tmp_path, make_pairs(tmp_path))


def test_identical_files_may_have_identical_embeddings(tmp_path):
    pairs = make_pairs(tmp_path, 3, 2)
    for pair in pairs:
        pair.clip.write_bytes(pairs[0].clip.read_bytes())
    with hostile_server(embed) as server:
        assert not any(score.error for score in run_scorer(server, tmp_path, pairs).values())
    with hostile_server(constant("text")) as server:  # a single sentence cannot be compared
        assert not any(score.error for score in run_scorer(server, tmp_path, make_pairs(tmp_path, 2, 1)).values())


@pytest.mark.parametrize(("spread", "warned"), [(1e-3, True), (0.5, False)])
def test_nearly_identical_text_embeddings_are_a_warning(tmp_path, spread, warned):
    warnings = []
    with hostile_server(constant("text", spread)) as server:
        scores = run_scorer(server, tmp_path, make_pairs(tmp_path), warnings=warnings)
    assert not any(score.error for score in scores.values())
    assert bool(warnings) == warned
    if warned:
        assert re.search(
            r"embeddings of all 3 sentences are nearly identical \(within 0\.00\d+ of the first\)", warnings[0]
        )
        scores = np.array([scores[i].similarity for i in range(len(scores))]).reshape(-1, 3)
        assert np.ptp(scores, axis=1).max() < 0.01


def wide(width):
    def behave(n, body):
        """A server that always sends base64."""
        return Reply(
            {
                "data": [
                    {"index": i, "embedding": base64.b64encode(vector_of(text).astype(width).tobytes()).decode()}
                    for i, text in enumerate(body["input"])
                ]
            }
        )

    return behave


@pytest.mark.parametrize("width", ["<f2", "<f4", "<f8", ">f4"])
def test_base64_embeddings_are_rejected(tmp_path, width):
    with hostile_server(wide(width)) as server:
        scores = run_scorer(server, tmp_path, make_pairs(tmp_path, 2, 2))
    assert {score.similarity for score in scores.values()} == {None}


def test_invalid_paths_and_text_are_errors_of_their_pairs(tmp_path):
    pairs = make_pairs(tmp_path, 1, 2)
    unreadable = [tmp_path / "a\0b.wav", tmp_path / ("x" * 300 + ".wav"), tmp_path / "caf\udce9.wav"]
    pairs += [ClipTextPair(clip, f"x/{clip.name}", clip.stem, "sentence 0") for clip in unreadable]
    pairs.append(ClipTextPair(pairs[0].clip, pairs[0].relative_path, pairs[0].stem, "half \ud800"))
    for rate in (None, 16_000):
        with hostile_server(embed_anything) as server:
            scores = run_scorer(server, tmp_path, pairs, sample_rate=rate)
        assert [bool(scores[i].error) for i in range(6)] == [False, False, True, True, True, False]
        assert all(scores[i].error.isprintable() and str(tmp_path) not in scores[i].error for i in range(6))


def embed_anything(n, body):
    return embed(n, {**body, "input": [text.encode("utf-8", "replace").decode() for text in body["input"]]})


def test_consecutive_failures_stop_the_run(tmp_path):
    with (
        hostile_server(lambda n, body: Reply({}, 503)) as server,
        pytest.raises(StoppedError, match="3 consecutive requests failed"),
    ):
        run_scorer(server, tmp_path, make_pairs(tmp_path, 5, 9), batch_size=1, max_consecutive_failures=3)
