"""Earmark: how good an audio encoder, a CLAP-style model or a speaker encoder is, in numbers a paper can print."""

__version__ = "0.1.0"
