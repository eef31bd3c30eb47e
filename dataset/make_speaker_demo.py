"""Make the demo data for speaker verification and probes: 24 synthetic voices, each in four languages.

A voice is a variant of espeak-ng with its own pitch, the same in all languages. Utterances of a voice differ in the
sentence and slightly in pitch and speed. The data demonstrate the tools and support no conclusions about people or
models.

Reads   nothing; requires espeak-ng (apt-get install espeak-ng)
Writes  dataset/speaker-demo/<voice>/<language>/<NN>.mp3
        dataset/speaker-demo/speakers.csv (path, speaker, gender, language)
        dataset/speaker-demo/case.csv (the clips for the CASE demo)
        dataset/speaker-demo/trials_crosslingual.txt (`1|0 enrolment test`, same-gender non-targets)
        dataset/speaker-demo/trials_language.txt (`1|0 enrolment test`: same or different language, of two voices)
        dataset/speaker-demo/tasks/<task>.toml and .csv (probe tasks: speaker across languages, language and tempo
        across speakers)

  uv run dataset/make_speaker_demo.py

The output is byte-identical for the same versions of espeak-ng and the libraries. The committed clips are from
espeak-ng 1.51.
"""

import argparse
import csv
import io
import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the script is one directory below the library

from earmark import cli
from earmark.errors import EarmarkError, MissingError

DEMO = Path(__file__).resolve().parent / "speaker-demo"
FloatArray = npt.NDArray[np.float32]

RATE = 16_000
MIN_SAMPLES, MAX_SAMPLES = 2 * RATE, 3 * RATE
PEAK = 0.7  # peak of every clip, because the variants differ in loudness; leaves headroom for MP3 overshoot
COMPRESSION = 0.7  # VBR quality from 0 (best) to 1 (smallest): about 10 kB per clip
UTTERANCES = 2  # per voice and language
SPEED_RANGE, REFERENCE_SPEED = (165, 190), 177  # words per minute
PITCH_VARIATION = 4  # on espeak-ng's scale from 0 to 99
NON_TARGETS = 1000  # same-language, and as many cross-language
LANGUAGE_PARTNERS = 2  # voices that each voice is compared with in the language trials
CASE_LANGUAGES = ("en", "de")  # half of the clips, so that simulating 24 conditions takes about a minute
FOLDS = 4  # of the language task; each voice is in one fold
VOICE_SPLITS = ("train", "train", "valid", "test")  # of the tempo task, for the voices of a gender in turn
LANGUAGE_SPLITS = {"en": "train", "de": "train", "fr": "valid", "es": "test"}  # of the voice task

# Probe tasks; each has a manifest of the same name.
TASKS = {
    "voice": """\
# Speaker identification across languages: training in English and German, validation in French, test in Spanish.
name = "voice"
type = "clip"
metric = "accuracy"
data = "voice.csv"
domain = "speech"
epochs = 100
""",
    "language": """\
# Language identification on unseen speakers.
name = "language"
type = "clip"
metric = "accuracy"
data = "language.csv"
domain = "speech"
epochs = 50
""",
    "tempo": """\
# Speaking rate on unseen speakers, in per cent relative to 177 words per minute.
name = "tempo"
type = "regression"
metric = "mse"
data = "tempo.csv"
domain = "speech"
epochs = 100
""",
}
TABLES = (
    "speakers.csv",
    "case.csv",
    "trials_crosslingual.txt",
    "trials_language.txt",
    *(f"tasks/{name}.{suffix}" for name in TASKS for suffix in ("toml", "csv")),
)

# {variant of espeak-ng: pitch}. Variants also differ in formants, breathiness and roughness.
VOICES = {
    "m": {
        "m1": 50, "m2": 62, "m3": 38, "m5": 70, "m7": 44, "m8": 55,
        "croak": 30, "Andy": 64, "Denis": 34, "Hugo": 58, "Mario": 46, "paul": 66,
    },
    "f": {
        "f1": 40, "f2": 56, "f3": 34, "f4": 66, "f5": 48, "Alicia": 38,
        "Andrea": 52, "Annie": 62, "anika": 44, "aunty": 36, "belinda": 60, "steph": 54,
    },
}  # fmt: skip

