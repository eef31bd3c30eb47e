"""What intervals speak for: new clips, new raters or both."""

from typing import Literal

Resample = Literal["clips", "raters", "both"]
RESAMPLE: tuple[Resample, ...] = ("clips", "raters", "both")
