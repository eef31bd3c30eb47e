"""Finished results of several systems, compared on the same items."""
