"""Sentences of the labels of a subset: one from its description, or several wordings from a file.

The file is CSV with the columns `label` and `sentence` (for a rubric the columns that select a text, and `sentence`),
or TOML:

  Anger = ["Speech that sounds angry.", "An angry voice."]     sentences of a label
  sentences = ["A highly aroused voice.", "An excited voice."]   a scale with one sentence
  TEMP.5 = ["The speaker talks very fast.", "Hurried speech."]   a rubric

Wording k of a label is its k-th sentence. A sentence without a label, with {label} in it, stands for every label.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from earmark.annotation.subset_files import placeholders
from earmark.annotation.subsets import Subset
from earmark.errors import DataError, Fault, MissingError, shown_path
from earmark.files.csv_table import read_csv_table

Label = tuple[str, ...]  # values of the columns that select a sentence; () where all items share one

REMEDY = "Nothing was written. Correct the file of --prompts and run the command again."
SENTENCE = "sentence"
EVERY_LABEL = "sentences"  # key of a TOML file
SHOWN_LABELS = 8


@dataclass(frozen=True)
class Wordings:
    """Sentences of each label, in the order of the file.

    Attributes
    ----------
    sentences : dict of tuple of str to tuple of str
        At least one sentence for each label.
    path : Path or None
        The file; None for the single sentence of a subset's description.
    """

    sentences: dict[Label, tuple[str, ...]]
    path: Path | None = None

    @property
    def count(self) -> int:
        """Largest number of sentences of a label."""
        return max((len(own) for own in self.sentences.values()), default=0)

    @property
    def fewer(self) -> dict[str, int]:
        """Number of sentences of each label that has fewer than another."""
        return {"/".join(label): len(own) for label, own in self.sentences.items() if len(own) < self.count}


@dataclass(frozen=True)
class _Row:
    """A sentence of the file with its label; None for every label."""

    line: int
    label: Label | None
    sentence: str


@dataclass
class _Parsed:
    rows: list[_Row] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def label_columns(subset: Subset) -> tuple[str, ...]:
    """Columns of the labels whose values select the sentence of an item; none where all items share one.

    On a nominal scale the sentences belong to classes, not to items.

    Examples
    --------
    >>> from earmark.annotation.subsets import subsets
    >>> label_columns(subsets()["emolia-emo"]), label_columns(subsets()["emolia-dim"])
    (('queried_emotion',), ('dimension', 'level'))
    """
    if "rubric" in subset.prompt:
        return subset.prompt["dimension"], subset.prompt["level"]
    if subset.scale == "nominal" or "sentence" not in subset.prompt:
        return ()
    label = [subset.prompt["label"]] if "label" in subset.prompt else []
    return tuple(dict.fromkeys([*label, *(name for name in placeholders(subset.prompt[SENTENCE]) if name != "label")]))


def spoken_label(label: str) -> str:
    """A label as it stands in a sentence: `___` becomes " / " and `_` becomes a space.

    Examples
    --------
    >>> spoken_label("Jealousy___Envy")
    'Jealousy / Envy'
    """
    return label.replace("___", " / ").replace("_", " ").strip()


def read_wordings(path: Path, columns: Sequence[str], labels: Iterable[Label]) -> Wordings:
    """Read several sentences for each label.

    Parameters
    ----------
    path : Path
        CSV, or TOML by its suffix.
    columns : sequence of str
        Columns that select a sentence, as `label_columns` returns them; one of them may be called `label` in the file.
    labels : iterable of tuple of str
        Labels that need a sentence.

    Returns
    -------
    Wordings

    Raises
    ------
    MissingError
        If the file does not exist.
    DataError
        With all faults: unknown labels, labels without a sentence, empty and repeated sentences.
    """
    if not path.is_file():
        raise MissingError(f"--prompts {shown_path(path)}: no such file.")
    known = list(dict.fromkeys(labels))
    read = _read_toml if path.suffix.lower() == ".toml" else _read_csv
    parsed = read(path, columns)
    sentences, faults = _by_label(parsed.rows, known, bool(columns))
    faults = [*parsed.faults, *faults]
    if not parsed.faults:
        lacking = [label for label in known if label not in sentences]
        if lacking and (parsed.rows or known):
            shown = ", ".join("/".join(label) for label in lacking[:SHOWN_LABELS] if label)
            more = f" and {len(lacking) - SHOWN_LABELS:,} more" if len(lacking) > SHOWN_LABELS else ""
            faults.append(Fault(1, "", f"has no sentence for {shown}{more}" if shown else "has no sentence"))
    if faults:
        raise DataError({shown_path(path): faults}, REMEDY)
    return Wordings({label: sentences[label] for label in known}, path)


def _by_label(
    rows: Sequence[_Row], known: Sequence[Label], labelled: bool
) -> tuple[dict[Label, tuple[str, ...]], list[Fault]]:
    """Sentences by label, and the faults of single rows."""
    sentences: dict[Label, list[str]] = {}
    first_line: dict[tuple[Label, str], int] = {}
    faults = []
    for row in rows:
        if not row.sentence:
            faults.append(Fault(row.line, SENTENCE, "is empty"))
            continue
        every = row.label is None
        if every and labelled and "{label}" not in row.sentence:
            faults.append(Fault(row.line, "label", "is empty; name the label of the sentence, or write {label} in it"))
            continue
        if not every and row.label not in known:
            listed = ", ".join("/".join(label) for label in known[:SHOWN_LABELS])
            more = ", …" if len(known) > SHOWN_LABELS else ""
            shown = "/".join(row.label or ())
            what = f"'{shown}' is not a label of the subset; its labels are {listed}{more}"
            faults.append(
                Fault(row.line, "label", what if labelled else f"'{shown}' is a label, but the subset has none")
            )
            continue
        for label in known if row.label is None else [row.label]:
            spoken = " ".join(spoken_label(part) for part in label)
            sentence = row.sentence.replace("{label}", spoken) if every else row.sentence
            if (label, sentence) in first_line:
                line = first_line[label, sentence]
                faults.append(Fault(row.line, SENTENCE, f"repeats the sentence of line {line} for the same label"))
                break
            first_line[label, sentence] = row.line
            sentences.setdefault(label, []).append(sentence)
    return {label: tuple(own) for label, own in sentences.items()}, faults


def shared_sentences(wordings: Wordings) -> list[str]:
    """Sentences that stand for several labels, between which a choice is impossible.

    Examples
    --------
    >>> shared_sentences(Wordings({("Joy",): ("A happy voice.",), ("Anger",): ("A happy voice.",)}))
    ['A happy voice. (Joy, Anger)']
    """
    owners: dict[str, list[str]] = {}
    for label, own in wordings.sentences.items():
        for sentence in own:
            owners.setdefault(sentence, []).append("/".join(label))
    return [f"{sentence} ({', '.join(labels)})" for sentence, labels in owners.items() if len(labels) > 1]


# --- formats ------------------------------------------------------------------------------------------------


def _read_csv(path: Path, columns: Sequence[str]) -> _Parsed:
    parts = len(columns)
    table = read_csv_table(path, strict=True, pad_short_rows=True)
    parsed = _Parsed(faults=list(table.faults))
    if SENTENCE not in table.columns and not table.faults:
        problem = f"is missing; the header has {', '.join(table.columns) or 'no columns'}"
        parsed.faults.append(Fault(1, SENTENCE, problem))
    named = [column if column in table.columns else "label" for column in columns] if parts <= 1 else list(columns)
    named = named or (["label"] if "label" in table.columns else [])
    if parts > 1 and not table.faults:
        parsed.faults += [Fault(1, name, "is missing") for name in named if name not in table.columns]
    if parsed.faults:
        return parsed
    for line, row in table.records():
        label = tuple(row.get(column, "") for column in named)
        parsed.rows.append(_Row(line, label if any(label) else None, row[SENTENCE]))
    return parsed


def _read_toml(path: Path, columns: Sequence[str]) -> _Parsed:
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        at = re.search(r"at line (\d+)", str(error))
        return _Parsed(faults=[Fault(int(at[1]) if at else 1, "", f"is not UTF-8 TOML: {error}")])
    parsed = _Parsed()
    for label, own in _leaves(content, len(columns)):
        line = _line_of(text, label[-1])
        if not isinstance(own, list) or not all(isinstance(sentence, str) for sentence in own):
            parsed.faults.append(Fault(line, "/".join(label), 'must be a list of sentences such as ["…", "…"]'))
            continue
        every = label == (EVERY_LABEL,)
        for sentence in own:
            found = _line_of(text, sentence, line)
            parsed.rows.append(_Row(found, None if every else label, sentence.strip()))
        if not own:
            parsed.rows.append(_Row(line, None if every else label, ""))
    return parsed


def _leaves(table: dict[str, Any], parts: int, above: Label = ()) -> Iterator[tuple[Label, Any]]:
    """Lists of a TOML file with the keys that lead to them, at most as deep as a label has parts."""
    for key, value in table.items():
        label = (*above, str(key))
        if isinstance(value, dict) and len(label) < parts:
            yield from _leaves(value, parts, label)
        else:
            yield label, value


def _line_of(text: str, part: str, default: int = 1) -> int:
    """Line of the first occurrence of a key or a sentence in a TOML file."""
    for spelled in (part, json.dumps(part, ensure_ascii=False)[1:-1]):
        if spelled and (place := text.find(spelled)) >= 0:
            return text.count("\n", 0, place) + 1
    return default
