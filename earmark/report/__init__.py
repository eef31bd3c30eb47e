"""Output: summaries with provenance, tables, charts and reports. Takes plain data and computes nothing."""
