"""A task's clips and labels from disk, as arrays, in either of two layouts.

X-ARES:    <data-root>/<task>/<split>*.tar, plain tar files of pairs <key>.<audio suffix> and <key>.json; clips stay in
           the tar and are read where they lie.
manifest:  <data-root>/<task>/manifest.csv, or the file that a user's task names, with columns
             path   of the clip, relative to the manifest
             label  clip: a class; multilabel: classes split by | or ; regression: numbers split by |
                    frame: JSON [{"onset", "offset", "label"}, …] in seconds, or the path of a file of it
                    retrieval: captions split by |; asr: the transcript
             split  train, valid or test (valid may be missing); or fold, any names, in place of it
             group  what clips have in common that must not be on both sides, such as a speaker; may be missing
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import Clip, shown_clip
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.suites.task_labels import Event, Label
from earmark.suites.task_manifests import read_manifest
from earmark.suites.task_rows import Rows, faulty
from earmark.suites.task_tars import find_tars, read_tars
from earmark.suites.xares import Task

Labels = NDArray[np.int64] | NDArray[np.uint8] | NDArray[np.float64] | list[list[Event]] | list[list[str]] | list[str]
