"""Models under test: encoders turn audio into embeddings, scorers turn a clip and a sentence into one similarity."""
