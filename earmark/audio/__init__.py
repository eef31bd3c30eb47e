"""Audio files as every other part of the library takes them."""
