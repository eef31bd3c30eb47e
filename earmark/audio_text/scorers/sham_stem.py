"""Names of clips for the sham scorer and for sham_server.py."""

from pathlib import PurePosixPath

from earmark.annotation.subsets import subsets


def sham_stem(relative_path: str) -> str:
    """Name of a clip that the sham scorer hashes.

    Parameters
    ----------
    relative_path : str
        Path of the clip below dataset/, with forward slashes. The first part is the name of the subset.

    Returns
    -------
    str
        The stem of the file or its path without suffix, as the subset defines. For unknown subsets the path without
        suffix, so that different clips have different names.

    Examples
    --------
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
