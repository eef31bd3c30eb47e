"""Read and write descriptions of annotated subsets (TOML); subsets.toml explains every key."""

import dataclasses
import json
import re
import string
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from earmark.annotation.subsets import FORMATS, SCALES, Columns, Prior, Slice, Subset
from earmark.errors import DataError, Fault, MissingError, shown_path

NAME = re.compile(r"[\w][\w .-]*")
MEASURES = (
    "items",
    "expected_rate",
    "present_rate",
    "confirm_rate",
    "unanimous_binary_rate",
    "unanimous_ordinal_rate",
)
# Columns that the outputs use for other things; a key column of this name would be overwritten.
RESERVED = frozenset(
    {"username", "usernames", "rating", "n_raters", "flagged", "created_at", "reaction_time_ms", "sample_time_ms"}
    | {
        "annotation_id",
        "benchmark_bucket",
        "majority_present",
        "audio_path",
        "prompt",
        "label",
        "labels_row",
        "sampling_unit",
    }
    | {"similarity", "pred_present", "ok", "error", "present_votes", "present"}
)
REMEDY = "Nothing was written. The comments at the top of earmark/annotation/subsets.toml explain every key."

Problem = tuple[str, str]  # key, and what is wrong with it


def read_subset_file(path: Path) -> list[Subset]:
    """Read the subsets that a TOML file describes.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of Subset

    Raises
    ------
    MissingError
        If the file does not exist.
    DataError
        With all faults of the file, and the line of each.
    """
    if not path.is_file():
        raise MissingError(f"--subset-file {shown_path(path)}: no such file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(
            {shown_path(path): [Fault(line, "", "is not UTF-8; save the file as UTF-8")]}, REMEDY
        ) from error
    return parse_subsets(text, shown_path(path))


def parse_subsets(text: str, source: str) -> list[Subset]:
    """Parse descriptions of subsets.

    Parameters
    ----------
    text : str
        TOML, one table per subset.
    source : str
        Name of the file, for messages.

    Returns
    -------
    list of Subset

    Raises
    ------
    DataError
        With all faults.

    Examples
    --------
    >>> (subset,) = parse_subsets('[arousal]\\nscale = "interval"\\nkey = ["file"]\\n', "my.toml")
    >>> subset.name, subset.scale, subset.key
    ('arousal', 'interval', ('file',))
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise DataError({source: [Fault(int(line[1]) if line else 1, "", f"invalid TOML: {error}")]}, REMEDY) from error
    faults: list[Fault] = []
    parsed: list[Subset] = []
    if not tables:
        faults.append(Fault(1, "", "describes no subset; start with a line such as [my-subset]"))
    for name, fields in tables.items():
        if not isinstance(fields, dict):
            faults.append(
                Fault(
                    _line_of(text, "", name), name, "stands outside a subset; put it below a line such as [my-subset]"
                )
            )
            continue
        problems = subset_problems(name, fields)
        faults += [Fault(_line_of(text, name, key), f"{name}.{key}" if key else name, what) for key, what in problems]
        if not problems:
            parsed.append(_subset(name, fields))
    if faults:
        raise DataError({source: faults}, REMEDY)
    return parsed


def _line_of(text: str, table: str, key: str) -> int:
    """Line of a key in the table of a subset; of the table's header if the key is missing; else 1."""
    lines, header, inside = text.splitlines(), 1, table == ""
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if stripped.startswith("["):
            title = stripped.strip("[] ").replace('"', "")
            inside = title == table or title.startswith(f"{table}.")
            if title == table:
                header = number
            if title == f"{table}.{key}":
                return number
        elif inside and key and re.match(rf'"?{re.escape(key.split(".")[0])}"?\s*[.=]', stripped):
            return number
    return header


# --- checks -------------------------------------------------------------------------------------------------


