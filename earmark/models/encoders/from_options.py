"""The encoder that a user names by flags."""

from earmark.models.embeddings_api import MAX_REPLY
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.models.encoders.registry import load_encoder
from earmark.models.http import Client


def load_encoder_from_options(options: EncoderOptions) -> Encoder | PrecomputedEmbeddings:
    """What --encoder or --embeddings names. MissingError where a server cannot be reached, before any clip is read."""
    client = None
    if options.spec.startswith(("http://", "https://")):
        client = Client(options.spec, token=options.token, max_reply=MAX_REPLY)
        client.require_reachable()
    return load_encoder(options.spec, device=options.device, dtype=options.dtype, client=client)
