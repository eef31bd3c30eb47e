"""Heads on embeddings, and nearest neighbours."""
