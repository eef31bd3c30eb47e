"""Resumable, verified downloads of files listed by Zenodo or the Hugging Face Hub.

Network data are untrusted: file names cannot leave the directory, and a file is put in place only if its checksum
matches. An interrupted download leaves a `.part` file from which the next call resumes.

Built on requests, urllib3 and tenacity. pooch is not used because it discards partial downloads.
"""

import http
import http.client
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import requests
import tenacity
import urllib3
from filelock import FileLock
from pydantic import AfterValidator, BaseModel, Field, NonNegativeInt, StringConstraints, ValidationError
from pydantic.dataclasses import dataclass as validated

from earmark.errors import EarmarkError, MissingError
from earmark.files.archives import BLOCK_SIZE, MAX_NAME_BYTES, escapes_directory, file_checksum
from earmark.files.safe_text import encodable, one_line, shown_url
from earmark.files.web import RETRY_STATUS, Deadline, DeadlineAdapter, parse_json, require_sendable

MAX_TRIES = 6  # of a request; also consecutive transfers without progress
BACK_OFF = 0.5  # seconds, doubled with each try; about 15 s in total
MAX_RETRY_AFTER = 300  # seconds
TIMEOUT = 60.0  # seconds without data
MAX_LISTING = 1 << 24  # bytes
LISTING_TIMEOUT = 300.0  # seconds for a complete listing
SHOWN_FAULTS = 5
RESUME_HINT = "Run the same command again to resume."


# --- listings -----------------------------------------------------------------------------------------------


def _safe_name(name: str) -> str:
    if escapes_directory(name):
        raise ValueError(f"the name {name!r} leaves the target directory")
    if any(len(os.fsencode(f".{part}.part")) > MAX_NAME_BYTES for part in name.split("/")):
        raise ValueError(f"the name {name[:60]!r}… is longer than {MAX_NAME_BYTES} bytes")
    return name


def _http_url(url: str) -> str:
    parts = urlsplit(url)  # the port is validated on access
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("the URL is not http:// or https://")
    return url


@validated(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes
    ----------
    name : str
        Relative path below the target directory.
    url : str
        Without credentials.
    size : int, optional
        Bytes.
    checksum : str, optional
        `md5:…`, `sha1:…`, `sha256:…`, `sha512:…`, or `git-sha1:…` for the hash of a git blob.

    Raises
    ------
    pydantic.ValidationError
        (a ValueError) If a field is invalid or the name leaves the directory.
    """

    name: Annotated[str, AfterValidator(_safe_name)]
    url: Annotated[str, AfterValidator(_http_url)]
    size: NonNegativeInt | None = None
    checksum: (
        Annotated[str, StringConstraints(pattern=r"^(md5|(git-)?sha1|sha256|sha512):[0-9a-f]{32,128}$")] | None
    ) = None


class _ZenodoFile(BaseModel):
    key: str
    size: int
    checksum: str
    links: dict[str, str]


class _ZenodoRecord(BaseModel):
    files: Annotated[list[_ZenodoFile], Field(min_length=1)]


def zenodo_files(record: int | str, base: str = "https://zenodo.org") -> list[RemoteFile]:
    """List the files of a public Zenodo record with size and MD5.

    Parameters
    ----------
    record : int or str
        Record number.
    base : str
        Address of the server.

    Raises
    ------
    EarmarkError
        If the reply is not a record with files (as for restricted records), or if it contains file names that leave the
        directory, duplicate names, or addresses on another host.
    """
    url = f"{base.rstrip('/')}/api/records/{int(record)}"
    content = _listing(url)
    try:
        if len(content) > MAX_LISTING:
            raise ValueError(f"longer than {MAX_LISTING:,} bytes")
        listed = _ZenodoRecord.model_validate(parse_json(content)).files
        files = [
            RemoteFile(name=file.key, url=file.links["self"], size=file.size, checksum=file.checksum) for file in listed
        ]
        other_host = [file.name for file in files if urlsplit(file.url)[:2] != urlsplit(base)[:2]]
        if other_host:
            raise ValueError(f"{', '.join(other_host)}: on another host")
        if duplicates := [name for name, count in Counter(file.name for file in files).items() if count > 1]:
            raise ValueError(f"{', '.join(duplicates)}: duplicate file name")
    except (ValueError, KeyError, RecursionError) as error:
        raise EarmarkError(f"{url}: the reply is not a record with files: {_invalid_reply(error)}") from error
    return files


def _listing(url: str) -> bytes:
    """Fetch a JSON reply, bounded in size and time."""
    content, until = bytearray(), time.monotonic() + LISTING_TIMEOUT
    with Deadline(TIMEOUT, renewed=True) as deadline, closing(_Session({})) as session:
        with closing(_get(session, url, {})) as reply:
            try:
                while len(content) <= MAX_LISTING and (chunk := reply.raw.read1(BLOCK_SIZE, decode_content=True)):
                    content += chunk
                    deadline.extend()
                    if time.monotonic() > until:
                        raise EarmarkError(
                            f"{url}: the listing is incomplete after {LISTING_TIMEOUT:g} s. {RESUME_HINT}"
                        )
            except (urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
                if not deadline.passed:
                    raise EarmarkError(f"{url}: {_cause(error)}. {RESUME_HINT}") from error
        if deadline.passed:
            raise EarmarkError(f"{url}: {_stall_message()}. {RESUME_HINT}")
    return bytes(content)


def _stall_message() -> str:
    return f"no data for {TIMEOUT:g} s"


def hub_files(repository: str, base: str = "https://huggingface.co", token: str | None = None) -> list[RemoteFile]:
    """List the files of a data set on the Hugging Face Hub at its current commit.

    Large files have a SHA-256 checksum, small ones a git blob SHA-1.

    Parameters
    ----------
    repository : str
        Such as "owner/name".
    base : str
        Address of the server.
    token : str, optional
        Sent to `base`. Without one, no token is sent, not even one stored on this machine.

    Raises
    ------
    MissingError
        If huggingface_hub is not installed, or the data set does not exist or needs a token.
    EarmarkError
        If there is no response or the reply is invalid.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingError(
            "The Hugging Face Hub needs huggingface_hub: use `uv run --extra download SCRIPT.py …`."
        ) from error
    where = f"{base.rstrip('/')}/datasets/{repository}"
    require_sendable(token or "", where)
    try:
        info = HfApi(endpoint=base, token=token or False).dataset_info(repository, files_metadata=True, timeout=TIMEOUT)
        return [
            RemoteFile(
                name=file.rfilename,
                url=hf_hub_url(repository, file.rfilename, repo_type="dataset", revision=info.sha, endpoint=base),
                size=file.size,
                checksum=f"sha256:{file.lfs.sha256}" if file.lfs else f"git-sha1:{file.blob_id}",
            )
            for file in info.siblings or []
        ]
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403, 404):
            raise MissingError(f"{where}: HTTP {status}: the data set does not exist or needs a token.") from None
        raise EarmarkError(f"{where}: HTTP {status}. {RESUME_HINT}") from None
    except Exception as error:  # the client's HTTP library varies between versions, and it does not validate replies
        cause = (
            _invalid_reply(error) if isinstance(error, ValidationError) else _cause(error)
        )  # others may quote the token
        raise EarmarkError(f"{where}: no listing: {cause}") from None