def subset_problems(name: str, fields: dict[str, Any]) -> list[Problem]:
    """Everything that is wrong with the description of a subset.

    Parameters
    ----------
    name : str
    fields : dict
        Table of the subset.

    Returns
    -------
    list of (key, problem)
        Empty for a valid description.

    Examples
    --------
    >>> subset_problems("mine", {"scale": "interval", "keys": ["file"]})
    [('keys', 'is not a key of a subset; did you mean key?'), ('key', 'is missing: the columns that identify an item')]
    """
    problems: list[Problem] = []
    if not NAME.fullmatch(name) or name in ("all", "both"):
        problems.append(("", f"'{name}' cannot be the name of a subset; use letters, digits, - and _"))
    known = {field.name for field in dataclasses.fields(Subset)} - {"name"}
    problems += [(key, f"is not a key of a subset{_suggestion(key, known)}") for key in fields if key not in known]
    types = [(key, problem) for key, check in TYPES.items() if key in fields and (problem := check(fields[key]))]
    wrong = {key for key, _ in types}
    required = {
        "scale": f"is missing: one of {', '.join(SCALES)}",
        "key": "is missing: the columns that identify an item",
    }
    problems += types + [(key, problem) for key, problem in required.items() if key not in fields]
    sound = {key: value for key, value in fields.items() if key not in wrong and key in known}
    return problems + _level_problems(sound) + _column_problems(sound) + _text_problems(sound)


