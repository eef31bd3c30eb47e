"""Where a number came from: versions, inputs, parameters."""

import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from earmark.cli import Invocation
from earmark.errors import shown_path
from earmark.files.hashing import file_hash
from earmark.files.safe_text import encodable
from earmark.files.safe_text import shown_url as shown_url
from earmark.report.schema import SCHEMA_VERSION, Exclusion, Input, SummaryBase
from earmark.report.signature import Signature

PACKAGES = ("numpy", "pandas", "scipy", "krippendorff", "soundfile", "soxr", "requests", "torch", "transformers")
CODE = ("*.py", "*.toml", "*.j2")  # what makes a number; outputs and documents do not


def provenance(
    invocation: Invocation,
    *,
    inputs: Sequence[Input],
    parameters: Mapping[str, Any],
    exclusions: Sequence[Exclusion] = (),
    signature: Signature,
    device: str = "cpu",
) -> SummaryBase:
    """What every summary.json begins with.

    inputs: as `input_records` gives them. parameters: what the flags amounted to. exclusions: [{reason, count}].
    """
    return SummaryBase(
        schema_version=SCHEMA_VERSION,
        script=invocation.script.name,
        argv=[shown_argument(argument) for argument in invocation.argv],
        created_utc=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        git=git_state(invocation.script.resolve().parent),
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := _installed(name))},
        device=device,
        seed=invocation.seed,
        signature=signature,
        inputs=list(inputs),
        parameters=dict(parameters),
        exclusions=list(exclusions),
    )


def exclusions(counts: Mapping[str, int]) -> list[Exclusion]:
    """{reason: count} as summaries list it; what excluded nothing is left out."""
    return [Exclusion(reason=reason, count=count) for reason, count in counts.items() if count]


def parameters_hash(parameters: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that change when any parameter does."""
    return sha256(json.dumps(parameters, sort_keys=True, default=str).encode()).hexdigest()[:8]


def input_records(rows: Mapping[Path, int]) -> list[Input]:
    """{file: rows read from it} as summaries list it, with hashes; each file is read once."""
    return [Input(path=output_path(path), sha256=file_hash(path), rows=n) for path, n in rows.items()]


def data_hash(inputs: Sequence[Input]) -> str:
    """Eight hexadecimal digits that change when any of the files changes, whatever they are called."""
    return sha256("".join(one.sha256 for one in inputs).encode()).hexdigest()[:8]


def git_state(folder: Path) -> dict[str, Any]:
    """{"commit", "dirty"} of the code in a folder; commit is None outside a git checkout.

    dirty: code differs from the commit. Outputs that a run has just rewritten do not count.
    """

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", *CODE))}


def shown_argument(argument: str) -> str:
    """An argument fit for an output: paths relative, addresses without user, password or query.

    >>> shown_argument("https://me:secret@host/v1?key=1")
    'https://host/v1'
    """
    name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    kind, colon, rest = value.partition(":")  # of an encoder: hf:FOLDER, onnx:FILE
    if re.match(r"https?://", value, re.IGNORECASE):
        value = shown_url(value)
    elif Path(value).is_absolute():
        value = output_path(Path(value))
    elif colon and Path(rest).is_absolute():
        value = f"{kind}:{output_path(Path(rest))}"
    return encodable(f"{name}{equals}{value}")


def shown_text(text: str) -> str:
    """A message fit for an output: of absolute paths only the last part is left.

    >>> shown_text("esc50: no *.tar in /data/of/mine/esc50.")
    'esc50: no *.tar in esc50.'
    """
    return encodable(re.sub(r"(?<![\w:/.])/(?:[^\s/:'\",;]+/)+([^\s/:'\",;]*)", r"\1", text))


def output_path(path: Path) -> str:
    """A path as an output may hold it: relative to the working folder where it lies below, else its name alone."""
    return encodable(path.name if Path(shown_path(path)).is_absolute() else shown_path(path))


def file_name(name: str) -> str:
    """A name as a file or folder may have it.

    >>> file_name("wespeaker/ResNet34 (LM)")
    'wespeaker-ResNet34-LM'
    """
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "model"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
