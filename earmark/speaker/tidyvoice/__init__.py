"""TidyVoice: verification across languages."""