def _suggestion(key: str, known: set[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, sorted(known), 1)
    return f"; did you mean {close[0]}?" if close else f"; the keys are {', '.join(sorted(known))}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _text(value: object) -> str:
    return "" if _is_text(value) else f"must be a text, not {_toml(value)}"


def _texts(value: object) -> str:
    if not isinstance(value, list) or not all(_is_text(entry) for entry in value):
        return f"must be a list of texts, not {_toml(value)}"
    return "" if len(set(value)) == len(value) else "has the same entry twice"


def _some_texts(value: object) -> str:
    return _texts(value) or ("" if value else "is empty; it needs at least one entry")


def _table_of(check: Callable[[object], str], *keys: str) -> Callable[[object], str]:
    """Check of a table whose values pass `check`; with keys, only these are allowed."""

    def problem(value: object) -> str:
        if not isinstance(value, dict):
            return f"must be a table such as {{ {keys[0] if keys else 'name'} = … }}, not {_toml(value)}"
        unknown = [key for key in value if keys and key not in keys]
        if unknown:
            return f"has no entry {unknown[0]}; its entries are {', '.join(keys)}"
        return next((f"{key} {wrong}" for key, entry in value.items() if (wrong := check(entry))), "")

    return problem


def _complete_table(*keys: str) -> Callable[[object], str]:
    """Check of a table of texts with exactly these keys."""

    def problem(value: object) -> str:
        wrong = _table_of(_text, *keys)(value)
        missing = [key for key in keys if isinstance(value, dict) and key not in value]
        return wrong or (f"lacks {', '.join(missing)}" if missing else "")

    return problem


def _one_of(*values: str) -> Callable[[object], str]:
    return lambda value: "" if value in values else f"must be one of {', '.join(values)}, not {_toml(value)}"


def _scale(value: object) -> str:
    if isinstance(value, list):
        return (
            'must be the kind of scale; write the levels as levels = […] beside scale = "binary", "nominal" (classes '
            'without order) or "ordinal" (levels from low to high)'
        )
    return _one_of(*SCALES)(value)


def _prompt(value: object) -> str:
    if wrong := _table_of(_text, "sentence", "label", "rubric", "dimension", "level")(value):
        return wrong
    assert isinstance(value, dict)
    if ("sentence" in value) == ("rubric" in value):
        return 'needs either a sentence or a rubric, such as { sentence = "Speech that sounds {label}." }'
    if "rubric" in value:
        missing = [key for key in ("dimension", "level") if key not in value]
        return f"lacks {', '.join(missing)}, the columns that select a text of the rubric" if missing else ""
    return _pattern_problem(value["sentence"])


def _pattern(value: object) -> str:
    return _text(value) or _pattern_problem(str(value))


def _pattern_problem(pattern: str) -> str:
    try:
        placeholders(pattern)
    except ValueError as error:
        return f"{_toml(pattern)}: {error}; write {{{{ and }}}} for braces"
    return ""


def _summaries(value: object) -> str:
    if not isinstance(value, dict):
        return f"must be a table of tables, not {_toml(value)}"
    for name, table in value.items():
        if not isinstance(table, dict) or set(table) != {"slice", "columns"} or not _is_text(table.get("slice")):
            return f"{name} needs slice = a column, and columns = {{ column to write = measure }}"
        if wrong := _table_of(_one_of(*MEASURES))(table["columns"]):
            return f"{name}.columns: {wrong}"
    return ""


TYPES: dict[str, Callable[[object], str]] = {
    "scale": _scale,
    "key": _some_texts,
    "levels": _some_texts,
    "present_from": _text,
    "columns": _table_of(_text, "rater", "rating", "time", "id"),
    "format": _one_of(*FORMATS),
    "choices": _table_of(_some_texts),
    "carried": _texts,
    "by": _texts,
    "prior": _complete_table("column", "value"),
    "words": _complete_table("present", "absent"),
    "clip": _pattern,
    "sham_stem": _one_of("stem", "path"),
    "prompt": _prompt,
    "slices": _texts,
    "difficulty": _complete_table("column", "noun"),
    "names": _complete_table("expected", "matches_expected"),
    "labels": _some_texts,
    "summaries": _summaries,
}


def placeholders(pattern: str) -> tuple[str, ...]:
    """Names in braces of a pattern.

    Raises
    ------
    ValueError
        If braces do not match.

    Examples
    --------
    >>> placeholders("data/{speaker}/{file}")
    ('speaker', 'file')
    """
    return tuple(name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None)


def _level_problems(fields: dict[str, Any]) -> list[Problem]:
    """Scale, levels and present_from that do not fit together."""
    scale, levels, first = fields.get("scale"), fields.get("levels", []), fields.get("present_from")
    problems: list[Problem] = []
    if scale == "interval" and levels:
        problems.append(("levels", "has no meaning on an interval scale, whose ratings are numbers"))
    if scale == "ordinal" and len(levels) < 2:
        problems.append(("levels", "must list the levels of an ordinal scale from low to high"))
    if scale in ("nominal", "binary") and len(levels) == 1:
        problems.append(("levels", "needs at least two levels"))
    if scale == "binary" and len(levels) > 2:
        problems.append(("levels", f"must have two levels on a binary scale, not {len(levels)}"))
    if scale == "binary" and first is None:
        problems.append(("present_from", "is missing: the level that counts as present"))
    if scale in ("nominal", "interval") and first is not None:
        problems.append(("present_from", f"has no meaning on {_article(scale)} {scale} scale"))
    if first is not None and levels and first not in levels:
        problems.append(("present_from", f"'{first}' is not one of the levels {', '.join(map(str, levels))}"))
    elif first is not None and levels and scale in ("binary", "ordinal") and levels.index(first) == 0:
        problems.append(("present_from", "is the lowest level, so that every rating counts as present"))
    if scale == "interval" and "present_from" not in fields:
        problems += [(key, "needs a decision between present and absent") for key in ("prior",) if key in fields]
    return problems


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _column_problems(fields: dict[str, Any]) -> list[Problem]:
    """Columns that do not exist, or that are used twice."""
    key, carried = fields.get("key", []), fields.get("carried", [])
    columns = Columns(**fields.get("columns", {}))
    named = dataclasses.asdict(columns)
    problems: list[Problem] = []
    for entry, column in named.items():
        for list_name, listed in (("key", key), ("carried", carried)):
            if column in listed and entry in ("rater", "rating"):
                problems.append((list_name, f"'{column}' is also the column of the {entry}"))
    if columns.rater == columns.rating:
        problems.append(("columns", f"'{columns.rater}' is both the rater and the rating"))
    problems += [("carried", f"'{column}' is also in key") for column in carried if column in key]
    for list_name, listed in (("key", key), ("carried", carried)):
        problems += [
            (list_name, f"'{column}' is the name of a column of the outputs; rename it with --map {column}=OTHER")
            for column in listed
            if column in RESERVED and column not in named.values()
        ]
    known = {*key, *carried}
    uses = [
        *(("by", column) for column in fields.get("by", [])),
        *(("clip", column) for column in placeholders(fields.get("clip", ""))),
        *(("prompt", fields["prompt"][entry]) for entry in ("dimension", "level") if entry in fields.get("prompt", {})),
        *(("summaries", table["slice"]) for table in fields.get("summaries", {}).values()),
    ]
    if "prior" in fields:
        uses.append(("prior", fields["prior"]["column"]))
    if "label" in fields.get("prompt", {}):
        uses.append(("prompt", fields["prompt"]["label"]))
    if "difficulty" in fields:
        uses.append(("difficulty", fields["difficulty"]["column"]))
    if "key" in fields:
        problems += [
            (where, f"'{column}' is neither in key nor in carried") for where, column in uses if column not in known
        ]
    return problems


def _text_problems(fields: dict[str, Any]) -> list[Problem]:
    """Sentences and label columns that do not fit the scale."""
    problems: list[Problem] = []
    prompt, scale = fields.get("prompt", {}), fields.get("scale")
    if "sentence" in prompt:
        names = placeholders(prompt["sentence"])
        known = {"label", *fields.get("key", []), *fields.get("carried", [])}
        problems += [
            ("prompt", f"{{{name}}} is neither label nor a column of the key") for name in names if name not in known
        ]
        if scale == "nominal" and "label" not in names:
            problems.append(("prompt", "needs {label} in the sentence, which stands for each class"))
        if scale == "nominal" and "label" in prompt:
            problems.append(("prompt", "has a label column; on a nominal scale {label} is each class"))
        if scale != "nominal" and "label" in names and "label" not in prompt:
            problems.append(("prompt", "needs label = the column that {label} stands for"))
    labels = fields.get("labels")
    if labels is not None and "key" in fields and "present_from" in fields:
        required = ["majority_present", "n_raters", "benchmark_bucket", *fields["key"]]
        missing = [column for column in required if column not in labels]
        if missing:
            problems.append(("labels", f"lacks {', '.join(missing)}"))
    return problems


# --- conversion ---------------------------------------------------------------------------------------------


def _subset(name: str, fields: dict[str, Any]) -> Subset:
    """Build a subset from a description without problems."""
    converters: dict[str, Callable[[Any], Any]] = {
        "columns": lambda value: Columns(**value),
        "prior": lambda value: Prior(**value),
        "summaries": lambda value: {file: Slice(**table) for file, table in value.items()},
        "choices": lambda value: {column: tuple(values) for column, values in value.items()},
    }

    def converted(key: str, value: Any) -> Any:
        if key in converters:
            return converters[key](value)
        return tuple(value) if isinstance(value, list) else value

    return Subset(name=name, **{key: converted(key, value) for key, value in fields.items()})


def to_toml(described: Sequence[Subset]) -> str:
    """Description of subsets as TOML; keys with their default are left out.

    Examples
    --------
    >>> print(to_toml([Subset("arousal", "interval", ("file",))]))
    [arousal]
    scale = "interval"
    key = ["file"]
    <BLANKLINE>
    """
    lines: list[str] = []
    for subset in described:
        lines.append(f"[{_toml_key(subset.name)}]")
        for field in dataclasses.fields(Subset):
            value = getattr(subset, field.name)
            default = field.default_factory() if callable(field.default_factory) else field.default
            if field.name != "name" and value != default:
                lines.append(f"{field.name} = {_toml(value)}")
        lines.append("")
    return "\n".join(lines)


def as_published(subset: Subset) -> Subset:
    """Description of a subset whose table has the column names of the published format."""
    return dataclasses.replace(subset, columns=Columns())


def _toml(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _toml({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_key(key)} = {_toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)
