"""Small public data sets in the folders of their releases, with a few tones as audio."""

import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from earmark.probing import releases
from earmark.probing.releases import EMOTIONS, GENRES, NEW_WORDS, WORDS

RATE = 8000
VOICES = ("laughter", "sigh", "throatclearing", "cough", "sneeze", "sniff")


def tone_file(path: Path, number: int) -> Path:
    """A WAV file of 0.1 s whose pitch tells its number; other files of the same number are links to the first."""
    store = path.parents[0]
    while store.name != "trees":
        store = store.parent
    source = store / f"{number % 60}.wav"
    if not source.exists():
        t = np.arange(RATE // 10) / RATE
        out = io.BytesIO()
        soundfile.write(out, 0.3 * np.sin(2 * np.pi * (200 + 60 * (number % 60)) * t), RATE, format="wav")
        source.write_bytes(out.getvalue())
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, path)
    return path


def write(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def esc50(root: Path, classes: int = 3, takes: int = 4) -> None:
    """`takes` recordings of each class in each fold, one clip per recording."""
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for source in range(takes):
            for target in range(classes):
                name = f"{fold}-{1000 * fold + 10 * source + target}-A-{target}.wav"
                tone_file(root / "audio" / name, 10 * target + source)
                lines.append(f"{name},{fold},{target},sound{target},False,{1000 * fold + source},A")
    write(root / "meta/esc50.csv", lines)


def urbansound8k(root: Path) -> None:
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for fold in range(1, 11):
        for code, name in enumerate(("dog_bark", "siren", "drilling")):
            for piece in range(2):
                file = f"{100 * fold + code}-{code}-0-{piece}.wav"
                tone_file(root / f"audio/fold{fold}" / file, 10 * code + piece)
                lines.append(f"{file},{100 * fold + code},0.0,4.0,1,{fold},{code},{name}")
    write(root / "metadata/UrbanSound8K.csv", lines)


def cremad(root: Path, actors: int = 14) -> None:
    for actor in range(1001, 1001 + actors):
        for code, emotion in enumerate(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")):
            tone_file(root / f"AudioWAV/{actor}_DFA_{emotion}_XX.wav", 10 * code + actor % 3)


def ravdess(root: Path) -> None:
    """All names of the speech files, and a song and a video of each actor, which belong to other downloads."""
    for actor in range(1, 25):
        for code in range(1, len(EMOTIONS) + 1):
            for level in (1,) if code == 1 else (1, 2):
                for text in (1, 2):
                    for take in (1, 2):
                        name = f"03-01-{code:02}-{level:02}-{text:02}-{take:02}-{actor:02}.wav"
                        tone_file(root / f"Actor_{actor:02}" / name, 7 * (code - 1) + text)
        tone_file(root / f"Actor_{actor:02}" / f"03-02-01-01-01-01-{actor:02}.wav", 1)
        (root / f"Actor_{actor:02}" / f"02-01-01-01-01-01-{actor:02}.mp4").write_bytes(b"video")


def speech_commands(root: Path, words: str = WORDS, speakers: int = 6) -> None:
    """Each speaker says each word; the last one tests, the one before validates."""
    lists: dict[str, list[str]] = {"validation": [], "testing": []}
    for speaker in range(speakers):
        for code, word in enumerate(words.split()):
            path = f"{word}/{speaker:08x}_nohash_0.wav"
            tone_file(root / path, code)
            if speaker >= speakers - 2:
                lists["testing" if speaker == speakers - 1 else "validation"].append(path)
    for name, paths in lists.items():
        write(root / f"{name}_list.txt", paths)
    tone_file(root / "_background_noise_/pink_noise.wav", 5)


def gtzan(root: Path, folder: str = "genres", suffix: str = "au") -> None:
    for code, genre in enumerate(GENRES):
        for number in range(100):
            tone_file(root / folder / genre / f"{genre}.{number:05}.{suffix}", 6 * code + number % 2)


def vocalsound(root: Path, *, meta: bool = True) -> None:
    speakers = {"tr": ["f0001", "m0002", "f0003"], "val": ["f0004"], "te": ["m0005", "f0006"]}
    for short, names in speakers.items():
        files = []
        for speaker in names:
            for code, voice in enumerate(VOICES):
                files.append(f"{speaker}_0_{voice}.wav")
                tone_file(root / "audio_16k" / files[-1], 10 * code + int(speaker[1:]) % 3)
        if meta:
            write(root / f"meta/{short}_meta.csv", [f"{speaker},female,20,usa,english,no" for speaker in names])
        content = {"data": [{"wav": f"/data/audio_16k/{file}", "labels": "/m/x"} for file in files]}
        write(root / f"datafiles/{short}.json", [json.dumps(content)])


def fsd50k(root: Path) -> None:
    """Clips with one or two labels; one uploader of two clips each."""
    names = {"dev": range(100, 116), "eval": range(200, 208)}
    for part, numbers in names.items():
        lines = ["fname,labels,mids" + (",split" if part == "dev" else "")]
        for i, number in enumerate(numbers):
            labels = ("Bark", '"Bark,Dog"', "Rain", '"Rain,Dog"')[i % 4]
            tone_file(root / f"FSD50K.{part}_audio/{number}.wav", 15 * (i % 4))
            lines.append(f"{number},{labels},/m/1" + (f",{'val' if i >= 12 else 'train'}" if part == "dev" else ""))
        write(root / f"FSD50K.ground_truth/{part}.csv", lines)
        info = {str(number): {"title": "t", "uploader": f"user{number // 2}"} for number in numbers}
        write(root / f"FSD50K.metadata/{part}_clips_info_FSD50K.json", [json.dumps(info)])


def speech_commands_2(root: Path) -> None:
    speech_commands(root, f"{WORDS} {NEW_WORDS}")


# {task: (folder in the data root, what writes it)}
TREES = {
    "esc50": ("ESC-50-master", esc50),
    "urbansound8k": ("UrbanSound8K", urbansound8k),
    "cremad": ("CREMA-D", cremad),
    "ravdess": ("RAVDESS", ravdess),
    "speechcommandsv1": ("speech_commands_v0.01", speech_commands),
    "speechcommandsv2": ("speech_commands_v0.02", speech_commands_2),
    "gtzan_genre": ("GTZAN", gtzan),
    "vocalsound": ("vs_release_16k", vocalsound),
    "fsd50k": ("FSD50K", fsd50k),
}
assert set(TREES) == {release.task for release in releases.RELEASES}
