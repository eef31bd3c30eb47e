"""TidyVoice: speaker verification across languages."""
