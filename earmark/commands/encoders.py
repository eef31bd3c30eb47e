"""The encoder that a user names by flags."""

from argparse import Namespace

from earmark.models.encoders import Encoder, load_encoder
from earmark.models.encoders.given import GivenEmbeddings
from earmark.models.http import Client


def loaded_encoder(arguments: Namespace) -> Encoder | GivenEmbeddings:
    """What --encoder or --embeddings names."""
    spec = f"embeddings:{arguments.embeddings}" if arguments.embeddings else arguments.encoder
    client = Client(spec, token=arguments.token) if spec.startswith(("http://", "https://")) else None
    return load_encoder(spec, device=arguments.device, dtype=arguments.dtype, client=client)
