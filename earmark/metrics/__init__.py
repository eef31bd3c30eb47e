"""Pure functions on arrays: agreement, classification, resampling. No files, no printing, nothing else of ours."""
