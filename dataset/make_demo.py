"""Make the demo data set: synthetic speech, and the answers of simulated raters who never heard it.

Every clip is one short sentence spoken by espeak-ng; every rating is drawn from a formula that looks at the
settings of the voice. The data shows what the tools do. It says nothing about people, emotions or models.

Reads   nothing; needs the program espeak-ng (apt-get install espeak-ng)
Writes  dataset/emolia-emo/data/<Emotion>_best/<stem>.{mp3,json}
        dataset/emolia-dim/data/<DIM>/<level>/<polarity>/sample_NN.{mp3,json}, dataset/emolia-dim/variables.json
        annotations_raw/<subset>/{annotations,users[,flags]}.csv, which anonymize.py takes like anyone's

  uv run dataset/make_demo.py

The same version of espeak-ng and of the libraries writes the same bytes each time (the committed clips: 1.51).
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the script lives one folder below the library

from earmark import cli
from earmark.annotation.subsets import subsets
from earmark.errors import EarmarkError, MissingError

ROOT = Path(__file__).resolve().parents[1]
FloatArray = npt.NDArray[np.float32]
Row = dict[str, str | int | bool]

RATE = 16_000
SHORTEST, LONGEST, FADE = 2 * RATE, 3 * RATE, RATE // 20  # samples
HEADROOM = 0.9  # one gain for every clip, so that MP3 overshoot stays below 1 and loudness still differs
COMPRESSION = 0.6  # VBR quality, 0 best to 1 smallest: about 12 kB a clip

VARIANTS = ("m1", "f2", "m3", "f3", "m4", "f1", "m7", "f4")
# "en" is British; under its other name, "en-gb", espeak-ng 1.51 drops the variant.
BASE_VOICES = {"en": ("en-us", "en", "en-gb-x-rp", "en-029"), "de": ("de",), "fr": ("fr",), "es": ("es",)}

# label: folder, (speed in words per minute, pitch 0..99, amplitude 0..200), sentences
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

NEUTRAL = (
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
ORDINARY = {"speed_wpm": 165, "pitch": 50, "amplitude": 70}

# dimension: the setting it is, and that setting at levels 0 to 6
SCALES = {
    "TEMP": ("speed_wpm", (80, 105, 135, 165, 210, 270, 350)),
    "LOUD": ("amplitude", (8, 16, 30, 55, 85, 120, 160)),
    "PTCH": ("pitch", (0, 15, 32, 50, 66, 82, 99)),
}
STEADY = {"PTCH": ("m1", "m3", "m7"), "LOUD": ("m1", "f2", "m3", "f3")}  # variants of like pitch, of like loudness
ASKED_LEVELS, CLEARLY_AWAY = (1, 3, 5), 3
ACCENTS = {
    "British": ("en", "en-gb-x-rp"),
    "American": ("en-us",),
    "Scottish": ("en-gb-scotland",),
    "Caribbean": ("en-029",),
}
ASKED_ACCENTS = ("British", "American", "Scottish")
EASILY_CONFUSED = {"British", "Scottish"}

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
    """One simulated rater. bias shifts every answer towards "present"; attention scales how much the clip counts."""

    handle: str
    bias: float
    attention: float
    reaction_ms: int  # median
    share: dict[str, float]  # of the ratings of each subset
    demographics: dict[str, str | int]


DEMOGRAPHICS = ("age", "gender", "languages", "listening_setup", "degree", "expertise")
RATERS = [
    Rater(
        handle,
        bias,
        attention,
        reaction_ms,
        {"emolia-emo": emo, "emolia-dim": dim},
        dict(zip(DEMOGRAPHICS, who, strict=False)),
    )
    for handle, bias, attention, reaction_ms, emo, dim, who in (
        ("rater-cobalt", 0.7, 1.8, 1400, 0.32, 0.28, (34, "female", "English, German", "headphones", "master", 5)),
        ("rater-umber", -0.7, 1.8, 2100, 0.32, 0.28, (41, "male", "English", "headphones", "doctorate", 6)),
        ("rater-sienna", 0.1, 1.0, 1700, 0.32, 0.28, (29, "female", "English, Spanish", "loudspeakers", "bachelor", 3)),
        ("rater-ochre", 0.0, 0.1, 380, 0.04, 0.16, (29, "male", "English, French", "headphones", "bachelor", 2)),
    )
]
RATERS_PER_ITEM = {3: 0.66, 2: 0.26, 1: 0.08}  # number: probability
CUTS = {"emolia-emo": (0.0, 1.7), "emolia-dim": (0.0,)}  # where an inclination becomes the next rating of the scale
BEGIN = {"emolia-emo": datetime(2026, 5, 9, 17, 37, 58), "emolia-dim": datetime(2026, 5, 16, 18, 4, 21)}
RERATED = (5, 41)  # rows whose rater changes their mind later

# path below data/, reason
FLAGS = (
    ("LOUD/1/positive/sample_01.mp3", "Very faint, I had to turn the volume up"),
    ("ACCT/Scottish/negative/sample_00.mp3", "Could be more than one accent"),
    ("TEMP/5/positive/sample_00.mp3", "Words run together, the end is hard to follow"),
)


@dataclass(frozen=True)
class Voice:
    """What espeak-ng is told, apart from the text."""

    speaker: str
    speed_wpm: int
    pitch: int
    amplitude: int


@dataclass(frozen=True)
class Clip:
    """A spoken sentence and where it lies below dataset/<subset>/data/."""

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
    """A question about a clip: its columns in annotations.csv, and how strongly the clip speaks for "present"."""

    columns: dict[str, str]
    clip: Clip
    evidence: float


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(cli.argument_parser(__doc__ or "", make), __file__, argv)


def make(arguments: argparse.Namespace, invocation: cli.Invocation) -> int:
    """Clips first, then the questions about them, then the answers."""
    if shutil.which("espeak-ng") is None:
        raise MissingError("espeak-ng: not found. Install it with `apt-get install espeak-ng` and run this again.")
    rng = invocation.generator()
    clips = {"emolia-emo": list(emotion_clips(rng)), "emolia-dim": list(dimension_clips(rng))}
    refuse_other_data(clips)
    items = {"emolia-emo": emotion_items(clips["emolia-emo"], rng), "emolia-dim": dimension_items(clips["emolia-dim"])}
    ratings = {subset: answers(subset, asked, rng) for subset, asked in items.items()}
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
    """The sentence as espeak-ng says it, at 16 kHz, as long as it takes."""
    settings = ("-v", voice.speaker, "-s", voice.speed_wpm, "-p", voice.pitch, "-a", voice.amplitude)
    spoken = subprocess.run(["espeak-ng", *map(str, settings), "--stdout", text], capture_output=True, check=False)
    if spoken.returncode:
        raise EarmarkError(f"espeak-ng could not speak as {voice.speaker}: {spoken.stderr.decode().strip()}")
    samples, rate = soundfile.read(io.BytesIO(spoken.stdout), dtype="float32")
    resampled: FloatArray = soxr.resample(samples, rate, RATE)
    return resampled * np.float32(HEADROOM)


def trim(samples: FloatArray) -> FloatArray:
    """At least two seconds, padded with silence; at most three, faded out."""
    if len(samples) <= LONGEST:
        return np.pad(samples, (0, max(0, SHORTEST - len(samples))))
    fade = np.linspace(1, 0, FADE, dtype=np.float32)
    return np.concatenate([samples[: LONGEST - FADE], samples[LONGEST - FADE : LONGEST] * fade])


def emotion_clips(rng: np.random.Generator) -> Iterator[Clip]:
    """Each sentence once, in a voice that varies around the prosody of its emotion."""
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
    """Two clips at each level asked about, and two that are clearly elsewhere."""
    for dimension in SCALES:
        for asked in ASKED_LEVELS:
            elsewhere = [level for level in range(7) if abs(level - asked) >= CLEARLY_AWAY]
            for polarity, levels in (("positive", [asked, asked]), ("negative", elsewhere)):
                for number, level in enumerate(rng.choice(levels, 2, replace=polarity == "positive")):
                    path = f"{dimension}/{asked}/{polarity}/sample_{number:02d}"
                    yield fitting_clip(path, level_voice(dimension, int(level), rng), rng)
    for asked_accent in ASKED_ACCENTS:
        others = [accent for accent in ACCENTS if accent != asked_accent]
        for polarity, accents in (("positive", [asked_accent] * 2), ("negative", others)):
            for number, accent in enumerate(rng.choice(accents, 2, replace=False)):
                path = f"ACCT/{asked_accent}/{polarity}/sample_{number:02d}"
                speaker = f"{rng.choice(ACCENTS[str(accent)])}+{rng.choice(VARIANTS)}"
                yield fitting_clip(path, Voice(speaker, **ordinary(rng)), rng)


def ordinary(rng: np.random.Generator) -> dict[str, int]:
    """Settings that nobody would remark on, and never quite the same."""
    return {setting: round(value * rng.uniform(0.93, 1.07)) for setting, value in ORDINARY.items()}


def level_voice(dimension: str, level: int, rng: np.random.Generator) -> Voice:
    """A voice at about this level of the dimension, and ordinary in the others."""
    setting, values = SCALES[dimension]
    speaker = f"{rng.choice(BASE_VOICES['en'][:2])}+{rng.choice(STEADY.get(dimension, VARIANTS))}"
    value = round(float(np.interp(level + rng.uniform(-0.35, 0.35), range(7), values)))
    return Voice(speaker, **(ordinary(rng) | {setting: value}))


def fitting_clip(path: str, voice: Voice, rng: np.random.Generator) -> Clip:
    """The first neutral sentence, in random order, that this voice says within two to three seconds."""
    for text in map(str, rng.permutation(NEUTRAL)):
        samples = speak(text, voice)
        if SHORTEST <= len(samples) <= LONGEST:
            return Clip(path, text, "en", voice, samples)
    raise EarmarkError(f"{path}: no sentence of NEUTRAL takes 2 to 3 s at {voice.speed_wpm} words per minute.")


def emotion_items(clips: list[Clip], rng: np.random.Generator) -> list[Item]:
    """Every clip is asked about its own emotion and about one to three others, near (contrastive) or far."""
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


def prosody_distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Distance of two (speed, pitch, amplitude), in steps that sound about equally large."""
    louder = math.log2(one[2] / other[2]) / 0.8
    return math.hypot((one[0] - other[0]) / 40, (one[1] - other[1]) / 25, louder)


