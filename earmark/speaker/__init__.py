"""Speaker verification: trial lists, embedding back end, error rates; CASE and TidyVoice."""
