"""Choose the subsets of a run: published ones, those of a description file, those that analysis.py described."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from earmark.annotation.subset_files import placeholders, read_subset_file, subset_problems, to_toml
from earmark.annotation.subsets import EMOLIA_BENCH, Subset, select_subsets, subsets
from earmark.audio_text.options import BenchmarkOptions
from earmark.audio_text.pairs import PairTable, labels_path
from earmark.errors import MissingError, shown_path

DESCRIPTION = "subset.toml"  # in the outputs of analysis.py
EVERY = ("both", "all")


def benchmark_subsets(options: BenchmarkOptions) -> list[Subset]:
    """The subsets that the options select, with their sentences and clips.

    Parameters
    ----------
    options : BenchmarkOptions

    Returns
    -------
    list of Subset
        "both" and "all" select the published subsets with labels (all of them if none has labels), "all" also those
        that analysis.py described. With a description file, "both" selects its subsets and "all" adds them. A subset of
        the file replaces one of the same name.

    Raises
    ------
    MissingError
        If the subset is not known, has no sentence, or `--prompt` or `--clip` do not fit it.
    DataError
        If a description has faults.
    """
    own = read_subset_file(options.subset_file) if options.subset_file else []
    every = options.subset in EVERY
    chosen = _every(options, own) if every else [_by_name(options.subset, own, options.analysis_root)]
    return [_with_flags(subset, options) for subset in chosen]


def _every(options: BenchmarkOptions, own: Sequence[Subset]) -> list[Subset]:
    if own and options.subset == "both":
        return list(own)
    named = {subset.name: subset for subset in select_subsets(options.subset)}
    if options.subset == "all":
        for name in described(options.analysis_root):
            if name not in named:
                named[name] = _read_description(options.analysis_root, name)
        named |= {subset.name: subset for subset in own}
    labelled = [subset for subset in named.values() if labels_path(options.analysis_root, subset).is_file()]
    return labelled or list(named.values())


def _by_name(name: str, own: Sequence[Subset], analysis_root: Path) -> Subset:
    for subset in [*own, *subsets().values()]:
        if subset.name == name:
            return subset
    if name in described(analysis_root):
        return _read_description(analysis_root, name)
    known = sorted({*subsets(), *(subset.name for subset in own), *described(analysis_root)})
    raise MissingError(
        f"--subset {name}: no such subset. Known: {', '.join(known)}. `uv run analysis.py` describes a subset in "
        f"{shown_path(analysis_root)}/NAME/{DESCRIPTION}; --subset-file reads a description from elsewhere."
    )


def described(analysis_root: Path) -> list[str]:
    """Names of the subsets that analysis.py described."""
    return sorted(path.parent.name for path in analysis_root.glob(f"*/{DESCRIPTION}"))


def _read_description(analysis_root: Path, name: str) -> Subset:
    """The subset in the outputs of analysis.py; its directory is its name."""
    found = read_subset_file(analysis_root / name / DESCRIPTION)
    return replace(next((subset for subset in found if subset.name == name), found[0]), name=name)


def _with_flags(subset: Subset, options: BenchmarkOptions) -> Subset:
    """Replace the sentence and the path of clips by those of the flags, and require a sentence."""
    if options.prompt is not None:
        label = {"label": subset.prompt["label"]} if "label" in subset.prompt and subset.scale != "nominal" else {}
        subset = replace(subset, prompt={"sentence": options.prompt, **label})
    if options.clip is not None:
        if ".." in PurePosixPath(options.clip).parts or options.clip.startswith("/"):
            raise MissingError(
                f"--clip {options.clip!r} for {subset.name}: clips lie below dataset/{subset.name}/; give another "
                "directory with --dataset-root."
            )
        subset = replace(subset, clip=options.clip)
    for flag, key, given in (("--prompt", "prompt", options.prompt), ("--clip", "clip", options.clip)):
        fields = tomllib.loads(to_toml([subset]))[subset.name]
        problems = [problem for where, problem in subset_problems(subset.name, fields) if where == key]
        if given is not None and problems:
            raise MissingError(f"{flag} {given!r} for {subset.name}: {problems[0]}.")
    if not subset.prompt and options.prompts is None:
        example = "Speech that sounds {label}." if subset.scale == "nominal" else "Speech of a highly aroused speaker."
        raise MissingError(
            f'{subset.name} has no sentence to compare the clips with. Give --prompt "{example}", or --prompts FILE '
            f'with several, or add prompt = {{ sentence = "{example}" }} to its description.'
        )
    other = [name for name in placeholders(subset.prompt.get("sentence", "")) if name != "label"]
    if subset.scale == "nominal" and other:
        raise MissingError(
            f"{subset.name}: the sentence has {{{other[0]}}}, but on a nominal scale it may hold only {{label}}, "
            "which is each class."
        )
    return subset


def require_clips(pairs: PairTable) -> None:
    """Raise MissingError if none of the clips of an own subset is found, with what to change."""
    everything = pairs.with_comparison_only()
    if pairs.subset.format == EMOLIA_BENCH or not len(everything.table):
        return
    if any((pairs.dataset_root / path).is_file() for path in everything.clips):
        return
    folder = shown_path(pairs.dataset_root / pairs.subset.name)
    raise MissingError(
        f"{folder}/ holds none of the {len(everything.clips):,} clips of {pairs.subset.name}, such as "
        f"{everything.clips[0].removeprefix(f'{pairs.subset.name}/')}. Put them there, or give their path below it by "
        f"--clip PATTERN (now {pairs.subset.clip_pattern}), or another directory with --dataset-root."
    )