def emotion_evidence(clip: Clip, queried: str, own: str) -> float:
    """How much prosody (real settings against the emotion's) and words speak for an emotion, as a log-odds."""
    voice = clip.voice
    distance = prosody_distance((voice.speed_wpm, voice.pitch, voice.amplitude), EMOTIONS[queried][1])
    return 0.6 - 0.9 * distance + (1.2 if queried == own else 0.0)


def dimension_items(clips: list[Clip]) -> list[Item]:
    """One question per clip, the one its folder asks."""
    items = []
    for clip in clips:
        columns = dict(zip(COLUMNS["emolia-dim"], f"{clip.path}.mp3".split("/"), strict=False))
        items.append(Item(columns, clip, level_evidence(clip.voice, columns["dimension"], columns["level"])))
    return items


def level_evidence(voice: Voice, dimension: str, asked: str) -> float:
    """How much the real settings speak for a level, as a log-odds."""
    if dimension in SCALES:
        setting, values = SCALES[dimension]
        return 1.9 - 1.3 * abs(float(np.interp(getattr(voice, setting), values, range(7))) - int(asked))
    accent = next(name for name, bases in ACCENTS.items() if voice.speaker.split("+")[0] in bases)
    if accent == asked:
        return 1.6
    return -0.6 if {accent, asked} == EASILY_CONFUSED else -1.6


