"""The encoder behind a server, over real sockets."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile

from earmark.embeddings.cache import EmbeddingCache
from earmark.models.encoders.registry import load_encoder
from earmark.models.http import Client, StoppedError, UnauthorisedError
from tests.hostile import Reply, hostile_server
from tests.models.encoders.sources import clips, noises


def spectrum(samples: np.ndarray) -> list[float]:
    return [float(part.sum()) for part in np.array_split(np.abs(np.fft.rfft(samples)), 4)]


def embed(n: int, body: dict) -> Reply:
    data = []
    for index, uri in enumerate(body["input"]):
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        assert rate == 16_000
        data.append({"index": index, "embedding": spectrum(samples)})
    return Reply({"data": data[::-1]})


def client(url: str, **options) -> Client:
    return Client(url, **{"retries": 0, "timeout": 10, **options})


def test_embeddings_follow_index_of_reply():
    waveforms = [np.round(waveform * 32768).astype(np.float32) / 32768 for waveform in noises(20)]
    with hostile_server(embed) as server:
        encoder = load_encoder(server.url, client=client(server.url), model="tiny")
        embeddings = encoder.embed(waveforms)
        assert [len(body["input"]) for _, body in sorted(server.requests, key=lambda r: -len(r[1]["input"]))] == [
            8,
            8,
            4,
        ]
        assert server.requests[0][1]["model"] == "tiny"
    np.testing.assert_allclose(embeddings, [spectrum(waveform) for waveform in waveforms], rtol=1e-4)


def test_identity_has_address_and_model_but_no_password():
    one, other = (load_encoder("https://user:secret@host/v1", model=model) for model in ("a", "b"))
    assert one.identity != other.identity
    assert one.identity == load_encoder("https://host/v1", model="a").identity
    assert "secret" not in f"{one}{one.description}{one.identity}{one.name}"


def test_rejected_clip_does_not_affect_batch(tmp_path):
    paths = clips(tmp_path / "audio", 6)

    def choosy(n: int, body: dict) -> Reply:
        wavs = [base64.b64decode(uri.partition(",")[2]) for uri in body["input"]]
        lengths = [soundfile.info(io.BytesIO(wav)).frames for wav in wavs]
        return Reply({"error": "too strange"}, status=422) if 8000 + 4 * 37 in lengths else embed(n, body)

    with hostile_server(choosy) as server:
        encoder = load_encoder(server.url, client=client(server.url))
        results = dict(EmbeddingCache(tmp_path / "store").embed(encoder, paths))
    assert [path for path in paths if results[path].error] == [paths[4]]
    assert "too strange" in results[paths[4]].error


@pytest.mark.parametrize(("status", "error"), [(401, UnauthorisedError), (503, StoppedError)])
def test_unresponsive_server_stops_run(tmp_path, status, error):
    with hostile_server(lambda n, body: Reply({}, status=status)) as server:
        encoder = load_encoder(server.url, client=client(server.url))
        with pytest.raises(error):
            list(EmbeddingCache(tmp_path / "store").embed(encoder, clips(tmp_path / "audio", 6)))


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"data": [{"index": 0, "embedding": [1, 2, None]}]}, "not finite|not a list of numbers"),
        ({"data": [{"index": 0, "embedding": [2, 2, 2]}]}, "the embedding is constant"),
        ({"data": []}, "has 0 embeddings for 1 inputs"),
        ({"data": [{"index": 0, "embedding": "AAAA"}]}, "is a string"),
        ([], "no list `data`"),
    ],
)
def test_invalid_reply_is_error_of_clip(tmp_path, reply, message):
    paths = clips(tmp_path / "audio", 1)
    with hostile_server(lambda n, body: Reply(reply)) as server:
        encoder = load_encoder(server.url, client=client(server.url))
        ((path, result),) = EmbeddingCache(tmp_path / "store").embed(encoder, paths)
    assert result.vector is None and path == paths[0]
    assert re.search(message, result.error)
