"""Conformance checks for encoders."""
