"""Scoring through an embeddings endpoint: batches, checks, and what a journal saves."""

import base64
import io

import numpy as np
import pytest
import soundfile

from earmark.audio_text.scorers import Question
from earmark.audio_text.scorers.embeddings_endpoint import EmbeddingsEndpointScorer
from earmark.models.http import Client, StoppedError
from earmark.models.journal import Journal
from tests.hostile import Reply, hostile_server

DIMENSION = 5


def questions(folder, n_clips=5, n_texts=3, rate=8000):
    made = []
    for c in range(n_clips):
        clip = folder / f"clip_{c}.wav"
        soundfile.write(clip, 0.1 * np.sin(np.arange(rate) * (0.01 + 0.01 * c)), rate)
        made += [Question(clip, f"x/{clip.name}", clip.stem, f"sentence {t}") for t in range(n_texts)]
    return made


def vector_of(text):
    return np.random.default_rng(sum(text.encode())).normal(size=DIMENSION).astype(np.float32)


def encoded(vector, how):
    return vector.tolist() if how == "float" else base64.b64encode(vector.astype("<f4").tobytes()).decode()


def embed(n, body, order=1):
    data = [
        {"index": i, "embedding": encoded(vector_of(text), body["encoding_format"])}
        for i, text in enumerate(body["input"])
    ]
    return Reply({"data": data[::order]})


def scored(server, folder, asked, retries=0, **options):
    with Journal(folder / "journal.jsonl") as journal:
        scorer = EmbeddingsEndpointScorer(Client(server.url, retries=retries, max_reply=1 << 26), journal, **options)
        return dict(scorer(asked))


def expected(asked):
    found = []
    for q in asked:
        uri = "data:audio/x-wav;base64," + base64.b64encode(q.clip.read_bytes()).decode()
        a, b = vector_of(uri).astype(float), vector_of(q.text).astype(float)
        found.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return found


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
@pytest.mark.parametrize("order", [1, -1])
def test_scores_are_cosines_whatever_the_format_and_the_order_of_the_reply(tmp_path, encoding_format, order):
    asked = questions(tmp_path)
    with hostile_server(lambda n, body: embed(n, body, order)) as server:
        answers = scored(server, tmp_path, asked, encoding_format=encoding_format)
    assert [answers[i].similarity for i in range(len(asked))] == pytest.approx(expected(asked), abs=1e-6)


def test_each_clip_and_each_sentence_is_sent_once_in_batches(tmp_path):
    asked = questions(tmp_path, 7, 4)
    with hostile_server(embed) as server:
        scored(server, tmp_path, asked, batch_size=3, model="clap-x")
    bodies = [body for _, body in server.requests]
    assert {body["model"] for body in bodies} == {"clap-x"}
    assert sorted(len(b["input"]) for b in bodies if b["modality"] == "audio") == [1, 3, 3]
    assert sorted(len(b["input"]) for b in bodies if b["modality"] == "text") == [1, 3]
    sent = [text for b in bodies for text in b["input"]]
    assert len(sent) == len(set(sent)) == 11


def test_never_more_than_32_clips_in_a_request(tmp_path):
    asked = questions(tmp_path, 40, 1, rate=100)
    with hostile_server(embed) as server:
        scored(server, tmp_path, asked, batch_size=100)
    assert max(len(body["input"]) for _, body in server.requests) == 32


def test_clips_are_resampled_before_they_are_sent(tmp_path):
    with hostile_server(embed) as server:
        scored(server, tmp_path, questions(tmp_path, 1, 1), sample_rate=16000)
    uri = next(body["input"][0] for _, body in server.requests if body["modality"] == "audio")
    kind, _, content = uri.partition(",")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
    assert kind == "data:audio/wav;base64"
    assert (rate, len(samples)) == (16000, 16000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "indices"),
        (lambda data: [*data, data[0]], "indices"),
        (lambda data: [{**d, "index": 7} for d in data], "indices"),
        (lambda data: [{**d, "index": "one"} for d in data], "indices"),
        (lambda data: [{"index": d["index"]} for d in data], "no list `data`"),
        (lambda data: "nothing", "no list `data`"),
        (lambda data: [{**d, "embedding": ["a"]} for d in data], "no list of numbers"),
        (lambda data: [{**d, "embedding": "%%%"} for d in data], "no list of numbers"),
        (lambda data: [{**d, "embedding": [[1.0, 2.0]]} for d in data], "shape"),
        (lambda data: [{**d, "embedding": [0.0] * DIMENSION} for d in data], "all zeros"),
        (lambda data: [{**d, "embedding": [1e999, 1, 1, 1, 1]} for d in data], "not finite"),
        (lambda data: [{**d, "embedding": [1.0] * 4} for d in data], "4 dimensions where earlier ones have 5"),
    ],
)
def test_what_is_no_good_embedding_is_an_error_of_its_clip(tmp_path, damage, message):
    def behave(n, body):
        reply = embed(n, body | {"encoding_format": "float"})
        return Reply({"data": damage(reply.body["data"])}) if body["modality"] == "audio" else reply

    asked = questions(tmp_path, 2, 2)
    with hostile_server(behave) as server:
        answers = scored(server, tmp_path, asked)
    assert all(message in answer.error and answer.similarity is None for answer in answers.values())


def test_a_batch_that_is_refused_is_halved_until_the_culprit_is_found(tmp_path):
    asked = questions(tmp_path, 8, 1)
    bad = base64.b64encode(asked[5].clip.read_bytes()).decode()

    def behave(n, body):
        return Reply({"error": "cannot decode"}, 422) if any(bad in t for t in body["input"]) else embed(n, body)

    with hostile_server(behave) as server:
        answers = scored(server, tmp_path, asked, batch_size=8)
    assert [i for i in range(8) if answers[i].error] == [5]
    assert "cannot decode" in answers[5].error


def test_a_clip_that_cannot_be_read_is_an_error_of_its_own_rows(tmp_path):
    asked = questions(tmp_path, 3, 2)
    asked[2].clip.write_bytes(b"no audio at all")
    with hostile_server(embed) as server:
        answers = scored(server, tmp_path, asked, sample_rate=16000)
    assert [bool(answers[i].error) for i in range(6)] == [False, False, True, True, False, False]
    assert "clip_1.wav" in answers[2].error


def test_a_second_run_sends_nothing_and_says_the_same(tmp_path):
    asked = questions(tmp_path)
    with hostile_server(embed) as server:
        first = scored(server, tmp_path, asked)
        n = len(server.requests)
        assert scored(server, tmp_path, asked) == first
        assert len(server.requests) == n


def test_a_server_that_is_gone_stops_the_run(tmp_path):
    with (
        hostile_server(lambda n, body: Reply({}, 503)) as server,
        pytest.raises(StoppedError, match="3 requests in a row failed"),
    ):
        scored(server, tmp_path, questions(tmp_path, 5, 9), batch_size=1, max_consecutive_failures=3)
