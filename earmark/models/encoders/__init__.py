"""Encoders: audio → one embedding. `registry` has all kinds, one module for each; `base` what they share."""
