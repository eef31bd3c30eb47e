"""Loading of an encoder from command-line options."""

from earmark.models.embeddings_api import MAX_REPLY
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.models.encoders.registry import load_encoder
from earmark.models.http import Client


def load_encoder_from_options(options: EncoderOptions) -> Encoder | PrecomputedEmbeddings:
    """Load the encoder of `--encoder` or `--embeddings`; a server is contacted first.

    Parameters
    ----------
    options : EncoderOptions
        The options.

    Returns
    -------
    Encoder or PrecomputedEmbeddings
        The encoder.

    Raises
    ------
    MissingError
        As `load_encoder`, and if a server does not answer.
    EarmarkError
        If a file of precomputed embeddings is invalid.
    """
    client = None
    if options.spec.startswith(("http://", "https://")):
        client = Client(options.spec, token=options.token, max_reply=MAX_REPLY)
        client.require_reachable()
    return load_encoder(options.spec, device=options.device, dtype=options.dtype, client=client)
