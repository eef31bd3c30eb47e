"""Files from elsewhere: listed by Zenodo or the Hugging Face hub, fetched so that a break costs nothing.

What comes over the network is not trusted: a name may not lead out of the folder, and a file is put in
place only when its checksum is right. A run that is cut short leaves `.part` files, and the same call goes on there.

requests, urllib3 and tenacity do the work; pooch is not used, since it fetches into a temporary file that it deletes
when the connection breaks.
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
from earmark.files.archives import BLOCK, LONGEST_NAME, escapes_directory, file_checksum
from earmark.files.safe_text import encodable, one_line, shown_url
from earmark.files.web import RETRY_STATUS, Deadline, DeadlineAdapter, parse_json, require_sendable

TRIES = 6  # of a request, and of transfers in a row that bring nothing
BACK_OFF = 0.5  # seconds, doubled from try to try: six tries outlast a server that is down for ten seconds
LONGEST_WAIT = 300  # seconds that a server's Retry-After is waited for
TIMEOUT = 60.0  # seconds without a byte of what was asked for
MAX_LISTING = 1 << 24  # bytes of JSON
LISTING_TIME = 300.0  # seconds in which a listing has to be there
SHOWN_FAULTS = 5  # of a reply that is no listing
GO_ON = "Run the same command to go on where it stopped."


# --- what there is --------------------------------------------------------------------------------------------------


def _stays(name: str) -> str:
    if escapes_directory(name):
        raise ValueError(f"the name {name!r} leaves the folder")
    if any(len(os.fsencode(f".{part}.part")) > LONGEST_NAME for part in name.split("/")):
        raise ValueError(f"the name {name[:60]!r}… has more bytes than a file's name can have ({LONGEST_NAME})")
    return name


def _over_http(url: str) -> str:
    parts = urlsplit(url)  # its port is read, and so checked, on access
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("the address is not http:// or https://")
    return url


@validated(frozen=True)
class RemoteFile:
    """A file to fetch. name: its path below the target folder. url: without secrets. size: bytes, where known.

    checksum: `md5:…`, `sha1:…`, `sha256:…`, `sha512:…`, or `git-sha1:…`, which is how git names a file's content.
    Raises pydantic.ValidationError, a ValueError, for anything else and for a name that leaves the folder.
    """

    name: Annotated[str, AfterValidator(_stays)]
    url: Annotated[str, AfterValidator(_over_http)]
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
    """The files of a public Zenodo record, with the size and MD5 that the record states.

    EarmarkError when the reply is not such a record, names files that leave the folder or lie on another host, or
    lists none, as a restricted record does.
    """
    url = f"{base.rstrip('/')}/api/records/{int(record)}"
    content = _listing(url)
    try:
        if len(content) > MAX_LISTING:
            raise ValueError(f"longer than {MAX_LISTING:,} bytes")
        listed = _ZenodoRecord.model_validate(parse_json(content)).files
        found = [
            RemoteFile(name=file.key, url=file.links["self"], size=file.size, checksum=file.checksum) for file in listed
        ]
        strange = [file.name for file in found if urlsplit(file.url)[:2] != urlsplit(base)[:2]]
        if strange:
            raise ValueError(f"{', '.join(strange)} would come from another host")
        if twice := [name for name, count in Counter(file.name for file in found).items() if count > 1]:
            raise ValueError(f"{', '.join(twice)}: one name for two files")
    except (ValueError, KeyError, RecursionError) as error:
        raise EarmarkError(f"{url}: the reply is no record with files: {_told(error)}") from error
    return found


def _listing(url: str) -> bytes:
    """A reply of JSON, bounded in size and time."""
    content, until = bytearray(), time.monotonic() + LISTING_TIME
    with Deadline(TIMEOUT, renewed=True) as deadline, closing(_Session({})) as session:
        with closing(_get(session, url, {})) as reply:
            try:
                while len(content) <= MAX_LISTING and (chunk := reply.raw.read1(BLOCK, decode_content=True)):
                    content += chunk
                    deadline.extend()
                    if time.monotonic() > until:
                        raise EarmarkError(f"{url}: the listing is not complete after {LISTING_TIME:g} s. {GO_ON}")
            except (urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
                if not deadline.passed:
                    raise EarmarkError(f"{url}: {_cause(error)}. {GO_ON}") from error
        if deadline.passed:
            raise EarmarkError(f"{url}: {_stalled()}. {GO_ON}")
    return bytes(content)


def _stalled() -> str:
    return f"nothing came for {TIMEOUT:g} s"


def hub_files(repository: str, base: str = "https://huggingface.co", token: str | None = None) -> list[RemoteFile]:
    """The files of a data set on the Hugging Face hub, all of one commit.

    Large files carry their SHA-256, small ones git's SHA-1. token: sent to `base`; None sends none, not even one that
    is stored on this machine. MissingError without huggingface_hub, and for a data set that is not there or needs a
    token; EarmarkError when the hub cannot be reached or its reply makes no sense.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingError("The hub needs huggingface_hub: put `uv run --extra download` before the script.") from error
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
            raise MissingError(f"{where}: HTTP {status}: no such data set, or one that needs a token.") from None
        raise EarmarkError(f"{where}: HTTP {status}. {GO_ON}") from None
    except Exception as error:  # the hub's client has another HTTP library from version to version, and trusts replies
        said = _told(error) if isinstance(error, ValidationError) else _cause(error)  # others may quote the token
        raise EarmarkError(f"{where}: no listing: {said}") from None


