"""Fine-tuning of speaker encoders with an additive angular margin, after the recipe of TidyVoice's baseline."""
