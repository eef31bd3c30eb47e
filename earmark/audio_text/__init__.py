"""Benchmark audio–text similarity models against human labels."""
