"""Embedding cache: each clip is embedded once per encoder and read from disk afterwards."""