# --- fetching -------------------------------------------------------------------------------------------------------


def fetch(
    file: RemoteFile,
    folder: Path,
    *,
    headers: Mapping[str, str] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Path:
    """The file, below the folder: fetched if it is not there, else left alone.

    It is there when its checksum says so; without a checksum, when its size does; without either, never. With a
    checksum a broken transfer goes on where it stopped, in this call or the next; without, nothing could tell a file
    pieced together from two, so it starts over.

    headers: a token, say; sent to the host of the address only, not where that redirects to, and in no message;
    MissingError for one that no header can hold.
    on_bytes: told of every further byte that is here, found or fetched; a negative number takes bytes back.
    Other processes that want the same file wait for it. Raises MissingError when the server wants a token, and
    EarmarkError, with nothing in place, when it refuses, cannot be reached, or sends something else.
    """
    for header in (headers or {}).values():
        require_sendable(header, _shown(file.url))
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    tell = on_bytes or (lambda n: None)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.is_file() and (file.checksum or file.size is not None) and not _wrong(target, file):
            tell(target.stat().st_size)
            return target
        part = target.with_name(f"{target.name}.part")
        with closing(_Session(headers or {})) as session:
            _complete(part, file, session, tell)
        part.replace(target)
    return target


def _complete(part: Path, file: RemoteFile, session: requests.Session, tell: Callable[[int], None]) -> None:
    """Fetch what the part lacks; once more from the start if it was begun earlier, perhaps from another version."""
    wrong = ""
    begun = file.checksum is not None and part.exists()
    tell(_size(part) if begun else 0)
    for afresh in (False, True) if begun else (True,):
        if afresh:
            tell(-_size(part) if begun else 0)
            part.unlink(missing_ok=True)
        patience = StallCounter()
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_BrokenError),
            after=patience.note,
            wait=patience.wait,
            stop=patience.is_over,
            reraise=True,
        )
        try:
            retrying(_transfer, part, file, session, tell)
        except _BrokenError as error:
            raise EarmarkError(f"{_shown(file.url)}: the transfer breaks: {error}. {GO_ON}") from error
        if not (wrong := _wrong(part, file)):
            return
    part.unlink()
    raise EarmarkError(f"{_shown(file.url)}: what came {wrong}; it was thrown away. Run the same command to try again.")


