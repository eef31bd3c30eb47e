"""Speaker verification: trials, a back end, error rates."""
