"""Make the demo data set: synthetic speech with the ratings of simulated raters.

Every clip is a short sentence synthesised with espeak-ng. Every rating is drawn from a model of the voice settings; no
human rated the clips. The data demonstrate the tools and support no conclusions about people, emotions or models.

Reads   nothing; requires espeak-ng (apt-get install espeak-ng)
Writes  dataset/emolia-emo/data/<Emotion>_best/<stem>.{mp3,json}
        dataset/emolia-dim/data/<DIM>/<level>/<polarity>/sample_NN.{mp3,json}, dataset/emolia-dim/variables.json
        annotations_raw/<subset>/{annotations,users[,flags]}.csv, the input of anonymize.py

  uv run dataset/make_demo.py

The output is byte-identical for the same versions of espeak-ng and the libraries. The committed clips are from
espeak-ng 1.51.
"""

import argparse
import csv
import io
import json
import math
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the script is one directory below the library

from earmark import cli
from earmark.annotation.subsets import subsets
from earmark.errors import EarmarkError, MissingError

ROOT = Path(__file__).resolve().parents[1]
FloatArray = npt.NDArray[np.float32]
Row = dict[str, str | int | bool]

RATE = 16_000
MIN_SAMPLES, MAX_SAMPLES, FADE_SAMPLES = 2 * RATE, 3 * RATE, RATE // 20
HEADROOM = 0.9  # the same gain for every clip: preserves loudness differences and keeps MP3 overshoot below 1
COMPRESSION = 0.6  # VBR quality from 0 (best) to 1 (smallest): about 12 kB per clip

VARIANTS = ("m1", "f2", "m3", "f3", "m4", "f1", "m7", "f4")
# "en" is British English; espeak-ng 1.51 ignores the variant for its other name, "en-gb".
BASE_VOICES = {"en": ("en-us", "en", "en-gb-x-rp", "en-029"), "de": ("de",), "fr": ("fr",), "es": ("es",)}

# label: directory, (speed in words per minute, pitch 0 to 99, amplitude 0 to 200), sentences with their language
EMOTIONS: dict[str, tuple[str, tuple[int, int, int], list[tuple[str, str]]]] = {
    "Joy": ("Joy_best", (185, 75, 110), [
        ("en", "We won, we really won, I can't believe it!"),
        ("en", "This is the best birthday I have ever had!"),
        ("en", "Look, the sun is out, let's all go swimming!"),
        ("de", "Endlich Ferien, ich freue mich so sehr!"),
        ("es", "¡Qué alegría verte aquí con todos nosotros!"),
    ]),
    "Sadness": ("Sadness_best", (120, 25, 45), [
        ("en", "The house is empty now."),
        ("en", "I miss her every day."),
        ("en", "Nobody came to say goodbye."),
        ("fr", "Il ne reviendra plus jamais."),
        ("de", "Ich bin so allein ohne dich."),
    ]),
    "Anger": ("Anger_best", (205, 45, 145), [
        ("en", "I told you a hundred times, do not touch my things!"),
        ("en", "Get out of my kitchen, and don't you dare come back!"),
        ("en", "You lied to me again, and you are not even sorry!"),
        ("en", "Stop shouting at me, this whole mess is your fault!"),
        ("fr", "Ça suffit maintenant, sortez d'ici tout de suite!"),
    ]),
    "Fear": ("Fear_best", (225, 88, 60), [
        ("en", "There is somebody in the house, please don't make a sound!"),
        ("en", "Did you hear that, it is right behind the cellar door!"),
        ("en", "Please hurry, the ice is breaking and I can't hold on!"),
        ("en", "Don't leave me down here, I can't see anything at all!"),
        ("es", "¡Por favor, no abras la puerta, hay alguien ahí fuera!"),
    ]),
    "Affection": ("Affection_best", (145, 60, 50), [
        ("en", "Come here, my dear, sit with me."),
        ("en", "Sleep well, little one, I love you."),
        ("en", "You mean the whole world to me."),
        ("fr", "Je t'aime de tout mon cœur, ma chérie."),
        ("de", "Schlaf gut, mein Schatz, ich bin ja da."),
    ]),
    "Jealousy___Envy": ("Jealousy_&_Envy_best", (165, 35, 85), [
        ("en", "Of course she gets the corner office again."),
        ("en", "Why does everyone always look at him first?"),
        ("en", "He bought another boat, it must be nice."),
        ("en", "You smile at her in a way you never smile at me."),
        ("es", "Ella siempre lo consigue todo y yo nada."),
    ]),
}  # fmt: skip

