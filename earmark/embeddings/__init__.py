"""Embeddings on disk: made once for an encoder and a clip's content, read ever after."""
