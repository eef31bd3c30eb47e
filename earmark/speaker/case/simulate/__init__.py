"""A benchmark in CASE's shape from clean speech: codecs, microphones, noise, rooms, playback."""
