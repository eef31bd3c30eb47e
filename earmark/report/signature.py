"""Signature of a result: version, suite, metric, interval, seed, parameters, data and model in one line."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from earmark import __version__


@dataclass(frozen=True)
class Signature:
    """Signature as ordered parts, printed as `earmark:<version>|suite:…|metric:…` (compare sacrebleu).

    Attributes
    ----------
    parts : tuple of (str, str)
        Name and value of each part.

    Examples
    --------
    >>> signature = Signature.from_parts(suite="emolia-emo", metric="percent_binary", ci="none")
    >>> str(signature.replaced(metric="fleiss_kappa_binary")).split("|")[1:]
    ['suite:emolia-emo', 'metric:fleiss_kappa_binary', 'ci:none']
    """

    parts: tuple[tuple[str, str], ...]

    @classmethod
    def from_parts(cls, **parts: object) -> "Signature":
        """Create a signature of this version from named parts.

        `_` in a name is printed as `-`, and so are separators and control characters in a value.
        """
        return cls((("earmark", __version__), *((key.replace("_", "-"), _part(value)) for key, value in parts.items())))

    @classmethod
    def parse(cls, text: str) -> "Signature":
        """Parse a printed signature.

        Raises
        ------
        ValueError
            If the text is not a signature.
        """
        parts = tuple((key, value) for key, _, value in (part.partition(":") for part in text.split("|")))
        if not parts[0][0] or not all(key for key, _ in parts):
            raise ValueError(f"{text!r} is not a signature")
        return cls(parts)

    def __str__(self) -> str:
        return "|".join(f"{key}:{value}" for key, value in self.parts)

    def __getitem__(self, key: str) -> str:
        return dict(self.parts)[key]

    def replaced(self, **parts: object) -> "Signature":
        """Replace the values of some parts.

        Raises
        ------
        KeyError
            If the signature has no part such part.
        """
        new = {key.replace("_", "-"): _part(value) for key, value in parts.items()}
        if unknown := new.keys() - dict(self.parts).keys():
            raise KeyError(f"the signature has no such part: {', '.join(sorted(unknown))}: {self}")
        return Signature(tuple((key, new.get(key, value)) for key, value in self.parts))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Serialise as a string in JSON."""
        from_text = core_schema.no_info_after_validator_function(cls.parse, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_text]),
            serialization=core_schema.to_string_ser_schema(),
        )


def _part(value: object) -> str:
    return re.sub(r"[|`\x00-\x1f\x7f]", "-", str(value))
