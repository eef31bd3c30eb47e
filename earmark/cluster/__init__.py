"""Embeddings and probes on the nodes of a Ray cluster, with the results of a single machine.

All nodes see the same files: the code, the data, the embedding cache and the results. Ray starts processes and tells
when one is lost; embeddings and scores go to the shared files, not through Ray.
"""
