"""Earmark: evaluation of audio encoders, audio-text models and speaker encoders."""

__version__ = "0.1.0"
