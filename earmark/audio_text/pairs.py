"""Labels + clips + sentences → the questions a model is asked."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from earmark.annotation.labels import clip_ids
from earmark.annotation.parity import MIN_OTHER_RATERS, HeldOutRatings
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import read_csv
from earmark.audio.decode import SUFFIXES, AudioError, check_audio
from earmark.audio_text.options import LABEL_COLUMNS, LabelSource
from earmark.audio_text.scorers import ClipTextPair
from earmark.audio_text.scorers.sham_stem import sham_stem
from earmark.errors import DataError, Fault, MissingError, shown_path
from earmark.files.safe_text import encodable

NEEDED = ("majority_present", "benchmark_bucket", "n_raters")
TIED = "tied between present and absent"


@dataclass(frozen=True)
class PairTable:
    """What a model is asked: one row per item, in the order of the labels.

    table: the subset's key, benchmark_bucket, n_raters (int), present_votes (NaN where the labels do not say),
    majority_present (0, 1 or NA), flagged, `row` (place in the labels), `clip` (what is resampled together),
    `audio_path` (below dataset_root), `prompt`, `label` (what the scorer is held against: 0 or 1, or for soft labels
    the share of raters who said present).
    excluded: {reason: items left out}. truth: what `label` means.

    further: items that filters by people's votes left out. They enter no metric, but where three people or more rated
    them, the model is asked about them too: a person is held against the others on them, so they belong to the
    comparison with people (`annotation.parity`).
    """

    subset: Subset
    dataset_root: Path
    table: pd.DataFrame
    excluded: dict[str, int]
    truth: LabelSource = "majority"
    further: pd.DataFrame = field(default_factory=pd.DataFrame)

    def select(self, keep: Callable[[pd.DataFrame], pd.Series], reason: str, *, by_votes: bool = False) -> "PairTable":
        """The questions for which `keep` is true; how many went is noted under the reason.

        by_votes: what people answered decides, so that those that go stay in `further`.
        """
        kept = keep(self.table).astype(bool)
        table, gone = self.table[kept], self.table[~kept]
        if by_votes:
            further = pd.concat([self.further, gone[gone["n_raters"] > MIN_OTHER_RATERS]])
        else:
            further = self.further[keep(self.further).astype(bool)] if len(self.further) else self.further
        excluded = {**self.excluded, reason: len(gone)}
        return replace(self, table=table.reset_index(drop=True), further=further, excluded=excluded)

    def first(self, limit: int) -> "PairTable":
        """The first so many questions, and the further ones between them."""
        kept = self.table.head(limit)
        last = kept["row"].max() if len(kept) else -1
        further = self.further[self.further["row"] <= last] if len(self.further) else self.further
        excluded = {**self.excluded, "beyond --limit": len(self.table) - len(kept)}
        return replace(self, table=kept, further=further, excluded=excluded)

    def with_places(self, *, unanimous: bool) -> "PairTable":
        """Without further questions that would tell nothing of people. unanimous: others must agree on the answer."""
        if not len(self.further):
            return self
        votes, raters = self.further["present_votes"].fillna(0), self.further["n_raters"]
        places = HeldOutRatings.from_counts(votes, raters, soft=self.truth != "majority", unanimous=unanimous)
        known = self.further["present_votes"].notna().to_numpy()
        kept = np.isin(np.arange(len(self.further)), places.item) & known
        return replace(self, further=self.further[kept])

    def without_further(self) -> "PairTable":
        """The questions of the table alone, where no comparison with people can be made."""
        return replace(self, further=pd.DataFrame())

    def with_further(self) -> "PairTable":
        """The questions that are asked: those of the table, then the further ones."""
        return replace(self, table=pd.concat([self.table, self.further], ignore_index=True), further=pd.DataFrame())

    @property
    def clips(self) -> list[str]:
        """The clips that are asked about, each once: paths below dataset_root."""
        return list(self.table["audio_path"].unique())

    def clip_fault(self, audio_path: str) -> str:
        """What is wrong with a clip; empty when nothing is."""
        seconds: Any = self.described(audio_path).get("duration")
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        said = float(seconds) if is_number and 0 < seconds < math.inf else None
        try:
            check_audio(self.dataset_root / audio_path, said)
        except AudioError as error:
            return str(error)
        return ""

    def described(self, audio_path: str) -> dict[str, Any]:
        """What the clip's own JSON file says about it; nothing where there is no such file."""
        try:
            said = json.loads((self.dataset_root / audio_path).with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(said, dict):
            return {}
        return {encodable(key): encodable(value) if isinstance(value, str) else value for key, value in said.items()}

    def ask(self, i: int) -> ClipTextPair:
        """The i-th question as a scorer takes it."""
        path, prompt = self.table.at[i, "audio_path"], self.table.at[i, "prompt"]
        return ClipTextPair(self.dataset_root / path, path, sham_stem(path), prompt)


def load_pairs(subset: Subset, analysis_root: Path, dataset_root: Path, truth: LabelSource = "majority") -> PairTable:
    """Every labelled item of a subset as a question.

    truth: majority, which leaves ties out; dawid-skene, present where the posterior is above one half; soft, the
    share of raters, which leaves nothing out.
    Raises MissingError where the labels or the rubric are not there, DataError with all faults of the labels.
    A clip that is not there is no error here: its path is where it should be.
    """
    path = labels_path(analysis_root, subset)
    if not path.is_file():
        raise MissingError(f"{shown_path(path)} is not there. Run `uv run analysis.py` to make it.")
    labels, faults = read_csv(path)
    prompts: list[str] = []
    if len(labels.columns):
        faults += _label_faults(labels, subset, LABEL_COLUMNS[truth])
    if not faults and len(labels):
        prompts, faults = _prompts(labels, subset, dataset_root)
    if faults:
        raise DataError(
            {shown_path(path): faults}, "Nothing was written. Run `uv run analysis.py` to make the labels again."
        )
    columns = dict.fromkeys(
        [*subset.key, *subset.carried, *NEEDED, "flagged", LABEL_COLUMNS["soft"], LABEL_COLUMNS[truth]]
    )
    labels = labels.reindex(columns=list(columns)).reset_index(drop=True).astype(object).fillna("").astype(str)
    clips = ClipIndex(dataset_root / subset.name, subset)
    table = labels.assign(
        n_raters=pd.to_numeric(labels["n_raters"]).astype(int),
        majority_present=pd.to_numeric(labels["majority_present"]).astype("Int64"),
        flagged=labels["flagged"].str.lower() == "true",
        clip=clip_ids(labels, subset),
        audio_path=[f"{subset.name}/{clips.path_of(row)}" for row in labels.to_dict("records")],
        prompt=prompts,
        label=pd.to_numeric(labels[LABEL_COLUMNS[truth]]).astype(float),
        row=range(len(labels)),
    )
    share = pd.to_numeric(labels[LABEL_COLUMNS["soft"]], errors="coerce")
    table["present_votes"] = (share * table["n_raters"]).round()  # NaN in labels that do not tell
    questions = PairTable(subset, dataset_root, table, {}, truth)
    if truth == "soft":
        return questions
    decided = questions.select(lambda t: t["label"].notna() & (t["label"] != 0.5), TIED, by_votes=True)
    return replace(decided, table=decided.table.assign(label=(decided.table["label"] > 0.5).astype(float)))


OTHERS = ("present", "ds_present_probability_of_others")


def read_leave_one_out(path: Path, questions: "PairTable") -> pd.DataFrame | None:
    """Ratings of the questions' items with what Dawid and Skene's model makes of the other votes; None without file.

    path: leave_one_out.csv, which analysis.py writes. Columns: item (row of questions.table), present, probability.
    DataError with all faults of the file.
    """
    if not path.is_file():
        return None
    key = list(questions.subset.key)
    ratings, faults = read_csv(path)
    missing = [column for column in (*key, *OTHERS) if column not in ratings]
    faults += [Fault(1, column, "is missing") for column in missing]
    if not missing:
        numbers = ratings[list(OTHERS)].apply(pd.to_numeric, errors="coerce")
        wrong = (ratings[list(OTHERS)] != "") & ~numbers.apply(lambda column: column.between(0, 1))
        faults += [
            Fault(int(line), column, f"'{ratings.at[line, column]}' is not in 0 … 1")
            for column in OTHERS
            for line in ratings.index[wrong[column]]
        ]
    if faults:
        remedy = "Nothing was written. Run `uv run analysis.py` to make it again."
        raise DataError({shown_path(path): faults}, remedy)
    items = questions.table[key].assign(item=range(len(questions.table)))
    found = ratings[key].assign(present=numbers["present"], probability=numbers[OTHERS[1]]).merge(items, on=key)
    return found[["item", "present", "probability"]]


def labels_path(analysis_root: Path, subset: Subset) -> Path:
    """Where analysis.py leaves a subset's labels."""
    return analysis_root / subset.name / "benchmark_labels.csv"


def _label_faults(labels: pd.DataFrame, subset: Subset, share: str) -> list[Fault]:
    missing = [column for column in (*subset.key, *subset.carried, *NEEDED, share) if column not in labels]
    if missing:
        return [Fault(1, column, "is missing") for column in missing]
    wrong_label = labels["majority_present"][~labels["majority_present"].isin(["0", "1", ""])]
    shares = pd.to_numeric(labels[share], errors="coerce")
    wrong_share = (
        labels[share][~shares.between(0, 1) & (labels[share] != "")] if share not in NEEDED else wrong_label[:0]
    )
    wrong_count = labels["n_raters"][~labels["n_raters"].str.fullmatch(r"\d+")]
    repeated = labels.index[labels.duplicated(list(subset.key))]
    return [
        *(Fault(int(line), "majority_present", f"'{v}' is not 0, 1 or empty") for line, v in wrong_label.items()),
        *(Fault(int(line), share, f"'{v}' is no share in 0 … 1") for line, v in wrong_share.items()),
        *(Fault(int(line), "n_raters", f"'{v}' is not a number of people") for line, v in wrong_count.items()),
        *(Fault(int(line), subset.key[0], "the same item stands on a line above") for line in repeated),
    ]


# --- sentences ----------------------------------------------------------------------------------------------


def _prompts(labels: pd.DataFrame, subset: Subset, dataset_root: Path) -> tuple[list[str], list[Fault]]:
    if "rubric" not in subset.prompt:
        return [prompt_for_label(label, subset) for label in labels[subset.prompt["label"]]], []
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
    """The sentence that asks about a label: `___` reads " / ", `_` reads as a space."""
    return subset.prompt["sentence"].format(label=label.replace("___", " / ").replace("_", " ").strip())


def read_rubric(path: Path) -> dict[str, dict[str, str]]:
    """{dimension: {level: text}} of a rubric file. MissingError without the file, DataError if it is no rubric."""
    if not path.is_file():
        raise MissingError(f"{shown_path(path)} is not there; it holds the sentence for every dimension and level.")
    try:
        dimensions: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(name): {
                str(level): text.strip() for level, text in dimension["levels"].items() if isinstance(text, str)
            }
            for name, dimension in dimensions.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fault = Fault(
            getattr(error, "lineno", 1), "", f"is no rubric {{dimension: {{levels: {{level: text}}}}}} ({error})"
        )
        raise DataError({shown_path(path): [fault]}, "Nothing was written.") from error


# --- clips --------------------------------------------------------------------------------------------------


class ClipIndex:
    """Finds a subset's clips below a folder.

    By the path that the subset describes. Where file names are unique, also by the same path with folder names
    compared by letters and digits alone (`Jealousy___Envy` is `Jealousy_&_Envy`), and at last by the name alone.
    """

    def __init__(self, folder: Path, subset: Subset) -> None:
        self.folder = folder
        self.subset = subset

    def path_of(self, row: Mapping[str, str]) -> str:
        """Path of an item's clip below the folder; where there is none, where it should be."""
        carried = self.subset.carried
        spellings = product(*(row[column].split("|") for column in carried))
        wanted = [self.subset.clip.format(**{**row, **dict(zip(carried, s, strict=True))}) for s in spellings]
        if exact := next((path for path in wanted if _is_file(self.folder / path)), None):
            return exact
        if self.subset.clip_columns != ("file_name",):
            return wanted[0]
        found = next((self._by_folder[_loose(path)] for path in wanted if _loose(path) in self._by_folder), None)
        return found or self._by_name.get(Path(wanted[0]).stem, wanted[0])

    @cached_property
    def _files(self) -> list[str]:
        found = (path for path in self.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        return sorted(path.relative_to(self.folder).as_posix() for path in found)

    @cached_property
    def _by_folder(self) -> dict[str, str]:
        return {_loose(path): path for path in reversed(self._files)}

    @cached_property
    def _by_name(self) -> dict[str, str]:
        return {Path(path).stem: path for path in reversed(self._files)}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system
        return False


def _loose(path: str) -> str:
    folders, _, name = path.rpartition("/")
    return "/".join([*(re.sub(r"[\W_]+", "", part).casefold() for part in folders.split("/")), Path(name).stem])
