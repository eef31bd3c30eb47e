"""Reading audio files: clips, container headers, decoding."""
