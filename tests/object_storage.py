"""A real S3 server on this machine, and folders copied to it."""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from earmark.files.remote import RemotePath, location

KEY, SECRET = "AKIAEARMARKTEST00000", "earmark/test+secret/0123456789abcdefghij"


class ObjectStorage:
    """A server with one bucket per test; `url` is the URL of a folder in it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.bucket = f"earmark-{uuid.uuid4().hex[:12]}"
        self.url = f"s3://{self.bucket}/some/prefix"

    @property
    def environment(self) -> dict[str, str]:
        """Where S3 clients find the server and the credentials."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/nonexistent/config",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def upload(self, folder: Path, to: str = "") -> str:
        """Copy a folder to a place below `url`; return the URL of the place."""
        target = f"{self.url}/{to}".rstrip("/")
        upload(folder, target)
        return target

    def deny(self) -> None:
        """Refuse every further request."""
        requests.post(f"{self.endpoint}/moto-api/reset-auth", data="0", timeout=10)

    def allow(self) -> None:
        requests.post(f"{self.endpoint}/moto-api/reset-auth", data="10000000", timeout=10)


def upload(folder: Path, url: str) -> RemotePath:
    """Copy a folder to a URL."""
    target = location(url)
    assert isinstance(target, RemotePath)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            (target / path.relative_to(folder).as_posix()).put(path.read_bytes())
    location(url)  # forgets listings
    return target


@contextmanager
def server() -> Iterator[str]:
    """Start a server; yields its address."""
    moto = pytest.importorskip("moto.server", reason="moto and flask are not installed")
    pytest.importorskip("s3fs", reason="the extra `s3` is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        running.stop()


@contextmanager
def storage(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStorage]:
    """A new bucket, with the credentials in the environment of this process."""
    from s3fs import S3FileSystem

    one = ObjectStorage(endpoint)
    for name, value in one.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "FSSPEC_S3_ANON"):
        monkeypatch.delenv(name, raising=False)
    S3FileSystem.clear_instance_cache()
    S3FileSystem().mkdir(one.bucket)
    try:
        yield one
    finally:
        one.allow()
        S3FileSystem.clear_instance_cache()
