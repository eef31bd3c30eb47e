"""The CASE benchmark."""
