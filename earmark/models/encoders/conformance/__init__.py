"""Checks of what an encoder has to do."""
