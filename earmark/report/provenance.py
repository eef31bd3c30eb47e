"""Provenance of results: versions, inputs and parameters."""

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
CODE_PATTERNS = ("*.py", "*.toml", "*.j2")  # files that affect results; outputs and documents do not


def provenance(
    invocation: Invocation,
    *,
    inputs: Sequence[Input],
    parameters: Mapping[str, Any],
    exclusions: Sequence[Exclusion] = (),
    signature: Signature,
    device: str = "cpu",
) -> SummaryBase:
    """Collect the fields that every summary.json begins with.

    Parameters
    ----------
    invocation : Invocation
    inputs : sequence of Input
        From `input_records`.
    parameters : mapping
        Effective values of the options.
    exclusions : sequence of Exclusion
        From `exclusions`.
    signature : Signature
    device : str

    Returns
    -------
    SummaryBase
    """
    return SummaryBase(
        schema_version=SCHEMA_VERSION,
        script=invocation.script.name,
        argv=[shown_argument(argument) for argument in invocation.argv],
        created_utc=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        git=git_state(invocation.script.resolve().parent),
        python=platform.python_version(),
        packages={name: installed for name in PACKAGES if (installed := _installed_version(name))},
        device=device,
        seed=invocation.seed,
        signature=signature,
        inputs=list(inputs),
        parameters=dict(parameters),
        exclusions=list(exclusions),
    )


def exclusions(counts: Mapping[str, int]) -> list[Exclusion]:
    """List reasons and counts of exclusions; counts of 0 are omitted.

    Parameters
    ----------
    counts : mapping of str to int
        Count for each reason.
    """
    return [Exclusion(reason=reason, count=count) for reason, count in counts.items() if count]


def parameters_hash(parameters: Mapping[str, Any]) -> str:
    """Hash of parameters, 8 hexadecimal digits.

    Parameters
    ----------
    parameters : mapping
        Values are serialised as JSON; the order does not matter.
    """
    return sha256(json.dumps(parameters, sort_keys=True, default=str).encode()).hexdigest()[:8]


def input_records(rows: Mapping[Path, int]) -> list[Input]:
    """Describe input files with their hashes and numbers of rows.

    Parameters
    ----------
    rows : mapping of Path to int
        Number of rows read from each file.

    Returns
    -------
    list of Input
    """
    return [Input(path=output_path(path), sha256=file_hash(path), rows=n) for path, n in rows.items()]


def data_hash(inputs: Sequence[Input]) -> str:
    """Hash of the contents of input files, 8 hexadecimal digits, independent of their names.

    Parameters
    ----------
    inputs : sequence of Input
        From `input_records`; their order matters.
    """
    return sha256("".join(each.sha256 for each in inputs).encode()).hexdigest()[:8]


def git_state(folder: Path) -> dict[str, Any]:
    """Commit and state of the code in a directory.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    dict
        commit: None outside a git checkout. dirty: whether code differs from the commit; outputs are ignored.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", *CODE_PATTERNS))}


def shown_argument(argument: str) -> str:
    """Make a command-line argument safe to publish: relative paths, URLs without credentials and query.

    Examples
    --------
    >>> shown_argument("https://me:secret@host/v1?key=1")
    'https://host/v1'
    >>> shown_argument("s3://bucket/speech")
    's3://bucket/speech'
    """
    name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    kind, colon, rest = value.partition(":")  # encoder specification, such as hf:FOLDER or onnx:FILE
    if re.match(r"[a-z][a-z0-9+.-]+://", value, re.IGNORECASE):
        value = shown_url(value)
    elif Path(value).is_absolute():
        value = output_path(Path(value))
    elif colon and Path(rest).is_absolute():
        value = f"{kind}:{output_path(Path(rest))}"
    return encodable(f"{name}{equals}{value}")


def shown_text(text: str) -> str:
    """Make a message safe to publish: absolute paths are reduced to their last part.

    Examples
    --------
    >>> shown_text("esc50: no *.tar in /data/of/mine/esc50.")
    'esc50: no *.tar in esc50.'
    """
    return encodable(re.sub(r"(?<![\w:/.])/(?:[^\s/:'\",;]+/)+([^\s/:'\",;]*)", r"\1", text))


def output_path(path: Path) -> str:
    """Path to publish: relative to the working directory if below it, else the name alone."""
    return encodable(path.name if Path(shown_path(path)).is_absolute() else shown_path(path))


def file_name(name: str) -> str:
    """Turn a name into a valid file name.

    Examples
    --------
    >>> file_name("wespeaker/ResNet34 (LM)")
    'wespeaker-ResNet34-LM'
    """
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "model"


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
