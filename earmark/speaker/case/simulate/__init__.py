"""Simulation of the CASE conditions on clean speech: codecs, microphones, noise, rooms and playback."""
