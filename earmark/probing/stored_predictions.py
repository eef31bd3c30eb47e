"""Predictions on disk, in the detail that comparisons of encoders need to compute every metric again."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.errors import EarmarkError, shown_path
from earmark.probing.evaluation import CaptionPredictions, ClassPredictions, FramePredictions, Predictions

Arrays = dict[str, NDArray[Any]]
TYPES: dict[str, type[Predictions]] = {
    kind.__name__: kind for kind in (Predictions, ClassPredictions, FramePredictions, CaptionPredictions)
}
FLAGS = ("by_fold", "draws")
EER_CLASSES = 2  # logits are kept only where an equal error rate may be computed from them


def predictions_to_npz(predictions: Predictions, clips: list[str]) -> bytes:
    """Predictions and the names of their clips as the content of a .npz file.

    Parameters
    ----------
    predictions : of a task. Frame outputs are kept as decisions, which is what their metrics use.
    clips : (n,) name of each item's clip.

    Returns
    -------
    bytes
        Without pickled objects.
    """
    arrays: Arrays = {
        "type": np.array(type(predictions).__name__),
        "clip": np.array(clips, dtype=np.str_),
        "group": np.array([str(group) for group in predictions.group], dtype=np.str_),
        "fold": np.asarray(predictions.fold),
        **{name: np.array(getattr(predictions, name)) for name in FLAGS},
    }
    outputs = predictions.outputs
    if predictions.labels is not None:
        arrays["labels"] = _plain(predictions.labels)
    if isinstance(predictions, ClassPredictions):
        arrays["classes"] = np.stack([np.asarray(each, dtype=np.int32) for each in predictions.classes])
        if any(each.shape[1] != EER_CLASSES for each in outputs):
            outputs = []
    elif isinstance(predictions, FramePredictions):
        arrays |= {
            "edges": np.asarray(predictions.edges),
            "segment_frames": np.array(predictions.segment_frames),
            "whole_segments": np.array(predictions.whole_segments),
        }
        n_outputs = outputs[0].shape[1]
        arrays["n_outputs"] = np.array(n_outputs)
        if np.asarray(predictions.labels).ndim == 1:  # one class per frame
            arrays["frame_classes"] = np.stack([each.argmax(axis=1).astype(np.int16) for each in outputs])
        else:
            arrays["frame_decisions"] = np.stack([np.packbits(each > 0, axis=1) for each in outputs])
        outputs = []
    elif isinstance(predictions, CaptionPredictions):
        arrays["owner"] = np.asarray(predictions.owner)
    if outputs:
        arrays["outputs"] = np.stack([_plain(each) for each in outputs])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_predictions(path: Path) -> tuple[Predictions, list[str]]:
    """Read what `predictions_to_npz` wrote.

    Returns
    -------
    predictions : Predictions
    clips : list of str

    Raises
    ------
    EarmarkError
        If the file does not exist or cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        kind = TYPES[str(arrays["type"])]
        values: dict[str, Any] = {
            "group": arrays["group"].tolist(),
            "fold": arrays["fold"],
            "labels": arrays.get("labels"),
            "outputs": list(arrays.get("outputs", ())),
            **{name: bool(arrays[name]) for name in FLAGS},
        }
        if kind is ClassPredictions:
            values["classes"] = list(arrays["classes"])
        elif kind is FramePredictions:
            values |= {
                "edges": arrays["edges"],
                "segment_frames": int(arrays["segment_frames"]),
                "whole_segments": bool(arrays["whole_segments"]),
                "outputs": _frame_outputs(arrays),
            }
        elif kind is CaptionPredictions:
            values["owner"] = arrays["owner"]
        return kind(**values), arrays["clip"].tolist()
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise EarmarkError(f"{shown_path(path)} cannot be read as predictions; run the task again.") from error


def _frame_outputs(arrays: Arrays) -> list[NDArray[Any]]:
    """Outputs with the decisions that were kept: 1 for the predicted class, or for predicted labels."""
    n_outputs = int(arrays["n_outputs"])
    if "frame_classes" in arrays:
        return [np.eye(n_outputs, dtype=np.int8)[each] for each in arrays["frame_classes"]]
    packed = arrays["frame_decisions"]
    return [np.unpackbits(each, axis=1, count=n_outputs).astype(np.int8) for each in packed]


def _plain(values: Any) -> NDArray[Any]:
    """Numbers in a compact type, texts as they are."""
    array = np.asarray(values)
    if array.dtype.kind in "OUS":
        return np.array([str(value) for value in array.ravel()], dtype=np.str_).reshape(array.shape)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return array