# --- downloads ----------------------------------------------------------------------------------------------


def fetch(
    file: RemoteFile,
    folder: Path,
    *,
    headers: Mapping[str, str] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Path:
    """Download a file unless it already exists.

    A file exists if its checksum matches; without a checksum, if its size matches; with neither, it is always
    downloaded.
    With a checksum, an interrupted download resumes in this call or the next one. Without, it restarts, since mixed
    versions could not be detected.

    Parameters
    ----------
    file : RemoteFile
    folder : Path
        Target directory.
    headers : mapping of str to str, optional
        Such as a token. Sent to the host of the address only, not to redirect targets, and not shown in messages.
    on_bytes : callable, optional
        Called with the number of new bytes, found or downloaded; negative if bytes are discarded.

    Returns
    -------
    Path
        Concurrent calls for the same file wait for each other.

    Raises
    ------
    MissingError
        If the server requires a token, or a header value is invalid.
    EarmarkError
        If the server refuses, does not respond, or sends other data. No file is put in place then.
    """
    for header in (headers or {}).values():
        require_sendable(header, _shown(file.url))
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    report_bytes = on_bytes or (lambda n: None)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.is_file() and (file.checksum or file.size is not None) and not _wrong_content(target, file):
            report_bytes(target.stat().st_size)
            return target
        part = target.with_name(f"{target.name}.part")
        with closing(_Session(headers or {})) as session:
            _complete(part, file, session, report_bytes)
        part.replace(target)
    return target


def _complete(part: Path, file: RemoteFile, session: requests.Session, report_bytes: Callable[[int], None]) -> None:
    """Download the rest of a partial file. If its checksum then differs, download it once more from the start."""
    problem = ""
    resuming = file.checksum is not None and part.exists()
    report_bytes(_size(part) if resuming else 0)
    for restart in (False, True) if resuming else (True,):
        if restart:
            report_bytes(-_size(part) if resuming else 0)
            part.unlink(missing_ok=True)
        stalls = StallCounter()
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_BrokenError),
            after=stalls.note,
            wait=stalls.wait,
            stop=stalls.is_over,
            reraise=True,
        )
        try:
            retrying(_transfer, part, file, session, report_bytes)
        except _BrokenError as error:
            raise EarmarkError(f"{_shown(file.url)}: the download is interrupted: {error}. {RESUME_HINT}") from error
        if not (problem := _wrong_content(part, file)):
            return
    part.unlink()
    raise EarmarkError(
        f"{_shown(file.url)}: the downloaded file {problem} and was discarded. Run the same command to try again."
    )


