"""Scoring through an endpoint: what is asked, in which order answers count, and what survives."""

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


def questions(folder, n_clips=3, n_texts=4):
    made = []
    for c in range(n_clips):
        clip = folder / f"clip_{c}.mp3"
        clip.write_bytes(bytes([c]) * 100)
        made += [ClipTextPair(clip, f"x/{clip.name}", clip.stem, f"sentence {t}") for t in range(n_texts)]
    return made


def scored(server, folder, asked, **options):
    retries = options.pop("retries", 0)
    with Journal(folder / "journal.jsonl") as journal:
        return dict(EndpointScorer(Client(server.url, retries=retries), journal, **options)(asked))


def by_text(n, body):
    return Reply({"similarity": float(body["text"][-1]) + float(body["audio_filename"][5]) / 10})


def test_the_request_is_the_contract(tmp_path):
    with hostile_server(by_text) as server:
        scored(server, tmp_path, questions(tmp_path, 1, 1))
    headers, body = server.requests[0]
    assert body == {
        "text": "sentence 0",
        "audio_filename": "clip_0.mp3",
        "audio_relpath": "x/clip_0.mp3",
        "audio_base64": base64.b64encode(b"\0" * 100).decode(),
    }
    assert headers["Content-Type"] == "application/json"


def test_without_audio_the_stem_goes_along(tmp_path):
    with hostile_server(by_text) as server:
        scored(server, tmp_path, questions(tmp_path, 1, 1), send_audio=False)
    assert server.requests[0][1] == {
        "text": "sentence 0",
        "audio_filename": "clip_0.mp3",
        "audio_relpath": "x/clip_0.mp3",
        "audio_stem": "clip_0",
    }


@pytest.mark.parametrize("key", ["similarity", "score", "logit"])
def test_each_name_of_the_number_is_read(tmp_path, key):
    with hostile_server(lambda n, body: Reply({key: 2})) as server:
        assert scored(server, tmp_path, questions(tmp_path, 1, 1))[0].similarity == 2.0


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b'{"similarity": NaN}', "not finite"),
        (b'{"similarity": Infinity}', "not finite"),
        (b'{"similarity": 1e999}', "not finite"),
        (b'{"similarity": ' + b"9" * 400 + b"}", "not finite"),
        (b'{"similarity": "0.3"}', "no number"),
        (b'{"similarity": true}', "no number"),
        (b'{"similarity": null}', "has none of similarity, score, logit"),
        (b'{"cosine": 0.3}', "has none of similarity, score, logit"),
        (b"[0.3]", "has none of similarity, score, logit"),
        (b'{"similarity": 0.3', "not JSON"),
    ],
)
def test_what_is_no_finite_number_is_an_error_of_its_row(tmp_path, reply, message):
    with hostile_server(lambda n, body: Reply(reply) if body["text"].endswith("1") else by_text(n, body)) as server:
        answers = scored(server, tmp_path, questions(tmp_path))
    assert sorted(i for i, answer in answers.items() if answer.error) == [1, 5, 9]
    assert all(message in answers[i].error and answers[i].similarity is None for i in (1, 5, 9))


@pytest.mark.parametrize("concurrency", [1, 3, 32])
def test_answers_do_not_depend_on_concurrency_or_on_the_order_of_replies(tmp_path, concurrency):
    def slow_at_first(n, body):
        time.sleep(0.05 if n < 3 else 0)
        return by_text(n, body)

    asked = questions(tmp_path)[::-1]
    with hostile_server(slow_at_first) as server:
        answers = scored(server, tmp_path, asked, concurrency=concurrency)
    assert [answers[i].similarity for i in range(12)] == [float(q.text[-1]) + float(q.clip.name[5]) / 10 for q in asked]


def test_a_clip_is_read_once_however_many_sentences_ask_about_it(tmp_path, monkeypatch):
    reads = []
    asked = questions(tmp_path, 3, 20)
    path_type = type(asked[0].clip)
    original = path_type.read_bytes
    monkeypatch.setattr(path_type, "read_bytes", lambda self: reads.append(self.name) or original(self))
    with hostile_server(by_text) as server:
        scored(server, tmp_path, asked, concurrency=8)
    assert sorted(reads) == ["clip_0.mp3", "clip_1.mp3", "clip_2.mp3"]


def test_the_same_pair_is_asked_once(tmp_path):
    asked = questions(tmp_path, 1, 2) * 3
    with hostile_server(by_text) as server:
        answers = scored(server, tmp_path, asked)
        assert len(server.requests) == 2
    assert [answers[i].similarity for i in range(6)] == [0.0, 1.0] * 3


