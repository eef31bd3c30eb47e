"""Files: atomic writes, archives, downloads, CSV tables, saved runs."""
