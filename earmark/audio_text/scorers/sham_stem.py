"""What a clip is called: by the sham scorer, in-process and behind sham_server.py."""

from pathlib import PurePosixPath

from earmark.annotation.subsets import subsets


def sham_stem(relative_path: str) -> str:
    """What the sham scorer hashes for a clip: its file's stem, or its path without suffix, as its subset says.

    relative_path: the clip's path below dataset/, with forward slashes; its first part names the subset.
    A path of no known subset keeps all its folders: clips that differ stay different.

    >>> sham_stem("emolia-emo/data/Affection_best/EN_-NOsyy0i0-A_W000028.mp3")
    'EN_-NOsyy0i0-A_W000028'
    >>> sham_stem("emolia-dim/data/TEMP/5/positive/sample_03.mp3")
    'emolia-dim/data/TEMP/5/positive/sample_03'
    """
    path = PurePosixPath(relative_path)
    subset = subsets().get(path.parts[0]) if path.parts else None
    if subset is not None and subset.sham_stem == "stem":
        return path.stem
    return str(path.parent / path.stem)