# {language: sentences}. A clip gets the first sentence, in random order, that takes two to three seconds.
SENTENCES = {
    "en": (
        "Please remember to water the plants on Sunday.",
        "The last train to the coast leaves at nine.",
        "We found the old map under a pile of books.",
        "My neighbour paints his fence every other spring.",
        "A cold wind was blowing over the empty market.",
        "There is fresh bread on the table in the kitchen.",
        "She walked along the river until it got dark.",
        "He forgot his umbrella at the office again.",
    ),
    "de": (
        "Bitte vergiss nicht, am Sonntag die Blumen zu gießen.",
        "Der letzte Zug an die Küste fährt um neun.",
        "Wir fanden die alte Karte unter den Büchern.",
        "Mein Nachbar streicht jedes Jahr seinen Zaun.",
        "Ein kalter Wind wehte über den leeren Markt.",
        "Auf dem Tisch in der Küche liegt frisches Brot.",
        "Sie ging am Fluss entlang, bis es dunkel wurde.",
        "Er hat seinen Schirm wieder im Büro vergessen.",
    ),
    "fr": (
        "N'oublie pas d'arroser les plantes dimanche matin.",
        "Le dernier train pour la côte part à neuf heures.",
        "Nous avons trouvé la vieille carte sous les livres.",
        "Mon voisin repeint sa clôture tous les deux ans.",
        "Un vent froid soufflait sur le marché désert.",
        "Il y a du pain frais sur la table de la cuisine.",
        "Elle a longé la rivière jusqu'à la tombée du jour.",
        "Il a encore oublié son parapluie au bureau.",
    ),
    "es": (
        "Por favor, no olvides regar las plantas el domingo.",
        "El último tren a la costa sale a las nueve.",
        "Encontramos el viejo mapa debajo de los libros.",
        "Mi vecino pinta la valla cada primavera.",
        "Un viento frío soplaba sobre el mercado vacío.",
        "Hay pan recién hecho en la mesa de la cocina.",
        "Ella caminó junto al río hasta que se hizo de noche.",
        "Otra vez ha olvidado su paraguas en la oficina.",
    ),
}


@dataclass(frozen=True)
class Clip:
    """An utterance; `path` is below DEMO, `tempo` in words per minute."""

    path: str
    speaker: str
    gender: str
    language: str
    tempo: int
    samples: FloatArray

    @property
    def row(self) -> tuple[str, str, str, str]:
        return self.path, self.speaker, self.gender, self.language


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(cli.argument_parser(__doc__ or "", make), __file__, argv)


def make(arguments: argparse.Namespace, invocation: cli.Invocation) -> int:
    """Synthesise all clips and write clips, lists and tasks."""
    if shutil.which("espeak-ng") is None:
        raise MissingError(
            "espeak-ng: not found. Install it with `apt-get install espeak-ng` and run the script again."
        )
    rng = invocation.generator()
    clips = list(synthesise_clips(rng))
    trials = list(trial_lines(clips, rng))
    refuse_other_data(clips)
    shutil.rmtree(DEMO, ignore_errors=True)
    size = sum(map(write_clip, clips))
    write_table("speakers.csv", clips)
    write_table("case.csv", [clip for clip in clips if clip.language in CASE_LANGUAGES])
    (DEMO / "trials_crosslingual.txt").write_text("".join(trials), encoding="utf-8", newline="\n")
    (DEMO / "trials_language.txt").write_text("".join(language_trials(clips)), encoding="utf-8", newline="\n")
    write_tasks(clips)
    voices = len({clip.speaker for clip in clips})
    cli.show(f"speaker-demo: {voices} voices, {len(clips)} clips, {size / 1e6:.2f} MB, {len(trials):,} trials")
    return 0


def write_table(name: str, clips: Sequence[Clip]) -> None:
    with (DEMO / name).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "speaker", "gender", "language"))
        table.writerows(clip.row for clip in clips)


def write_tasks(clips: Sequence[Clip]) -> None:
    """Write the probe tasks; paths in manifests are relative to the directory of the tasks."""
    folder = DEMO / "tasks"
    folder.mkdir()
    voices = {variant.lower(): turn for variants in VOICES.values() for turn, variant in enumerate(variants)}
    rows: dict[str, list[tuple[object, ...]]] = {
        "voice": [("path", "label", "split")],
        "language": [("path", "label", "fold", "group")],
        "tempo": [("path", "label", "split", "group")],
    }
    for clip in clips:
        path, turn = f"../{clip.path}", voices[clip.speaker]
        rows["voice"].append((path, clip.speaker, LANGUAGE_SPLITS[clip.language]))
        rows["language"].append((path, clip.language, turn % FOLDS + 1, clip.speaker))
        percent = round(100 * (clip.tempo / REFERENCE_SPEED - 1), 1)
        rows["tempo"].append((path, percent, VOICE_SPLITS[turn % len(VOICE_SPLITS)], clip.speaker))
    for name, text in TASKS.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8", newline="\n")
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows[name])