NEUTRAL_SENTENCES = (
    "The train is late.",
    "Please close the door.",
    "We keep bread here.",
    "The shop opens again at nine.",
    "There are three boats in the harbour.",
    "The kettle is on the stove by the window.",
    "He wrote the address on a piece of paper.",
    "Our meeting was moved to Thursday morning.",
    "A ticket to the coast costs eleven pounds.",
    "The library is behind the old town hall.",
    "My neighbour grows tomatoes and beans on her balcony.",
    "The second bus to the station leaves from the other side.",
    "You can leave the boxes in the hall until the van comes back.",
    "The museum is free on Sundays, but the garden closes at four o'clock in winter.",
    "They painted the fence green last summer, and this year they want to paint the gate as well.",
)
NEUTRAL_SETTINGS = {"speed_wpm": 165, "pitch": 50, "amplitude": 70}

# dimension: voice setting, and its values at levels 0 to 6
SCALES = {
    "TEMP": ("speed_wpm", (80, 105, 135, 165, 210, 270, 350)),
    "LOUD": ("amplitude", (8, 16, 30, 55, 85, 120, 160)),
    "PTCH": ("pitch", (0, 15, 32, 50, 66, 82, 99)),
}
SIMILAR_VARIANTS = {
    "PTCH": ("m1", "m3", "m7"),
    "LOUD": ("m1", "f2", "m3", "f3"),
}  # variants of similar pitch and of similar loudness
RATED_LEVELS, MIN_LEVEL_DISTANCE = (1, 3, 5), 3
ACCENTS = {
    "British": ("en", "en-gb-x-rp"),
    "American": ("en-us",),
    "Scottish": ("en-gb-scotland",),
    "Caribbean": ("en-029",),
}
RATED_ACCENTS = ("British", "American", "Scottish")
CONFUSABLE_ACCENTS = {"British", "Scottish"}

