"""Models under test: encoders (audio to embedding), audio-text models, and clients of model servers."""
