"""What leaves the program: files written whole or not at all, provenance, tables, documents. Takes plain data."""
