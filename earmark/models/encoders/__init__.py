"""Encoders: audio to one embedding. `registry` lists the types, one module each; `base` has the base class."""