class _BrokenError(Exception):
    """A transfer that ended early. size: bytes that are here after it."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class StallCounter:
    """Counts transfers in a row that brought nothing new: a large file may break often, as long as it grows."""

    def __init__(self) -> None:
        self._fruitless, self._largest = 0, 0

    def note(self, state: tenacity.RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        size = failure.size if isinstance(failure, _BrokenError) else 0
        self._fruitless = 0 if size > self._largest else self._fruitless + 1
        self._largest = max(size, self._largest)

    def wait(self, state: tenacity.RetryCallState) -> float:
        return BACK_OFF * 2.0**self._fruitless

    def is_over(self, state: tenacity.RetryCallState) -> bool:
        return self._fruitless >= TRIES


def _transfer(part: Path, file: RemoteFile, session: requests.Session, tell: Callable[[int], None]) -> None:
    """One request for what is lacking. Ends with a part that is complete as far as size tells, or too long."""
    start = _size(part)
    if start and file.size is not None and start >= file.size:
        return
    if start and file.checksum is None:
        tell(-start)
        start = 0
    with (
        Deadline(TIMEOUT, renewed=True) as deadline,
        closing(_get(session, file.url, {"Range": f"bytes={start}-"} if start else {})) as reply,
    ):
        if start and reply.status_code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # there is no more; the checksum decides
        if start and not reply.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            tell(-start)
            start = 0
            if reply.status_code == http.HTTPStatus.PARTIAL_CONTENT:
                part.unlink()
                raise _BrokenError("the server sent another part than was asked for", 0)
        with part.open("ab" if start else "wb") as out:
            try:
                # read1 returns what has arrived, so that nothing of it is lost when the connection breaks.
                while chunk := reply.raw.read1(1 << 16, decode_content=False):
                    out.write(chunk)
                    tell(len(chunk))
                    deadline.extend()
                    if file.size is not None and out.tell() > file.size:
                        return
            except (urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
                cause = _stalled() if deadline.passed else _cause(error)
                raise _BrokenError(cause, out.tell()) from error
            if deadline.passed:  # a connection that was ended looks like one that has no more to say
                raise _BrokenError(_stalled(), out.tell())
            if file.size is not None and out.tell() < file.size:
                raise _BrokenError(f"it ends after {out.tell():,} of {file.size:,} bytes", out.tell())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _wrong(path: Path, file: RemoteFile) -> str:
    """How a file differs from what it should be; empty when it does not."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"has {size:,} bytes instead of {file.size:,}"
    if file.checksum and (found := file_checksum(path, file.checksum.partition(":")[0])) != file.checksum:
        return f"has the checksum {found} instead of {file.checksum}"
    return ""


class _Session(requests.Session):
    """Sends private headers to the host that a request is for and to none that it redirects to. Keeps ~/.netrc out."""

    def __init__(self, private: Mapping[str, str]) -> None:
        super().__init__()
        self._private = dict(private)
        self.auth = self._sign
        retries = urllib3.Retry(
            total=TRIES - 1,
            backoff_factor=BACK_OFF,
            backoff_jitter=BACK_OFF,
            status_forcelist=RETRY_STATUS,
            retry_after_max=LONGEST_WAIT,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, DeadlineAdapter(max_retries=retries))

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._private)
        return request

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """requests calls this on every redirect, and would itself drop Authorization alone."""
        old, new = response.request.url or "", prepared_request.url or ""
        if self.should_strip_auth(old, new):  # type: ignore[no-untyped-call]
            for name in self._private:
                prepared_request.headers.pop(name, None)


def _get(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    """A reply whose body is still to be read. What can pass was tried again; messages quote nothing of the server."""
    try:
        reply = session.get(url, headers={"Accept-Encoding": "identity", **headers}, stream=True, timeout=TIMEOUT)
    except requests.RequestException as error:  # which quotes the address with its query, so it goes no further
        raise EarmarkError(f"{_shown(url)}: {_cause(error)}. {GO_ON}") from None
    except ValueError as error:  # which quotes the header, so it goes no further
        raise EarmarkError(
            f"{_shown(url)}: cannot be asked: {type(error).__name__}: the server redirects to what is no address."
        ) from None
    status = reply.status_code
    if reply.ok or (status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and "Range" in headers):
        return reply
    reply.close()
    if status in (401, 403):
        raise MissingError(f"{_shown(url)}: HTTP {status}: the server wants a token, or another one.")
    raise EarmarkError(
        f"{_shown(url)}: HTTP {status}. {GO_ON if status in RETRY_STATUS else 'The server refused the request.'}"
    )


def _shown(url: str) -> str:
    """An address without user, password and signature."""
    return shown_url(url)


def _cause(error: BaseException) -> str:
    """What happened, in the operating system's words where there are some: requests wraps them several times over."""
    while error.__context__ is not None:
        error = error.__context__
    plain = isinstance(error, OSError) and not isinstance(error, requests.RequestException)
    return one_line(str(error)) if plain and str(error) else type(error).__name__


def _told(error: Exception) -> str:
    """What is wrong with a reply, on one line."""
    if isinstance(error, ValidationError):
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        more = [f"{len(faults) - SHOWN_FAULTS:,} more"] if len(faults) > SHOWN_FAULTS else []
        return one_line("; ".join([*faults[:SHOWN_FAULTS], *more]))
    return one_line(encodable(f"{type(error).__name__}: {error}"))[:500]
