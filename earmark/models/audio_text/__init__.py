"""Models that embed audio and text in one space."""
