"""Human annotations: checked tables, pseudonyms, labels, inter-rater agreement and the human ceiling."""