def vote(evidence: float, rater: Rater, cuts: Sequence[float], rng: np.random.Generator) -> int:
    """A rating's position on the scale.

    The inclination is attention * evidence + bias + logistic noise, so that the probability of passing the
    cut at 0, and so of "present", is the logistic of attention * evidence + bias.
    """
    inclination = rater.attention * evidence + rater.bias + rng.logistic()
    return sum(inclination > cut for cut in cuts)


COLUMNS = {
    "emolia-emo": ("source_emotion", "queried_emotion", "task_type", "file_name"),
    "emolia-dim": ("dimension", "level", "polarity", "file_name"),
}


def answers(subset: str, items: list[Item], rng: np.random.Generator) -> list[Row]:
    """The rows of annotations.csv, in order of time: one to three raters an item, and two changes of mind."""
    scale = subsets()[subset].scale
    shares = [rater.share[subset] for rater in RATERS]
    clock = {rater.handle: BEGIN[subset] + timedelta(hours=21 * number) for number, rater in enumerate(RATERS)}
    rows: list[Row] = []

    def answer(item: Item, rater: Rater, rating: str) -> None:
        reaction = int(rng.lognormal(math.log(rater.reaction_ms), 0.45))
        heard = int(item.clip.seconds * 1000 + rng.integers(0, 40))
        clock[rater.handle] += timedelta(milliseconds=heard + reaction + int(rng.integers(800, 6000)))
        times: Row = {"reaction_time_ms": reaction, "sample_time_ms": heard, "created_at": stamp(clock[rater.handle])}
        name = "/".join((subset, rater.handle, *item.columns.values(), str(times["created_at"])))
        identity: Row = {"annotation_id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)), "username": rater.handle}
        rows.append({**identity, **item.columns, "rating": rating, **times})

    given = []
    for index in rng.permutation(len(items)):
        count = int(rng.choice(list(RATERS_PER_ITEM), p=list(RATERS_PER_ITEM.values())))
        for chosen in rng.choice(len(RATERS), count, replace=False, p=shares):
            position = vote(items[index].evidence, RATERS[chosen], CUTS[subset], rng)
            given.append((items[index], RATERS[chosen], position))
            answer(items[index], RATERS[chosen], scale[position])
    for item, rater, position in (given[row] for row in RERATED):
        answer(item, rater, scale[(position + 1) % len(scale)])
    return sorted(rows, key=lambda row: (str(row["created_at"]), str(row["annotation_id"])))


def users(subset: str, rows: list[Row]) -> list[Row]:
    """The rows of users.csv."""
    counts = Counter(row["username"] for row in rows)
    people: list[Row] = []
    for number, rater in enumerate(RATERS):
        state: Row = {"username": rater.handle, "is_active": True, "is_admin": number == 0, "onboarded": True}
        joined = stamp(BEGIN["emolia-emo"] - timedelta(days=5 - number, minutes=17 * number))
        activity: Row = {"annotation_count": counts[rater.handle], "created_at": joined}
        people.append({**state, **activity, **rater.demographics, "consent": True})
    return people


def flags(rows: list[Row]) -> list[Row]:
    """The rows of flags.csv: each clip flagged by its first rater, while rating it."""
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
    """The demo may replace itself but never somebody's own clips or ratings."""
    handles = {rater.handle for rater in RATERS}
    for subset, planned in clips.items():
        data, people = ROOT / "dataset" / subset / "data", ROOT / "annotations_raw" / subset / "users.csv"
        own = {data / f"{clip.path}.mp3" for clip in planned}
        if not own.issuperset(data.rglob("*.mp3")):
            raise EarmarkError(
                f"dataset/{subset}/data: holds clips that are not the demo's. Move the folder away first."
            )
        known = csv.DictReader(people.read_text(encoding="utf-8").splitlines()) if people.exists() else ()
        if any(row.get("username") not in handles for row in known):
            raise EarmarkError(
                f"annotations_raw/{subset}: has raters who are not the demo's. Move the folder away first."
            )


def write_clip(subset: str, clip: Clip) -> int:
    """The MP3 and its JSON; returns the bytes of both."""
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
