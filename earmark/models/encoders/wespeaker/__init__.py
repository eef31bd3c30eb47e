"""WeSpeaker checkpoints, run without WeSpeaker: `loading` reads a folder, `networks` and `front_end` are the model."""
