"""Probe heads on frozen embeddings: linear, few-shot, k-NN, CTC, language-model adapter, retrieval."""
