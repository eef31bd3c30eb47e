"""`finetune_speaker.py`: train a speaker encoder and write a checkpoint, a log, curves, a report and a model card."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from earmark import cli
from earmark.cli import Invocation
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked, write_together
from earmark.files.hashing import file_hash
from earmark.models.encoders.torch_encoder import parameters_hash, require_encoder_library, torch_and_device
from earmark.models.encoders.wespeaker.architectures import ModelConfig, model_config
from earmark.models.encoders.wespeaker.checkpoint import CONFIG, WEIGHTS, load_network, read_config
from earmark.models.encoders.wespeaker.front_end import EXTRA, SAMPLE_RATE
from earmark.models.encoders.wespeaker.loading import HUB_NAME, download_checkpoint
from earmark.report.figures import figure_files
from earmark.report.page import page
from earmark.report.provenance import data_hash, exclusions, input_records, output_path, provenance
from earmark.report.provenance import parameters_hash as settings_hash
from earmark.report.render import render
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.speaker.case.simulate.noise_and_rooms import find_recordings
from earmark.speaker.case.submission import PLACEHOLDER
from earmark.speaker.finetune.augment import Augmentation, shortest_clip
from earmark.speaker.finetune.clips import Waveforms, check_clips, fingerprint
from earmark.speaker.finetune.data import (
    TrainingData,
    Utterance,
    crosses_languages,
    grouped_faults,
    overlapping_speakers,
    prepare_data,
    read_utterances,
    require_no_overlap,
    validation_trials,
)
from earmark.speaker.finetune.options import PUBLISHED, SCRATCH, TINY, FinetuneOptions
from earmark.speaker.finetune.page import training_figures
from earmark.speaker.finetune.recipe import BEST, Recipe, recipes, with_settings
from earmark.speaker.finetune.schema import DataSummary, EpochSummary, FinetuneSummary, ValidationSummary
from earmark.speaker.finetune.state import LOG_FILE, STATE_FILE, load_written_weights, run_key, write_files
from earmark.speaker.finetune.validation import Validation
from earmark.speaker.speakers import read_speaker_map
from earmark.speaker.system import audio_path
from earmark.speaker.trial_files import read_trials
from earmark.speaker.trials import Trials, speaker_from_path
from earmark.speaker.trials import language_from_path as language

if TYPE_CHECKING:
    from earmark.speaker.finetune.loop import Trainer

MODELS = {TINY: ("SimAM_ResNet10_ASP", {"in_planes": 8, "embed_dim": 64})}
CARD = "model_card.md"  # never overwritten, since users edit it
TRIALS_FILE = "validation_trials.txt"
OUTPUT_FILES = (  # removed by --restart
    *(WEIGHTS, CONFIG, STATE_FILE, LOG_FILE, TRIALS_FILE, CARD),
    *("summary.json", "report.md", "report.html", "figures/*.*"),
)


def run_finetune(options: FinetuneOptions, invocation: Invocation) -> int:
    """Train a model; returns the exit code."""
    recipe_name, recipe = chosen_recipe(options)
    _, device = torch_and_device(options.device, options.dtype, EXTRA)
    require_encoder_library("kaldi_native_fbank", EXTRA)
    require_encoder_library("yaml", EXTRA)
    group = options.group
    with ExitStack() as stack:
        if group.is_first:
            stack.enter_context(locked([options.output_dir]))
        if group.size > 1:
            from earmark.speaker.finetune.loop import join_group, leave_group, wait_for_all

            device = f"cuda:{group.local_rank}" if device == "cuda" else device
            join_group(device)
            stack.callback(leave_group)
        code = _train(options, recipe_name, recipe, device, invocation)
        if group.size > 1:  # a process that leaves early would end the others
            wait_for_all()
        return code


def chosen_recipe(options: FinetuneOptions) -> tuple[str, Recipe]:
    """Name and settings of the recipe; MissingError if flags exclude each other or are invalid."""
    if (options.init is None) == (options.model is None):
        raise MissingError("Give either --init FOLDER, a checkpoint to start from, or --model NAME for random weights.")
    name = options.recipe or (PUBLISHED if options.init else SCRATCH)
    recipe = with_settings(recipes()[name], options.settings)
    if recipe.select == BEST and not (recipe.validation_share or options.validation):
        raise MissingError("select=best needs validation: --validation FILE or --set validation_share=0.1")
    return name, recipe


def _remove_run(options: FinetuneOptions) -> None:
    """Remove the files of an earlier run, so that none of them is taken for a result of this one."""
    if options.group.is_first:
        write_together({path: None for pattern in OUTPUT_FILES for path in options.output_dir.glob(pattern)})
    if options.group.size > 1:
        from earmark.speaker.finetune.loop import wait_for_all

        wait_for_all()


def _train(options: FinetuneOptions, recipe_name: str, recipe: Recipe, device: str, invocation: Invocation) -> int:
    from earmark.speaker.finetune.loop import Run, Trainer, limited_threads

    seed = invocation.seed
    config, network, origin = initial_network(options, seed)
    utterances = read_utterances(options.train, options.audio_root, options.speakers)
    overlap = overlapping_speakers(utterances, _lists(options), options.speakers)
    require_no_overlap(overlap, allowed=options.allow_overlap)
    augmentation = Augmentation(
        *(None if folder is None else find_recordings(folder) for folder in (options.noises, options.rooms))
    )
    waveforms = Waveforms()
    lengths = _checked(utterances, options, waveforms, invocation)
    with_hold_out = recipe if options.validation is None else replace(recipe, validation_share=0.0)
    data = prepare_data(utterances, lengths, shortest_clip(recipe), with_hold_out, seed)
    validation = _validation(options, data, waveforms, seed)
    key = run_key(
        recipe, seed=seed, init=origin["weights_sha256"], data=fingerprint(utterances), processes=options.group.size,
        dtype=options.dtype, noises=augmentation.noises and augmentation.noises.fingerprint,
        rooms=augmentation.rooms and augmentation.rooms.fingerprint,
        validation=None if options.validation is None else file_hash(options.validation)[:16],
    )  # fmt: skip
    run = Run(
        options.output_dir, config, recipe, recipe_name, data, validation, augmentation, waveforms, seed, key, device,
        options.dtype, options.workers, options.group,
    )  # fmt: skip
    if options.restart:  # after all checks of the input, so that a fault does not cost the earlier run
        _remove_run(options)
    trainer = Trainer(run, network)
    resumed = trainer.resume()
    if options.group.is_first:
        _tell(data, resumed, trainer.progress.last, options, invocation)

    def track(batches: Iterable[Any], n_steps: int, epoch: int) -> Iterable[Any]:
        if not options.group.is_first:
            return batches
        return invocation.progress(batches, total=n_steps, label=f"epoch {epoch}/{recipe.epochs}", unit="step")

    with limited_threads(device, options.workers):
        trainer.train(track)
        if not options.group.is_first:
            return cli.COMPLETE
        report, contents = _results(trainer, origin, lengths, overlap, options, invocation)
    write_files(options.output_dir, contents)
    cli.show(report)
    return cli.COMPLETE


def _tell(data: TrainingData, resumed: bool, last: int, options: FinetuneOptions, invocation: Invocation) -> None:
    """Warn about clips that are left out, and say where a run continues."""
    left_out = [f"{n:,} {reason}" for reason, n in data.excluded.items() if n]
    if left_out:
        invocation.warn(f"{shown_path(options.train)}: left out: {'; '.join(left_out)}.")
    if resumed:
        invocation.warn(f"{shown_path(options.output_dir)}/: continuing after epoch {last}.")


# --- inputs ---------------------------------------------------------------------------------------------------


def initial_network(options: FinetuneOptions, seed: int) -> tuple[ModelConfig, Any, dict[str, Any]]:
    """Load the checkpoint of --init, or draw the weights of --model.

    Parameters
    ----------
    options : FinetuneOptions
    seed : int
        Of random weights.

    Returns
    -------
    config : ModelConfig
    network : torch.nn.Module
    origin : dict
        Name and hash of the weights, for the summary.

    Raises
    ------
    MissingError, EarmarkError
        As `read_config` and `load_network`.
    """
    if options.model is not None:
        from earmark.models.encoders.wespeaker.networks import build_network
        from earmark.speaker.finetune.loss import initialise, seeded_generator

        config = model_config(*MODELS[options.model])
        network = build_network(config)
        initialise(network, seeded_generator(seed))
        return config, network, {"model": options.model, "weights_sha256": parameters_hash(network)}
    source = str(options.init)
    folder, revision, found = Path(source), "", HUB_NAME.fullmatch(source)
    if not folder.is_dir() and found:
        folder, revision = download_checkpoint(found["repository"], found["revision"])
    config = read_config(folder)
    network = load_network(folder, config)
    origin = {"checkpoint": source if revision else output_path(folder), **({"revision": revision} if revision else {})}
    return config, network, {**origin, "weights_sha256": parameters_hash(network)}


def _lists(options: FinetuneOptions) -> list[Path]:
    return [path for path in (options.validation, *options.test) if path is not None]


def _checked(
    utterances: Sequence[Utterance], options: FinetuneOptions, waveforms: Waveforms, invocation: Invocation
) -> dict[str, int]:
    """Lengths of the usable clips; the first process checks them, the others read its result."""

    def track(clips: Iterable[Any], n: int) -> Iterable[Any]:
        return invocation.progress(clips, total=n, label="check audio", unit="clip")

    def check() -> dict[str, int]:
        return check_clips(
            utterances, options.train, options.output_dir, waveforms,
            allow_missing=options.allow_missing, workers=options.workers, track=track,
        )  # fmt: skip

    if options.group.size == 1:
        return check()
    from earmark.speaker.finetune.loop import wait_for_all

    if options.group.is_first:
        check()
    wait_for_all()
    return check()


def _validation(options: FinetuneOptions, data: TrainingData, waveforms: Waveforms, seed: int) -> Validation | None:
    """Trials of the held-out speakers, or of --validation; None without either."""
    if options.validation is None:
        if not data.held_out:
            return None
        trials = validation_trials(data.held_out, seed)
        return Validation(
            trials,
            {each.name: each.path for each in data.held_out},
            {each.name: each.speaker for each in data.held_out},
            crosses_languages(trials, {each.name: each.language for each in data.held_out}),
            waveforms,
        )
    trials = read_trials(options.validation)
    if trials.labels is None or trials.labels.all() or not trials.labels.any():
        raise EarmarkError(f"{shown_path(options.validation)}: validation needs target and non-target trials.")
    names, root = [str(name) for name in trials.names], options.audio_root or options.validation.parent
    paths = {name: audio_path(root, name) for name in names}
    if missing := [name for name in names if not paths[name].is_file()]:
        faults = grouped_faults(shown_path(options.validation), [(name, "does not exist") for name in missing])
        raise EarmarkError(f"{faults}\nPaths are relative to {shown_path(root)}/; --audio-root DIR changes that.")
    mapped = read_speaker_map(options.speakers, names).speakers if options.speakers else {}
    speakers = {name: mapped.get(name) or speaker_from_path(name) or "" for name in names}
    known = {name: speaker for name, speaker in speakers.items() if speaker}
    crossing = crosses_languages(trials, {name: language(name) or "" for name in names})
    return Validation(trials, paths, known, crossing, waveforms)


# --- results --------------------------------------------------------------------------------------------------


def _results(
    trainer: "Trainer",
    origin: Mapping[str, Any],
    lengths: Mapping[str, int],
    overlap: Mapping[Path, Sequence[str]],
    options: FinetuneOptions,
    invocation: Invocation,
) -> tuple[str, dict[str, str | bytes | None]]:
    """Report and the contents of all output files but the checkpoint."""
    load_written_weights(options.output_dir, trainer.network)
    summary = _summary(trainer, origin, lengths, overlap, options, invocation)
    figures = training_figures(summary)
    report, _ = render("finetune.md.j2", s=summary, figures=figures if options.figures else [])
    card, _ = render("finetune_card.md.j2", s=summary, placeholder=PLACEHOLDER)
    folder = options.output_dir
    contents: dict[str, str | bytes | None] = {"summary.json": to_json(summary), "report.md": report}
    if not (folder / CARD).exists():
        contents[CARD] = card
    if trainer.run.validation is not None and options.validation is None:
        contents[TRIALS_FILE] = _trial_lines(trainer.run.validation.trials)
    if options.figures:
        title = f"Fine-tuning: {summary.model_name}"
        contents["report.html"] = page(title, report, folder, figures=figures)
        contents |= {path.relative_to(folder).as_posix(): c for path, c in figure_files(folder, figures).items()}
    return report, contents


def _trial_lines(trials: Trials) -> str:
    labels = np.asarray(trials.labels).astype(int)
    sides = zip(labels, trials.names[trials.enrolment], trials.names[trials.test], strict=True)
    return "".join(f"{label} {enrolment} {test}\n" for label, enrolment, test in sides)


def _summary(
    trainer: "Trainer",
    origin: Mapping[str, Any],
    lengths: Mapping[str, int],
    overlap: Mapping[Path, Sequence[str]],
    options: FinetuneOptions,
    invocation: Invocation,
) -> FinetuneSummary:
    run, progress, network = trainer.run, trainer.progress, trainer.network
    name = options.model_name or options.output_dir.resolve().name
    listed = {options.train: len(run.data.training) + len(run.data.held_out)} if options.train.is_file() else {}
    inputs = input_records(listed)
    weights = parameters_hash(network)
    signature = Signature.from_parts(
        suite="finetune",
        recipe=run.recipe_name,
        seed=invocation.seed,
        params=settings_hash(asdict(run.recipe)),
        data=data_hash(inputs) if inputs else run.key["data"][:8],
        model=weights,
    )
    common = provenance(
        invocation,
        inputs=inputs,
        parameters={"device": run.device, "dtype": run.dtype, "workers": run.workers},
        exclusions=exclusions(run.data.excluded),
        signature=signature,
        device=run.device,
    )
    return FinetuneSummary.from_common(
        common,
        model_name=name,
        architecture=run.config.model,
        dimension=run.config.dimension,
        n_parameters=sum(value.numel() for value in network.parameters()),
        init=dict(origin),
        recipe=run.recipe_name,
        settings=asdict(run.recipe),
        training=_data_summary(run.data.training, lengths),
        held_out=_data_summary(run.data.held_out, lengths) if run.data.held_out else None,
        overlap={output_path(path): list(names) for path, names in overlap.items()},
        processes=run.group.size,
        steps_per_epoch=trainer.steps,
        epochs=[EpochSummary(**asdict(epoch)) for epoch in progress.epochs],
        written_epoch=progress.written,
        weights_sha256=weights,
        validation=_validation_summary(trainer, options, invocation.seed),
    )


def _data_summary(utterances: Sequence[Utterance], lengths: Mapping[str, int]) -> DataSummary:
    seconds = sum(lengths[each.name] for each in utterances) / SAMPLE_RATE
    return DataSummary(
        n_clips=len(utterances),
        n_speakers=len({each.speaker for each in utterances}),
        hours=seconds / 3600,
        languages=sorted({each.language for each in utterances if each.language}),
    )


def _validation_summary(trainer: "Trainer", options: FinetuneOptions, seed: int) -> ValidationSummary | None:
    """Equal error rates of the initial and of the written weights, with intervals."""
    validation = trainer.run.validation
    if validation is None:
        return None
    after = validation.scored(trainer.encoder())
    trainer.network.load_state_dict(initial_network(options, seed)[1].state_dict())
    before = validation.scored(trainer.encoder())
    load_written_weights(options.output_dir, trainer.network)
    labels = np.asarray(validation.trials.labels)
    return ValidationSummary(
        source="held-out speakers" if options.validation is None else output_path(options.validation),
        n_target=int(labels.sum()),
        n_nontarget=int((~labels).sum()),
        rates=validation.compared(before, after),
    )
