"""Fine-tuning of a speaker encoder with finetune_speaker.py on the device and on the CPU."""

import contextlib
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import soundfile

import finetune_speaker
from earmark.models.encoders.conformance.encoder_under_test import synthetic_voice
from earmark.speaker.finetune.loop import Trainer
from perf.gpu_parts.common import Context, Figure, within
from perf.gpu_parts.models import RATE, SIMAM, load

SPEAKERS, UTTERANCES, EPOCHS = 6, 4, 2
LOSS_TOLERANCE = 1e-2  # of losses after some steps, relative; cuDNN sums gradients in another order


@dataclass
class StepTimes:
    """Seconds of each step, and segments of the last one."""

    seconds: list[float] = field(default_factory=list)
    segments: int = 0


def fine_tuning(context: Context) -> Iterator[Figure]:
    """Loss of each epoch and time of a step."""
    load(context, SIMAM, "cpu")  # writes the checkpoint
    write_speakers(context)
    expected, _ = train(context, "cpu", "float32")
    for dtype, tolerance in (("float32", LOSS_TOLERANCE), ("bfloat16", 0.05), ("float16", 0.05)):
        if dtype == "float16" and not context.on_gpu:
            continue  # scaled gradients are for GPUs
        losses, times = train(context, context.device, dtype)
        gap = float(np.max(np.abs(losses - expected) / expected))
        yield within("fine-tuning", f"{SIMAM}, {dtype}", "difference of losses, relative", gap, tolerance)
        rate = times.segments / float(np.median(times.seconds[1:]))
        yield Figure("fine-tuning", f"{SIMAM}, {dtype}", "steps alone", rate, "clips/s")


def write_speakers(context: Context) -> None:
    """Clips spk<i>/<n>.wav, with one synthetic voice per speaker at several levels and lengths."""
    seconds = 0.7 if context.sizes.small else 3.0
    for speaker in range(SPEAKERS):
        folder = context.folder / "speakers" / f"spk{speaker}"
        folder.mkdir(parents=True)
        for number in range(UTTERANCES):
            voice = synthetic_voice(seconds + 0.1 * number, RATE, speaker)
            soundfile.write(folder / f"{number}.wav", np.roll(voice, 999 * number), RATE)


def train(context: Context, device: str, dtype: str) -> tuple[Any, StepTimes]:
    """Run finetune_speaker.py; losses of the epochs, and times of the steps."""
    output = context.folder / f"tuned-{device.replace(':', '')}-{dtype}-{time.monotonic_ns()}"
    times, step = StepTimes(), Trainer._step

    def timed_step(trainer: Trainer, model: Any, features: Any, labels: Any, rate: float) -> Any:
        started = time.perf_counter()
        result = step(trainer, model, features, labels, rate)  # reads the loss, so the GPU has finished
        times.seconds.append(time.perf_counter() - started)
        times.segments = len(features)
        return result

    segment, batch = (40, 4) if context.sizes.small else (200, 8)
    settings = [f"segment_frames={segment}", f"min_frames={segment // 2}", f"batch_size={batch}", f"epochs={EPOCHS}"]
    command = ["--init", context.built[SIMAM], "--train", context.folder / "speakers", "--output-dir", output]
    command += ["--device", device, "--dtype", dtype, "--seed", context.seed, "--workers", 2]
    command += ["--no-figures", "--quiet", "--set", *settings, "learning_rate=0.001,0.0005"]
    captured = io.StringIO()
    with patch.object(Trainer, "_step", timed_step), contextlib.redirect_stdout(captured):
        code = finetune_speaker.main(list(map(str, command)))
    if code:
        raise RuntimeError(f"finetune_speaker.py ended with exit code {code}")
    losses = pd.read_csv(output / "log.csv").loss.dropna().to_numpy()
    return losses, times