class _BrokenError(Exception):
    """A transfer that ended early. size: bytes on disk afterwards."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class StallCounter:
    """Counts consecutive transfers without progress; a large file may be interrupted often, as long as it grows."""

    def __init__(self) -> None:
        self._stalls, self._largest = 0, 0

    def note(self, state: tenacity.RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        size = failure.size if isinstance(failure, _BrokenError) else 0
        self._stalls = 0 if size > self._largest else self._stalls + 1
        self._largest = max(size, self._largest)

    def wait(self, state: tenacity.RetryCallState) -> float:
        return BACK_OFF * 2.0**self._stalls

    def is_over(self, state: tenacity.RetryCallState) -> bool:
        return self._stalls >= MAX_TRIES


def _transfer(part: Path, file: RemoteFile, session: requests.Session, report_bytes: Callable[[int], None]) -> None:
    """Request the missing bytes once. On return the part is complete as far as its size tells, or too long."""
    start = _size(part)
    if start and file.size is not None and start >= file.size:
        return
    if start and file.checksum is None:
        report_bytes(-start)
        start = 0
    with (
        Deadline(TIMEOUT, renewed=True) as deadline,
        closing(_get(session, file.url, {"Range": f"bytes={start}-"} if start else {})) as reply,
    ):
        if start and reply.status_code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # no more data; the checksum decides
        if start and not reply.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            report_bytes(-start)
            start = 0
            if reply.status_code == http.HTTPStatus.PARTIAL_CONTENT:
                part.unlink()
                raise _BrokenError("the server sent a different range than requested", 0)
        with part.open("ab" if start else "wb") as out:
            try:
                # read1 returns the data that have arrived, so none are lost if the connection breaks.
                while chunk := reply.raw.read1(1 << 16, decode_content=False):
                    out.write(chunk)
                    report_bytes(len(chunk))
                    deadline.extend()
                    if file.size is not None and out.tell() > file.size:
                        return
            except (urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
                cause = _stall_message() if deadline.passed else _cause(error)
                raise _BrokenError(cause, out.tell()) from error
            if deadline.passed:  # a closed connection looks like the end of the data
                raise _BrokenError(_stall_message(), out.tell())
            if file.size is not None and out.tell() < file.size:
                raise _BrokenError(f"ended after {out.tell():,} of {file.size:,} bytes", out.tell())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _wrong_content(path: Path, file: RemoteFile) -> str:
    """Describe how a file differs from what is expected; empty if it does not."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"has {size:,} bytes instead of {file.size:,}"
    if file.checksum and (checksum := file_checksum(path, file.checksum.partition(":")[0])) != file.checksum:
        return f"has the checksum {checksum} instead of {file.checksum}"
    return ""


class _Session(requests.Session):
    """Session that sends private headers to the original host only, not to redirect targets, and ignores ~/.netrc."""

    def __init__(self, private: Mapping[str, str]) -> None:
        super().__init__()
        self._private = dict(private)
        self.auth = self._sign
        retries = urllib3.Retry(
            total=MAX_TRIES - 1,
            backoff_factor=BACK_OFF,
            backoff_jitter=BACK_OFF,
            status_forcelist=RETRY_STATUS,
            retry_after_max=MAX_RETRY_AFTER,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, DeadlineAdapter(max_retries=retries))

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._private)
        return request

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Called by requests on every redirect; requests alone would only drop Authorization."""
        old, new = response.request.url or "", prepared_request.url or ""
        if self.should_strip_auth(old, new):  # type: ignore[no-untyped-call]
            for name in self._private:
                prepared_request.headers.pop(name, None)


def _get(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    """Send a request with retries; the body is still to be read. Messages quote nothing that the server sent."""
    try:
        reply = session.get(url, headers={"Accept-Encoding": "identity", **headers}, stream=True, timeout=TIMEOUT)
    except requests.RequestException as error:  # quotes the full URL, so it is not chained
        raise EarmarkError(f"{_shown(url)}: {_cause(error)}. {RESUME_HINT}") from None
    except ValueError as error:  # quotes the header, so it is not chained
        raise EarmarkError(f"{_shown(url)}: {type(error).__name__}: the server redirects to an invalid URL.") from None
    status = reply.status_code
    if reply.ok or (status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and "Range" in headers):
        return reply
    reply.close()
    if status in (401, 403):
        raise MissingError(f"{_shown(url)}: HTTP {status}: the server requires a token, or the token is invalid.")
    raise EarmarkError(
        f"{_shown(url)}: HTTP {status}. {RESUME_HINT if status in RETRY_STATUS else 'The server refused the request.'}"
    )


def _shown(url: str) -> str:
    """URL without user, password and signature."""
    return shown_url(url)


def _cause(error: BaseException) -> str:
    """Root cause of an error, in the operating system's words if available; requests wraps it several times."""
    while error.__context__ is not None:
        error = error.__context__
    plain = isinstance(error, OSError) and not isinstance(error, requests.RequestException)
    return one_line(str(error)) if plain and str(error) else type(error).__name__


def _invalid_reply(error: Exception) -> str:
    """Describe an invalid reply on one line."""
    if isinstance(error, ValidationError):
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        more = [f"{len(faults) - SHOWN_FAULTS:,} more"] if len(faults) > SHOWN_FAULTS else []
        return one_line("; ".join([*faults[:SHOWN_FAULTS], *more]))
    return one_line(encodable(f"{type(error).__name__}: {error}"))[:500]
