"""Probes of frozen embeddings: tasks, splits, heads, scores."""
