"""Probes: what a simple model reads from frozen embeddings."""
