"""The encoder that a user names by flags."""

import socket
from argparse import Namespace
from urllib.parse import urlsplit

from earmark.errors import MissingError
from earmark.models.encoders import Encoder, load_encoder
from earmark.models.encoders.precomputed import GivenEmbeddings
from earmark.models.http import Client

CONTACT = 10.0  # seconds for a first connection


def loaded_encoder(arguments: Namespace) -> Encoder | GivenEmbeddings:
    """What --encoder or --embeddings names."""
    spec = f"embeddings:{arguments.embeddings}" if arguments.embeddings else arguments.encoder
    if spec.startswith(("http://", "https://")):
        require_answer(spec)
    client = Client(spec, token=arguments.token) if spec.startswith(("http://", "https://")) else None
    return load_encoder(spec, device=arguments.device, dtype=arguments.dtype, client=client)


def require_answer(url: str) -> None:
    """Find out at once that nobody listens at an address, before patience with a busy server begins."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=CONTACT).close()
    except OSError as error:
        raise MissingError(f"{parts.hostname}:{port}: nobody answers there ({error.strerror or error}).") from error