def test_finished_pairs_are_not_asked_again_and_failed_ones_are(tmp_path):
    asked = questions(tmp_path)
    with hostile_server(lambda n, body: Reply({}, 404) if body["text"].endswith("2") else by_text(n, body)) as server:
        scored(server, tmp_path, asked)
    with hostile_server(by_text) as server:
        answers = scored(server, tmp_path, asked)
    # Another port is another endpoint: nothing of the first server's answers counts.
    assert len(server.requests) == 12
    with hostile_server(by_text, int(server.url.split(":")[2].split("/")[0])) as again:
        repeated = scored(again, tmp_path, asked)
        assert len(again.requests) == 1  # the first question, to see that the model is still the same
    assert repeated == answers


def port_of(server):
    return int(server.url.split(":")[2].split("/")[0])


@pytest.mark.parametrize(("by", "same"), [(0.0, True), (9e-7, True), (1.1e-6, False), (0.5, False)])
@pytest.mark.parametrize("send_audio", [True, False])
def test_answers_of_two_models_are_not_mixed(tmp_path, by, same, send_audio):
    asked = questions(tmp_path)
    with hostile_server(by_text) as server:
        scored(server, tmp_path, asked[:6], send_audio=send_audio)
    before = (tmp_path / "journal.jsonl").read_bytes()

    def another(n, body):
        return Reply({"similarity": by_text(n, body).body["similarity"] + by})

    with hostile_server(another, port_of(server)) as server:
        if same:
            assert len(scored(server, tmp_path, asked, send_audio=send_audio)) == 12
            assert len(server.requests) == 7
            return
        with pytest.raises(
            MissingError, match=r"its 6 results are from a different model than the one at .*Use --restart"
        ):
            scored(server, tmp_path, asked, send_audio=send_audio)
        assert len(server.requests) == 1
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_large_logits_may_differ_in_their_seventh_digit(tmp_path):
    asked = questions(tmp_path, 1, 2)
    with hostile_server(lambda n, body: Reply({"logit": 12345.678})) as server:
        scored(server, tmp_path, asked)
    with hostile_server(lambda n, body: Reply({"logit": 12345.679}), port_of(server)) as server:
        assert [answer.similarity for answer in scored(server, tmp_path, asked).values()] == [12345.678] * 2


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (
            Reply({"error": "unknown clip"}, 422),
            MissingError,
            "different model.*with an error .HTTP 422: .*unknown clip",
        ),
        (Reply({"other": 1}), MissingError, "different model.*has none of similarity"),
        (Reply({"error": "busy"}, 503), StoppedError, "/v1/similarity: gives no answer: HTTP 503"),
        (Reply({}, 401), UnauthorisedError, "EARMARK_API_KEY"),
    ],
)
def test_a_known_question_without_answer_ends_the_run(tmp_path, reply, error, message):
    with hostile_server(by_text) as server:
        scored(server, tmp_path, questions(tmp_path))
    with hostile_server(lambda n, body: reply, port_of(server)) as server, pytest.raises(error, match=message):
        scored(server, tmp_path, questions(tmp_path))


def test_a_journal_of_something_else_is_neither_believed_nor_a_reason_to_stop(tmp_path):
    asked = questions(tmp_path)
    with hostile_server(by_text) as server:
        first = scored(server, tmp_path, asked)
        path = tmp_path / "journal.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        others = ["0.5", None, [1], math.nan, math.inf, True, {}]
        values = [{**line, "value": others[i % len(others)]} for i, line in enumerate(lines)]
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
        assert scored(server, tmp_path, asked) == first
        assert len(server.requests) == 24


def test_paths_and_sentences_that_no_file_or_utf8_can_hold_are_errors_of_their_rows(tmp_path):
    asked = questions(tmp_path, 1, 2)
    strange = [tmp_path / "a\0b.mp3", tmp_path / ("x" * 300 + ".mp3"), tmp_path / "caf\udce9.mp3"]
    asked += [ClipTextPair(clip, f"x/{clip.name}", clip.stem, "sentence 0") for clip in strange]
    asked.append(ClipTextPair(asked[0].clip, asked[0].relative_path, asked[0].stem, "half \ud800"))
    with hostile_server(lambda n, body: Reply({"similarity": 1})) as server:
        for _ in range(2):  # the second time with a journal
            answers = scored(server, tmp_path, asked)
            assert [bool(answers[i].error) for i in range(6)] == [False, False, True, True, True, False]
    assert all(answers[i].error.isprintable() and str(tmp_path) not in answers[i].error for i in range(6))


