"""Build the clip–text pairs that a model scores, from labels, clips and sentences."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from earmark.annotation.clips import ClipIndex
from earmark.annotation.labels import clip_ids
from earmark.annotation.parity import MIN_RATERS_OF_PAIR, HeldOutRatings
from earmark.annotation.subsets import Subset
from earmark.audio.decode import AudioError, check_audio
from earmark.audio_text.options import LABEL_COLUMNS, LabelSource
from earmark.audio_text.scorers import ClipTextPair
from earmark.audio_text.scorers.sham_stem import sham_stem
from earmark.audio_text.wordings import Wordings, label_columns, spoken_label
from earmark.errors import DataError, Fault, MissingError, shown_path
from earmark.files.csv_table import read_csv_frame
from earmark.files.safe_text import encodable

REQUIRED_COLUMNS = ("majority_present", "benchmark_bucket", "n_raters")
LEAVE_ONE_OUT_COLUMNS = ("present", "ds_present_probability_of_others")
TIED = "tied between present and absent"


@dataclass(frozen=True)
class PairTable:
    """The clip–text pairs of a subset, one row per labelled item, in the order of the labels.

    Attributes
    ----------
    subset : Subset
        The subset that the items belong to.
    dataset_root : Path
        Directory that holds one directory of clips per subset.
    table : DataFrame
        The pairs to evaluate. Columns:

        - the key of the subset, `benchmark_bucket`, `n_raters` (int), `flagged` (bool)
        - `majority_present`: 0, 1 or NA
        - `present_votes`: number of raters who voted present; NaN if the labels lack `soft_present`
        - `labels_row`: position in the labels file, from 0
        - `sampling_unit`: clip, the unit of the bootstrap and of cross-fitting
        - `audio_path`: path of the clip below `dataset_root`
        - `prompt`: the sentence
        - `label`: reference label, 0 or 1; for soft labels the share of raters who voted present
    excluded : dict
        Number of excluded items by reason.
    label_source : {"majority", "dawid-skene", "soft"}
        Meaning of `label`.
    comparison_only : DataFrame
        Items with at least two raters that a filter on their votes excluded from `table`, with the same columns. They
        enter no metric against the labels. The model scores them, because the comparison of the model with raters
        (`annotation.parity`) and the rank correlation with the share of raters use every vote.
    wordings : Wordings or None
        Sentences of each label, where there are several or where they belong to classes. None: the column `prompt`.
    """

    subset: Subset
    dataset_root: Path
    table: pd.DataFrame
    excluded: dict[str, int]
    label_source: LabelSource = "majority"
    comparison_only: pd.DataFrame = field(default_factory=pd.DataFrame)
    wordings: Wordings | None = None

    def select(self, keep: Callable[[pd.DataFrame], pd.Series], reason: str, *, by_votes: bool = False) -> "PairTable":
        """Filter the pairs and count the excluded ones.

        Parameters
        ----------
        keep : callable
            Maps a table to a boolean Series, True for pairs to keep.
        reason : str
            Key of the count in `excluded`.
        by_votes : bool
            Whether the filter depends on the votes of the raters. If so, excluded items with enough raters move to
            `comparison_only`; otherwise the filter also applies to `comparison_only`.

        Returns
        -------
        PairTable
            The remaining pairs, renumbered from 0.
        """
        kept = keep(self.table).astype(bool)
        table, dropped = self.table[kept], self.table[~kept]
        if by_votes:
            comparison_only = pd.concat([self.comparison_only, dropped[dropped["n_raters"] >= MIN_RATERS_OF_PAIR]])
        elif len(self.comparison_only):
            comparison_only = self.comparison_only[keep(self.comparison_only).astype(bool)]
        else:
            comparison_only = self.comparison_only
        excluded = {**self.excluded, reason: len(dropped)}
        return replace(self, table=table.reset_index(drop=True), comparison_only=comparison_only, excluded=excluded)

    def head(self, limit: int) -> "PairTable":
        """Keep the first `limit` pairs, and the comparison-only items that precede the last of them."""
        kept = self.table.head(limit)
        last = kept["labels_row"].max() if len(kept) else -1
        further = self.comparison_only
        excluded = {**self.excluded, "beyond --limit": len(self.table) - len(kept)}
        comparison_only = further[further["labels_row"] <= last] if len(further) else further
        return replace(self, table=kept, comparison_only=comparison_only, excluded=excluded)

    def drop_uninformative(self, *, unanimous: bool) -> "PairTable":
        """Drop comparison-only items that no comparison uses.

        Parameters
        ----------
        unanimous : bool
            Whether the other raters must all agree for a held-out rating to be usable. If so, pairs of raters and the
            rank correlation use no comparison-only items.
        """
        further = self.comparison_only
        if not len(further):
            return self
        votes, raters = further["present_votes"].fillna(0), further["n_raters"]
        kept = further["present_votes"].notna().to_numpy()
        if unanimous:
            soft = self.label_source != "majority"
            ratings = HeldOutRatings.from_counts(votes, raters, soft=soft, unanimous=True)
            kept = kept & np.isin(np.arange(len(further)), ratings.item)
        return replace(self, comparison_only=further[kept])

    def without_comparison_only(self) -> "PairTable":
        """Drop all comparison-only items, for runs that cannot compare the model with raters."""
        return replace(self, comparison_only=pd.DataFrame())

    def with_comparison_only(self) -> "PairTable":
        """All pairs that the model scores: those of `table`, then the comparison-only items."""
        table = pd.concat([self.table, self.comparison_only], ignore_index=True)
        return replace(self, table=table, comparison_only=pd.DataFrame())

    @property
    def clips(self) -> list[str]:
        """Unique audio paths of the table, below `dataset_root`."""
        return list(self.table["audio_path"].unique())

    def clip_fault(self, audio_path: str) -> str:
        """Check that a clip exists and decodes, and is as long as its JSON file says.

        Returns
        -------
        str
            The error; empty if the clip is usable.
        """
        seconds: Any = self.clip_metadata(audio_path).get("duration")
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        duration = float(seconds) if is_number and 0 < seconds < math.inf else None
        try:
            check_audio(self.dataset_root / audio_path, duration)
        except AudioError as error:
            return str(error)
        return ""

    def clip_metadata(self, audio_path: str) -> dict[str, Any]:
        """Read the JSON file next to a clip; empty if it is absent, invalid or not an object."""
        try:
            metadata = json.loads((self.dataset_root / audio_path).with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(metadata, dict):
            return {}
        return {
            encodable(key): encodable(value) if isinstance(value, str) else value for key, value in metadata.items()
        }

    def pairs(self, rows: Sequence[int]) -> list[ClipTextPair]:
        """The pairs in these rows, as scorers take them."""
        table = self.table[["audio_path", "prompt"]].iloc[list(rows)]
        paths, prompts = table["audio_path"].tolist(), table["prompt"].tolist()
        clips = {path: (self.dataset_root / path, sham_stem(path)) for path in dict.fromkeys(paths)}
        return [
            ClipTextPair(clips[path][0], path, clips[path][1], prompt)
            for path, prompt in zip(paths, prompts, strict=True)
        ]


def load_pairs(
    subset: Subset, analysis_root: Path, dataset_root: Path, label_source: LabelSource = "majority"
) -> PairTable:
    """Load all labelled items of a subset as clip–text pairs.

    Parameters
    ----------
    subset : Subset
    analysis_root, dataset_root : Path
        Directories with the outputs of analysis.py and with the clips.
    label_source : {"majority", "dawid-skene", "soft"}
        `majority` excludes ties. `dawid-skene` labels an item present if its posterior is above 0.5 and excludes
        posteriors of exactly 0.5. `soft` uses the share of raters who voted present and excludes nothing.

    Returns
    -------
    PairTable
        Clips need not exist: an absent clip has the path at which it is expected.

    Raises
    ------
    MissingError
        If the labels or the rubric are not found.
    DataError
        If the labels are invalid, with all faults.
    """
    path = labels_path(analysis_root, subset)
    if not path.is_file():
        raise MissingError(f"{shown_path(path)} does not exist. Run `uv run analysis.py` to create it.")
    labels, faults = read_csv_frame(path)
    prompts: list[str] = []
    if len(labels.columns):
        faults += _label_faults(labels, subset, LABEL_COLUMNS[label_source])
    if not faults and len(labels):
        prompts, faults = item_sentences(labels, subset, dataset_root)
    if faults:
        raise DataError(
            {shown_path(path): faults}, "Nothing was written. Run `uv run analysis.py` to create the labels again."
        )
    columns = dict.fromkeys(
        [
            *subset.key,
            *subset.carried,
            *REQUIRED_COLUMNS,
            "flagged",
            LABEL_COLUMNS["soft"],
            LABEL_COLUMNS[label_source],
        ]
    )
    labels = labels.reindex(columns=list(columns)).reset_index(drop=True).astype(object).fillna("").astype(str)
    clips = ClipIndex(dataset_root / subset.name, subset)
    in_path = [name for name in labels.columns if name in subset.carried or f"{{{name}" in subset.clip_pattern]
    in_path = in_path or [subset.key[0]]
    found = {  # many items share a clip
        tuple(row.values()): f"{subset.name}/{clips.relative_path(row)}"
        for row in labels[in_path].drop_duplicates().to_dict("records")
    }
    table = labels.assign(
        n_raters=pd.to_numeric(labels["n_raters"]).astype(int),
        majority_present=pd.to_numeric(labels["majority_present"]).astype("Int64"),
        flagged=labels["flagged"].str.lower() == "true",
        sampling_unit=clip_ids(labels, subset),
        audio_path=[found[row] for row in labels[in_path].itertuples(index=False, name=None)],
        prompt=prompts,
        label=pd.to_numeric(labels[LABEL_COLUMNS[label_source]]).astype(float),
        labels_row=range(len(labels)),
    )
    share = pd.to_numeric(labels[LABEL_COLUMNS["soft"]], errors="coerce")
    table["present_votes"] = (share * table["n_raters"]).round()  # NaN if the labels have no soft_present
    pairs = PairTable(subset, dataset_root, table, {}, label_source)
    if label_source == "soft":
        return pairs
    untied = pairs.select(lambda t: t["label"].notna() & (t["label"] != 0.5), TIED, by_votes=True)
    return replace(untied, table=untied.table.assign(label=(untied.table["label"] > 0.5).astype(float)))


def read_leave_one_out(path: Path, pairs: PairTable) -> pd.DataFrame | None:
    """Read the ratings of items with at least two raters, and the Dawid–Skene posterior from the other raters' votes.

    Parameters
    ----------
    path : Path
        leave_one_out.csv, as analysis.py writes it.
    pairs : PairTable
        Ratings of other items are dropped.

    Returns
    -------
    DataFrame or None
        One row per rating. Columns: `item` (row of `pairs.table`), `rater` (number), `present` (0 or 1), `probability`
        in [0, 1]. None if the file does not exist.

    Raises
    ------
    DataError
        If the file is invalid, with all faults.
    """
    if not path.is_file():
        return None
    key = list(pairs.subset.key)
    ratings, faults = read_csv_frame(path)
    missing = [column for column in (*key, "username", *LEAVE_ONE_OUT_COLUMNS) if column not in ratings]
    faults += [Fault(1, column, "is missing") for column in missing]
    if not missing:
        numbers = ratings[list(LEAVE_ONE_OUT_COLUMNS)].apply(pd.to_numeric, errors="coerce")
        invalid = (ratings[list(LEAVE_ONE_OUT_COLUMNS)] != "") & ~numbers.apply(lambda column: column.between(0, 1))
        faults += [
            Fault(int(line), column, f"'{ratings.at[line, column]}' is not a number in [0, 1]")
            for column in LEAVE_ONE_OUT_COLUMNS
            for line in ratings.index[invalid[column]]
        ]
    if faults:
        remedy = "Nothing was written. Run `uv run analysis.py` to create the file again."
        raise DataError({shown_path(path): faults}, remedy)
    items = pairs.table[key].assign(item=range(len(pairs.table)))
    present, probability = (numbers[column] for column in LEAVE_ONE_OUT_COLUMNS)
    rater = pd.factorize(ratings["username"], sort=True)[0]
    merged = ratings[key].assign(rater=rater, present=present, probability=probability).merge(items, on=key)
    return merged[["item", "rater", "present", "probability"]]


def labels_path(analysis_root: Path, subset: Subset) -> Path:
    """Path at which analysis.py writes the labels of a subset."""
    return analysis_root / subset.name / "benchmark_labels.csv"


def _label_faults(labels: pd.DataFrame, subset: Subset, label_column: str) -> list[Fault]:
    required = (*subset.key, *subset.carried, *REQUIRED_COLUMNS, label_column)
    missing = [column for column in required if column not in labels]
    if missing:
        return [Fault(1, column, "is missing") for column in missing]
    bad_majority = labels["majority_present"][~labels["majority_present"].isin(["0", "1", ""])]
    values = pd.to_numeric(labels[label_column], errors="coerce")
    bad_label = bad_majority[:0]
    if label_column not in REQUIRED_COLUMNS:
        bad_label = labels[label_column][~values.between(0, 1) & (labels[label_column] != "")]
    bad_count = labels["n_raters"][~labels["n_raters"].str.fullmatch(r"\d+")]
    repeated = labels.index[labels.duplicated(list(subset.key))]
    return [
        *(Fault(int(line), "majority_present", f"'{v}' is not 0, 1 or empty") for line, v in bad_majority.items()),
        *(Fault(int(line), label_column, f"'{v}' is not a number in [0, 1]") for line, v in bad_label.items()),
        *(Fault(int(line), "n_raters", f"'{v}' is not a number of raters") for line, v in bad_count.items()),
        *(Fault(int(line), subset.key[0], "duplicate of an item on an earlier line") for line in repeated),
    ]


# --- sentences ----------------------------------------------------------------------------------------------


def item_sentences(labels: pd.DataFrame, subset: Subset, dataset_root: Path) -> tuple[list[str], list[Fault]]:
    """The sentence of each item, from the description of the subset or from its rubric.

    Parameters
    ----------
    labels : DataFrame
        Labels as text, indexed by line.
    subset : Subset
    dataset_root : Path

    Returns
    -------
    sentences : list of str
    faults : list of Fault
        Items that the rubric has no text for.

    Raises
    ------
    MissingError
        If the rubric does not exist.
    DataError
        If it is invalid.
    """
    if not subset.prompt:
        return [""] * len(labels), []  # the sentences come from --prompts
    if "rubric" not in subset.prompt:
        columns = list(label_columns(subset))
        if not columns:
            return [subset.prompt["sentence"].format()] * len(labels), []
        rows = labels[columns].to_dict("records")
        return [filled_sentence({str(k): str(v) for k, v in row.items()}, subset) for row in rows], []
    path = dataset_root / subset.name / subset.prompt["rubric"]
    rubric = read_rubric(path)
    texts: list[str] = []
    faults: list[Fault] = []
    dimension, level = subset.prompt["dimension"], subset.prompt["level"]
    for line, row in zip(labels.index, labels[[dimension, level]].itertuples(index=False), strict=True):
        text = rubric.get(row[0], {}).get(row[1])
        texts.append(text or "")
        if not text:
            faults.append(Fault(int(line), level, f"{path.name} has no rubric for {row[0]} level '{row[1]}'"))
    return texts, faults


def prompt_for_label(label: str, subset: Subset) -> str:
    """The sentence for a label; `___` becomes " / " and `_` becomes a space.

    Examples
    --------
    >>> from earmark.annotation.subsets import subsets
    >>> prompt_for_label("Jealousy___Envy", subsets()["emolia-emo"])
    'Speech audio in which the speaker expresses or conveys Jealousy / Envy.'
    """
    return subset.prompt["sentence"].format(label=spoken_label(label))


def filled_sentence(row: Mapping[str, str], subset: Subset) -> str:
    """The sentence of an item, with the values of its columns as they are spoken.

    Examples
    --------
    >>> prompt = {"sentence": "A {label} voice.", "label": "trait"}
    >>> filled_sentence({"trait": "very_warm"}, Subset("mine", "interval", ("file", "trait"), prompt=prompt))
    'A very warm voice.'
    """
    spoken = {column: spoken_label(value) for column, value in row.items()}
    if "label" in subset.prompt:
        spoken["label"] = spoken[subset.prompt["label"]]
    return subset.prompt["sentence"].format(**spoken)


def read_rubric(path: Path) -> dict[str, dict[str, str]]:
    """Read the sentences of a rubric file.

    Returns
    -------
    dict
        {dimension: {level: sentence}}. Levels whose text is not a string are dropped.

    Raises
    ------
    MissingError
        If the file does not exist.
    DataError
        If the file is not a rubric.
    """
    if not path.is_file():
        raise MissingError(f"{shown_path(path)} does not exist. It must hold a sentence for every dimension and level.")
    try:
        dimensions: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(name): {
                str(level): text.strip() for level, text in dimension["levels"].items() if isinstance(text, str)
            }
            for name, dimension in dimensions.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        expected = "{dimension: {levels: {level: text}}}"
        fault = Fault(getattr(error, "lineno", 1), "", f"is not a rubric of the form {expected} ({error})")
        raise DataError({shown_path(path): [fault]}, "Nothing was written.") from error
