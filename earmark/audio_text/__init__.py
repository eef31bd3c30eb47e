"""Clips and sentences: similarities, held against people's labels."""