def synthesise_clips(rng: np.random.Generator) -> Iterator[Clip]:
    """Synthesise every voice in every language; a voice says each sentence at most once."""
    for gender, voices in VOICES.items():
        for (variant, pitch), (language, sentences) in itertools.product(voices.items(), SENTENCES.items()):
            texts = iter(map(str, rng.permutation(sentences)))
            for number in range(UTTERANCES):
                path = f"{variant.lower()}/{language}/{number:02d}.mp3"
                setting = int(rng.integers(pitch - PITCH_VARIATION, pitch + PITCH_VARIATION + 1))
                tempo = int(rng.integers(*SPEED_RANGE))
                samples = fitting_samples(texts, f"{language}+{variant}", tempo, setting)
                if samples is None:
                    raise EarmarkError(f"{path}: no remaining sentence takes 2 to 3 s.")
                yield Clip(path, variant.lower(), gender, language, tempo, samples)


def fitting_samples(texts: Iterator[str], voice: str, speed: int, pitch: int) -> FloatArray | None:
    """Synthesise the first of the sentences that takes two to three seconds; None if there is none."""
    candidates = (speak(text, voice, speed, pitch) for text in texts)
    return next((samples for samples in candidates if MIN_SAMPLES <= len(samples) <= MAX_SAMPLES), None)


def speak(text: str, voice: str, speed: int, pitch: int) -> FloatArray:
    """Synthesise a sentence at 16 kHz, normalised to PEAK."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    spoken = subprocess.run(command, capture_output=True, check=False)
    if spoken.returncode:
        raise EarmarkError(f"espeak-ng: cannot synthesise voice {voice} ({spoken.stderr.decode().strip()})")
    samples, rate = soundfile.read(io.BytesIO(spoken.stdout), dtype="float32")
    resampled: FloatArray = soxr.resample(samples, rate, RATE)
    return resampled * np.float32(PEAK / np.abs(resampled).max())


def trial_lines(clips: Sequence[Clip], rng: np.random.Generator) -> Iterator[str]:
    """All target trials, then NON_TARGETS same-language and as many cross-language non-target trials."""
    pairs = list(itertools.combinations(clips, 2))
    for a, b in pairs:
        if a.speaker == b.speaker:
            yield f"1 {a.path} {b.path}\n"
    for same_language in (True, False):
        matching = [
            (a, b)
            for a, b in pairs
            if a.speaker != b.speaker and a.gender == b.gender and (a.language == b.language) == same_language
        ]
        for chosen in sorted(rng.choice(len(matching), NON_TARGETS, replace=False)):
            a, b = matching[chosen]
            yield f"0 {a.path} {b.path}\n"


def language_trials(clips: Sequence[Clip]) -> Iterator[str]:
    """First utterances of each voice and the next LANGUAGE_PARTNERS of its gender; 1 for the same language."""
    first = [clip for clip in clips if clip.path.endswith("/00.mp3")]
    for gender in dict.fromkeys(clip.gender for clip in first):
        voices = list(dict.fromkeys(clip.speaker for clip in first if clip.gender == gender))
        for turn, partner in itertools.product(range(len(voices)), range(1, LANGUAGE_PARTNERS + 1)):
            pair = voices[turn], voices[(turn + partner) % len(voices)]
            for a, b in itertools.product(*([clip for clip in first if clip.speaker == voice] for voice in pair)):
                yield f"{int(a.language == b.language)} {a.path} {b.path}\n"


def refuse_other_data(clips: Sequence[Clip]) -> None:
    """Refuse to overwrite files that are not from the demo."""
    own = {DEMO / clip.path for clip in clips} | {DEMO / name for name in TABLES}
    if not own.issuperset(path for path in DEMO.rglob("*") if path.is_file()):
        raise EarmarkError("dataset/speaker-demo: contains files that are not from the demo. Move the directory first.")


def write_clip(clip: Clip) -> int:
    """Write the MP3; return its size in bytes."""
    target = DEMO / clip.path
    target.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(target, clip.samples, RATE, format="MP3", compression_level=COMPRESSION)
    return target.stat().st_size


if __name__ == "__main__":
    sys.exit(main())
