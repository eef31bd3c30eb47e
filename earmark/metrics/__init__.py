"""Pure functions on arrays: agreement, classification, detection, retrieval, resampling. No files, no printing."""