def test_changed_audio_is_asked_again(tmp_path):
    asked = questions(tmp_path, 1, 2)
    with hostile_server(by_text) as server:
        scored(server, tmp_path, asked)
        asked[0].clip.write_bytes(b"something else")
        scored(server, tmp_path, asked)
        assert len(server.requests) == 4


def test_a_clip_that_vanished_is_an_error_of_its_rows(tmp_path):
    asked = questions(tmp_path)
    asked[4].clip.unlink()
    with hostile_server(by_text) as server:
        answers = scored(server, tmp_path, asked)
    assert [bool(answers[i].error) for i in range(12)] == [4 <= i < 8 for i in range(12)]


def test_after_so_many_failures_in_a_row_the_run_stops_and_keeps_what_it_has(tmp_path):
    asked = questions(tmp_path, 10, 10)
    with hostile_server(lambda n, body: by_text(n, body) if n < 30 else Reply({"error": "gone"}, 404)) as server:
        with pytest.raises(StoppedError, match=r"5 requests in a row failed; the last one: HTTP 404: .*gone"):
            scored(server, tmp_path, asked, concurrency=2, max_consecutive_failures=5)
        assert len(server.requests) < 45
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert len(journal) == 30


def test_single_failures_do_not_stop_a_run(tmp_path):
    with hostile_server(lambda n, body: Reply({}, 404) if n % 2 else by_text(n, body)) as server:
        answers = scored(server, tmp_path, questions(tmp_path, 10, 10), concurrency=1, max_consecutive_failures=2)
    assert sum(bool(answer.error) for answer in answers.values()) == 50


def test_a_missing_token_stops_at_once(tmp_path):
    with hostile_server(lambda n, body: Reply({"error": "token?"}, 401)) as server:
        with pytest.raises(UnauthorisedError, match="EARMARK_API_KEY"):
            scored(server, tmp_path, questions(tmp_path, 10, 10), concurrency=2)
        assert len(server.requests) <= 4


def test_stopping_early_leaves_no_thread_waiting(tmp_path):
    with hostile_server(lambda n, body: Reply({}, 503, {"Retry-After": "20"}) if n else by_text(n, body)) as server:
        with Journal(tmp_path / "journal.jsonl") as journal:
            answers = EndpointScorer(Client(server.url), journal, 4)(questions(tmp_path))
            next(answers)
            started = time.monotonic()
            answers.close()
        assert time.monotonic() - started < 5
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor") and t.is_alive()]


@pytest.mark.slow
def test_a_server_that_goes_away_in_the_middle_and_comes_back_costs_nothing(tmp_path):
    asked = questions(tmp_path, 5, 20)

    def slow(n, body):
        time.sleep(0.02)
        return by_text(n, body)

    with hostile_server(slow) as first:
        url, port = first.url, int(first.url.split(":")[2].split("/")[0])
        with Journal(tmp_path / "journal.jsonl") as journal:
            answers = EndpointScorer(Client(url), journal, 2)(asked)
            found = dict(next(answers) for _ in range(20))
            first.stop()
            back = threading.Timer(2, lambda: stack.enter_context(hostile_server(by_text, port)))
            with ExitStack() as stack:
                back.start()
                found |= dict(answers)
                back.join()
    assert [found[i].similarity for i in range(100)] == [
        float(q.text.split()[1]) % 10 + int(q.clip.name[5]) / 10 for q in asked
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_flaky_sham_server_gives_the_same_numbers_as_the_sham_scorer(tmp_path, seed):
    faults = Faults(error_rate=0.2, status=(429, 500, 503), retry_after=0, drop_rate=0.1, latency_ms=(5, 5), seed=seed)
    asked = questions(tmp_path, 5, 6)
    with make_server("127.0.0.1", 0, faults) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with Journal(tmp_path / "journal.jsonl") as journal:
            client = Client(server.url, retries=8)
            found = dict(EndpointScorer(client, journal, 8)(asked))
        server.shutdown()
        thread.join()
    expected = [sham_similarity(sham_stem(q.relative_path), q.text) for q in asked]
    assert [found[i].similarity for i in range(30)] == expected
    assert client.traffic.retries > 0


def test_garbage_from_a_sham_server_is_an_error_of_single_rows(tmp_path):
    asked = questions(tmp_path, 5, 10)
    with make_server("127.0.0.1", 0, Faults(garbage_rate=0.3)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        answers = scored(server, tmp_path, asked)
        server.shutdown()
        thread.join()
    wrong = [answer for answer in answers.values() if answer.error]
    assert 5 < len(wrong) < 30
    assert {answer.similarity for answer in wrong} == {None}