LEVELS = "0123456"
RUBRIC: dict[str, dict[str, str | dict[str, str]]] = {
    "TEMP": {
        "short_description": "Tempo",
        "long_description": "How fast the speaker talks, from dragging to rushing.",
        "levels": dict(zip(LEVELS, (
            "The speaker drags every word out, so slowly that the sentence almost falls apart.",
            "The speaker talks very slowly, with long gaps between words.",
            "The speaker talks a little slowly, taking time over each word.",
            "The speaker talks at an ordinary, conversational pace.",
            "The speaker talks somewhat fast, with hardly a pause.",
            "The speaker talks very fast, one word running into the next.",
            "The speaker rushes at breakneck speed, and words can barely be told apart.",
        ), strict=False)),
    },
    "LOUD": {
        "short_description": "Loudness",
        "long_description": "How loud the voice is, from barely audible to shouting.",
        "levels": dict(zip(LEVELS, (
            "The voice is barely audible, close to silence.",
            "The voice is very quiet, as if not to wake anyone.",
            "The voice is rather soft, quieter than in ordinary talk.",
            "The voice has the loudness of an ordinary conversation.",
            "The voice is somewhat loud, as if speaking across a room.",
            "The voice is very loud, as if speaking over traffic.",
            "The voice is as loud as it can be, a full shout.",
        ), strict=False)),
    },
    "PTCH": {
        "short_description": "Pitch",
        "long_description": "How high the voice lies, from a deep rumble to a squeak.",
        "levels": dict(zip(LEVELS, (
            "The voice is extremely deep, a rumble.",
            "The voice is very low and deep.",
            "The voice is slightly lower than usual.",
            "The voice has a middle pitch, neither low nor high.",
            "The voice is slightly higher than usual.",
            "The voice is very high and thin.",
            "The voice is extremely high, almost a squeak.",
        ), strict=False)),
    },
    "ACCT": {
        "short_description": "Accent",
        "long_description": "The variety of English that the speaker's pronunciation points to.",
        "levels": {
            "British": "The speaker has a southern British English accent.",
            "American": "The speaker has a North American English accent.",
            "Scottish": "The speaker has a Scottish English accent.",
            "Caribbean": "The speaker has a Caribbean English accent.",
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Rater:
    """A simulated rater.

    Attributes
    ----------
    handle : str
    bias : float
        Log-odds added towards "present".
    attention : float
        Weight of the evidence in the clip.
    reaction_ms : int
        Median reaction time.
    share : dict
        {subset: relative frequency of ratings}.
    demographics : dict
    """

    handle: str
    bias: float
    attention: float
    reaction_ms: int
    share: dict[str, float]
    demographics: dict[str, str | int]


DEMOGRAPHICS = ("age", "gender", "languages", "listening_setup", "degree", "expertise")
RATERS = [
    Rater(
        handle,
        bias,
        attention,
        reaction_ms,
        {"emolia-emo": emo, "emolia-dim": dim},
        dict(zip(DEMOGRAPHICS, values, strict=False)),
    )
    for handle, bias, attention, reaction_ms, emo, dim, values in (
        ("rater-cobalt", 0.7, 1.8, 1400, 0.32, 0.28, (34, "female", "English, German", "headphones", "master", 5)),
        ("rater-umber", -0.7, 1.8, 2100, 0.32, 0.28, (41, "male", "English", "headphones", "doctorate", 6)),
        ("rater-sienna", 0.1, 1.0, 1700, 0.32, 0.28, (29, "female", "English, Spanish", "loudspeakers", "bachelor", 3)),
        ("rater-ochre", 0.0, 0.1, 380, 0.04, 0.16, (29, "male", "English, French", "headphones", "bachelor", 2)),
    )
]
RATERS_PER_ITEM = {3: 0.66, 2: 0.26, 1: 0.08}  # {number of raters: probability}
CUTS = {"emolia-emo": (0.0, 1.7), "emolia-dim": (0.0,)}  # thresholds between ratings on the latent scale
BEGIN = {"emolia-emo": datetime(2026, 5, 9, 17, 37, 58), "emolia-dim": datetime(2026, 5, 16, 18, 4, 21)}
RERATED = (5, 41)  # rows that the rater rates again, differently

# (path below data/, reason)
FLAGS = (
    ("LOUD/1/positive/sample_01.mp3", "Very faint, I had to turn the volume up"),
    ("ACCT/Scottish/negative/sample_00.mp3", "Could be more than one accent"),
    ("TEMP/5/positive/sample_00.mp3", "Words run together, the end is hard to follow"),
)


@dataclass(frozen=True)
class Voice:
    """Settings of espeak-ng."""

    speaker: str
    speed_wpm: int
    pitch: int
    amplitude: int


@dataclass(frozen=True)
class Clip:
    """A synthesised sentence; `path` is below dataset/<subset>/data/, without suffix."""

    path: str
    text: str
    language: str
    voice: Voice
    samples: FloatArray = field(repr=False)

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE


@dataclass(frozen=True)
class Item:
    """An item to rate: its columns in annotations.csv, and the log-odds of "present" given the clip."""

    columns: dict[str, str]
    clip: Clip
    evidence: float


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(cli.argument_parser(__doc__ or "", make), __file__, argv)


def make(arguments: argparse.Namespace, invocation: cli.Invocation) -> int:
    """Make clips, then items, then ratings, and write them."""
    if shutil.which("espeak-ng") is None:
        raise MissingError(
            "espeak-ng: not found. Install it with `apt-get install espeak-ng` and run the script again."
        )
    rng = invocation.generator()
    clips = {"emolia-emo": list(emotion_clips(rng)), "emolia-dim": list(dimension_clips(rng))}
    refuse_other_data(clips)
    items = {"emolia-emo": emotion_items(clips["emolia-emo"], rng), "emolia-dim": dimension_items(clips["emolia-dim"])}
    ratings = {subset: simulate_ratings(subset, rated, rng) for subset, rated in items.items()}
    for subset, rows in ratings.items():
        size = sum(write_clip(subset, clip) for clip in clips[subset])
        write_table(subset, "annotations", rows)
        write_table(subset, "users", users(subset, rows))
        counts = f"{len(clips[subset])} clips, {len(items[subset])} items, {len(rows)} ratings"
        cli.show(f"{subset}: {counts}, {size / 1e6:.2f} MB")
    write_table("emolia-dim", "flags", flags(ratings["emolia-dim"]))
    write_json(ROOT / "dataset" / "emolia-dim" / "variables.json", RUBRIC)
    return 0


def speak(text: str, voice: Voice) -> FloatArray:
    """Synthesise a sentence at 16 kHz."""
    settings = ("-v", voice.speaker, "-s", voice.speed_wpm, "-p", voice.pitch, "-a", voice.amplitude)
    spoken = subprocess.run(["espeak-ng", *map(str, settings), "--stdout", text], capture_output=True, check=False)
    if spoken.returncode:
        raise EarmarkError(f"espeak-ng: cannot synthesise voice {voice.speaker} ({spoken.stderr.decode().strip()})")
    samples, rate = soundfile.read(io.BytesIO(spoken.stdout), dtype="float32")
    resampled: FloatArray = soxr.resample(samples, rate, RATE)
    return resampled * np.float32(HEADROOM)


def trim(samples: FloatArray) -> FloatArray:
    """Pad to at least two seconds; cut to at most three with a fade-out."""
    if len(samples) <= MAX_SAMPLES:
        return np.pad(samples, (0, max(0, MIN_SAMPLES - len(samples))))
    fade = np.linspace(1, 0, FADE_SAMPLES, dtype=np.float32)
    return np.concatenate(
        [samples[: MAX_SAMPLES - FADE_SAMPLES], samples[MAX_SAMPLES - FADE_SAMPLES : MAX_SAMPLES] * fade]
    )


def emotion_clips(rng: np.random.Generator) -> Iterator[Clip]:
    """Synthesise each sentence once, with random settings around those of its emotion."""
    number = 0
    for folder, (speed, pitch, amplitude), sentences in EMOTIONS.values():
        for language, text in sentences:
            speaker = f"{rng.choice(BASE_VOICES[language])}+{VARIANTS[number % len(VARIANTS)]}"
            voice = Voice(
                speaker,
                speed_wpm=round(speed * rng.uniform(0.92, 1.08)),
                pitch=round(np.clip(pitch + rng.uniform(-10, 10), 0, 99)),
                amplitude=round(min(160, amplitude * rng.uniform(0.8, 1.25))),
            )
            stem = f"{language.upper()}_demo_{number:05d}"
            yield Clip(f"{folder}/{stem}", text, language, voice, trim(speak(text, voice)))
            number += 1


def dimension_clips(rng: np.random.Generator) -> Iterator[Clip]:
    """Synthesise two clips at each rated level, and two at clearly different levels."""
    for dimension in SCALES:
        for rated in RATED_LEVELS:
            distant_levels = [level for level in range(7) if abs(level - rated) >= MIN_LEVEL_DISTANCE]
            for polarity, levels in (("positive", [rated, rated]), ("negative", distant_levels)):
                for number, level in enumerate(rng.choice(levels, 2, replace=polarity == "positive")):
                    path = f"{dimension}/{rated}/{polarity}/sample_{number:02d}"
                    yield fitting_clip(path, level_voice(dimension, int(level), rng), rng)
    for rated_accent in RATED_ACCENTS:
        others = [accent for accent in ACCENTS if accent != rated_accent]
        for polarity, accents in (("positive", [rated_accent] * 2), ("negative", others)):
            for number, accent in enumerate(rng.choice(accents, 2, replace=False)):
                path = f"ACCT/{rated_accent}/{polarity}/sample_{number:02d}"
                speaker = f"{rng.choice(ACCENTS[str(accent)])}+{rng.choice(VARIANTS)}"
                yield fitting_clip(path, Voice(speaker, **neutral_settings(rng)), rng)


def neutral_settings(rng: np.random.Generator) -> dict[str, int]:
    """Neutral settings with a small random variation."""
    return {setting: round(value * rng.uniform(0.93, 1.07)) for setting, value in NEUTRAL_SETTINGS.items()}


def level_voice(dimension: str, level: int, rng: np.random.Generator) -> Voice:
    """A voice near this level of the dimension, neutral in the others."""
    setting, values = SCALES[dimension]
    speaker = f"{rng.choice(BASE_VOICES['en'][:2])}+{rng.choice(SIMILAR_VARIANTS.get(dimension, VARIANTS))}"
    value = round(float(np.interp(level + rng.uniform(-0.35, 0.35), range(7), values)))
    return Voice(speaker, **(neutral_settings(rng) | {setting: value}))


def fitting_clip(path: str, voice: Voice, rng: np.random.Generator) -> Clip:
    """Synthesise the first neutral sentence, in random order, that takes two to three seconds."""
    for text in map(str, rng.permutation(NEUTRAL_SENTENCES)):
        samples = speak(text, voice)
        if MIN_SAMPLES <= len(samples) <= MAX_SAMPLES:
            return Clip(path, text, "en", voice, samples)
    raise EarmarkError(
        f"{path}: no sentence in NEUTRAL_SENTENCES takes 2 to 3 s at {voice.speed_wpm} words per minute."
    )


def emotion_items(clips: list[Clip], rng: np.random.Generator) -> list[Item]:
    """Items of each clip: its own emotion and one to three others, similar (contrastive) or dissimilar."""
    labels = {folder: label for label, (folder, _, _) in EMOTIONS.items()}
    items = []
    for number, clip in enumerate(clips):
        own = labels[clip.path.split("/")[0]]
        nearest = sorted(EMOTIONS, key=lambda label: prosody_distance(EMOTIONS[own][1], EMOTIONS[label][1]))
        tasks = dict(zip(("affirmative", "contrastive_1", "contrastive_2"), nearest, strict=False))
        tasks |= {"penultimate": nearest[-2], "ultimate": nearest[-1]}
        for task in ("affirmative", *rng.choice(list(tasks)[1:], number % 3 + 1, replace=False)):
            file_name = f"{Path(clip.path).name}.mp3"
            columns = dict(zip(COLUMNS["emolia-emo"], (own, tasks[task], str(task), file_name), strict=False))
            items.append(Item(columns, clip, emotion_evidence(clip, tasks[task], own)))
    return items


def prosody_distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Distance between two (speed, pitch, amplitude), in approximately equal perceptual steps."""
    loudness = math.log2(a[2] / b[2]) / 0.8
    return math.hypot((a[0] - b[0]) / 40, (a[1] - b[1]) / 25, loudness)


def emotion_evidence(clip: Clip, queried: str, own: str) -> float:
    """Log-odds of an emotion given the voice settings and the emotion of the sentence."""
    voice = clip.voice
    distance = prosody_distance((voice.speed_wpm, voice.pitch, voice.amplitude), EMOTIONS[queried][1])
    return 0.6 - 0.9 * distance + (1.2 if queried == own else 0.0)


def dimension_items(clips: list[Clip]) -> list[Item]:
    """One item per clip: the dimension and level in its path."""
    items = []
    for clip in clips:
        columns = dict(zip(COLUMNS["emolia-dim"], f"{clip.path}.mp3".split("/"), strict=False))
        items.append(Item(columns, clip, level_evidence(clip.voice, columns["dimension"], columns["level"])))
    return items


def level_evidence(voice: Voice, dimension: str, rated: str) -> float:
    """Log-odds of a level given the voice settings."""
    if dimension in SCALES:
        setting, values = SCALES[dimension]
        return 1.9 - 1.3 * abs(float(np.interp(getattr(voice, setting), values, range(7))) - int(rated))
    accent = next(name for name, bases in ACCENTS.items() if voice.speaker.split("+")[0] in bases)
    if accent == rated:
        return 1.6
    return -0.6 if {accent, rated} == CONFUSABLE_ACCENTS else -1.6


def vote(evidence: float, rater: Rater, cuts: Sequence[float], rng: np.random.Generator) -> int:
    """Draw a rating, as a position on the scale.

    The latent variable is attention · evidence + bias + logistic noise. The probability of exceeding the cut at 0, and
    so of "present", is therefore the logistic function of attention · evidence + bias.
    """
    latent = rater.attention * evidence + rater.bias + rng.logistic()
    return sum(latent > cut for cut in cuts)


COLUMNS = {
    "emolia-emo": ("source_emotion", "queried_emotion", "task_type", "file_name"),
    "emolia-dim": ("dimension", "level", "polarity", "file_name"),
}


def simulate_ratings(subset: str, items: list[Item], rng: np.random.Generator) -> list[Row]:
    """Simulate the rows of annotations.csv, in chronological order: one to three raters per item, two rated again."""
    scale = subsets()[subset].levels
    shares = [rater.share[subset] for rater in RATERS]
    clock = {rater.handle: BEGIN[subset] + timedelta(hours=21 * number) for number, rater in enumerate(RATERS)}
    rows: list[Row] = []

    def add_rating(item: Item, rater: Rater, rating: str) -> None:
        reaction = int(rng.lognormal(math.log(rater.reaction_ms), 0.45))
        listening = int(item.clip.seconds * 1000 + rng.integers(0, 40))
        clock[rater.handle] += timedelta(milliseconds=listening + reaction + int(rng.integers(800, 6000)))
        times: Row = {
            "reaction_time_ms": reaction,
            "sample_time_ms": listening,
            "created_at": stamp(clock[rater.handle]),
        }
        name = "/".join((subset, rater.handle, *item.columns.values(), str(times["created_at"])))
        identity: Row = {"annotation_id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)), "username": rater.handle}
        rows.append({**identity, **item.columns, "rating": rating, **times})

    drawn = []
    for index in rng.permutation(len(items)):
        count = int(rng.choice(list(RATERS_PER_ITEM), p=list(RATERS_PER_ITEM.values())))
        for chosen in rng.choice(len(RATERS), count, replace=False, p=shares):
            position = vote(items[index].evidence, RATERS[chosen], CUTS[subset], rng)
            drawn.append((items[index], RATERS[chosen], position))
            add_rating(items[index], RATERS[chosen], scale[position])
    for item, rater, position in (drawn[row] for row in RERATED):
        add_rating(item, rater, scale[(position + 1) % len(scale)])
    return sorted(rows, key=lambda row: (str(row["created_at"]), str(row["annotation_id"])))


def users(subset: str, rows: list[Row]) -> list[Row]:
    """Rows of users.csv."""
    counts = Counter(row["username"] for row in rows)
    table: list[Row] = []
    for number, rater in enumerate(RATERS):
        state: Row = {"username": rater.handle, "is_active": True, "is_admin": number == 0, "onboarded": True}
        joined = stamp(BEGIN["emolia-emo"] - timedelta(days=5 - number, minutes=17 * number))
        activity: Row = {"annotation_count": counts[rater.handle], "created_at": joined}
        table.append({**state, **activity, **rater.demographics, "consent": True})
    return table


def flags(rows: list[Row]) -> list[Row]:
    """Rows of flags.csv: each clip is flagged by its first rater."""
    flagged = []
    for path, reason in FLAGS:
        columns = dict(zip(COLUMNS["emolia-dim"], path.split("/"), strict=False))
        rating = next(row for row in rows if columns.items() <= row.items())
        flag: Row = {"flag_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"flag/{path}")), "username": rating["username"]}
        flagged.append(flag | columns | {"reason": reason, "created_at": rating["created_at"]})
    return flagged


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def refuse_other_data(clips: dict[str, list[Clip]]) -> None:
    """Refuse to overwrite clips or ratings that are not from the demo."""
    handles = {rater.handle for rater in RATERS}
    for subset, planned in clips.items():
        data, users_table = ROOT / "dataset" / subset / "data", ROOT / "annotations_raw" / subset / "users.csv"
        own = {data / f"{clip.path}.mp3" for clip in planned}
        if not own.issuperset(data.rglob("*.mp3")):
            raise EarmarkError(
                f"dataset/{subset}/data: contains clips that are not from the demo. Move the directory first."
            )
        known = csv.DictReader(users_table.read_text(encoding="utf-8").splitlines()) if users_table.exists() else ()
        if any(row.get("username") not in handles for row in known):
            raise EarmarkError(
                f"annotations_raw/{subset}: contains raters who are not from the demo. Move the directory first."
            )


def write_clip(subset: str, clip: Clip) -> int:
    """Write the MP3 and its JSON file; return their total size in bytes."""
    target = ROOT / "dataset" / subset / "data" / f"{clip.path}.mp3"
    target.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(target, clip.samples, RATE, format="MP3", compression_level=COMPRESSION)
    facts: dict[str, Any] = {"text": clip.text, "duration": clip.seconds, "language": clip.language, "subset": subset}
    return target.stat().st_size + write_json(target.with_suffix(".json"), facts | asdict(clip.voice))


def write_json(target: Path, content: dict[str, Any]) -> int:
    return target.write_bytes((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def write_table(subset: str, name: str, rows: list[Row]) -> None:
    target = ROOT / "annotations_raw" / subset / f"{name}.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
