"""Human annotations: tables in, pseudonyms, labels, agreement, and the questions a model is asked."""
