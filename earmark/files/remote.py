"""Files on object storage and other remote file systems, as pathlib paths.

`location` turns a flag into a path: a URL such as s3://bucket/prefix becomes a `RemotePath`, everything else stays a
local `Path`. A RemotePath has the operations of pathlib that reading needs, so that code for local files works on it;
it is read by fsspec. Contents are read by range, never copied to disk. Each folder is listed once every
`LISTING_SECONDS`, and sizes, time stamps and existence of its files come from the listing.

Credentials come from where the libraries look for them: environment variables and, for S3, ~/.aws. A URL with a
password is refused. Messages are composed here and never quote the text of an exception, which may contain secrets.
"""

import argparse
import contextlib
import io
import os
import posixpath
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PosixPath, PurePath
from threading import Lock, local
from typing import IO, Any, Self, TypeVar

from earmark.errors import SCRIPT_PLACEHOLDER, EarmarkError, MissingError
from earmark.files.safe_text import shown_url
from earmark.optional import require_library

T = TypeVar("T")

LISTING_SECONDS = 600.0
ATTEMPTS, FIRST_WAIT, LONGEST_WAIT = 3, 1.0, 8.0  # of reads and writes; waits in seconds
FIRST_BLOCK, LARGEST_BLOCK = 1 << 16, 1 << 23  # bytes of a request that reads ahead
MAX_GAP = 1 << 21  # bytes that are read and dropped rather than skipped by another request
BUSY_CODES = ("500", "503", "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout")

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
PASSWORD = re.compile(r"[^/]*:[^@]*@")  # at the start of what follows ://, also if the password contains a slash
EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "hf": ("huggingface_hub", "download")}
# Parts of a listing that change with the content of a file; the first that is present is used.
STATE = ("ETag", "etag", "blob_id", "md5Hash", "md5", "LastModified", "mtime", "modified", "updated", "created")
TIMES = ("LastModified", "mtime", "modified", "updated", "last_modified", "created")


def location(text: str) -> Path:
    """argparse type: a local path, or the URL of a remote folder.

    Nothing is accessed, and no library is imported.

    Parameters
    ----------
    text : str
        A path, file:///path, or a URL of a file system known to fsspec, such as s3://bucket/prefix.

    Returns
    -------
    Path
        A `RemotePath` for a URL, except for file://.

    Raises
    ------
    argparse.ArgumentTypeError
        If the URL has no bucket, contains a password or a query, or cannot be listed. The message does not repeat it.

    Examples
    --------
    >>> location("data")
    PosixPath('data')
    >>> str(location("s3://bucket/speech") / "esc50" / "manifest.csv")
    's3://bucket/speech/esc50/manifest.csv'
    >>> location("s3://key:secret@bucket/speech")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: the URL contains a password or a query. Leave it out; credentials are read from ...
    """
    try:
        path = _parsed(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    _forget_listings()
    return path


def _parsed(text: str) -> Path:
    """The path of a text. ValueError for a URL that cannot be used; it does not repeat the URL."""
    if "::" in text and "://" in text:
        raise ValueError("a URL within another (::) cannot be used; unpack the archive")
    match = URL.fullmatch(text)
    if match is None:
        return Path(text)
    scheme, rest = match[1].lower(), match[2]
    if PASSWORD.match(rest) or "?" in rest:
        raise ValueError(
            "the URL contains a password or a query. Leave it out; credentials are read from environment variables and "
            "the usual files, such as ~/.aws"
        )
    if scheme in ("file", "local"):
        return Path(rest)
    if scheme in ("http", "https"):
        raise ValueError(
            f"{scheme}:// has no folders that can be listed; use s3://, hf:// or another file system of fsspec"
        )
    if not rest.split("/", 1)[0]:
        raise ValueError(f"the URL has no bucket; it has the form {scheme}://bucket/prefix")
    return RemotePath(f"{scheme}:", rest)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file or folder in a listing. changed: time of the last change in seconds, 0 if unknown."""

    is_folder: bool
    size: int = 0
    state: str = ""
    changed: float = 0.0


class RemotePath(PosixPath):
    """A file or folder behind a URL, with the parts SCHEME:, bucket, folders and name.

    Reading operations raise the exceptions of local paths (FileNotFoundError), and

    - MissingError without the library, the bucket or credentials;
    - EarmarkError if access is denied or the server does not respond.

    It is not a file of this machine: `os.fspath` and functions of `os` refuse it.
    """

    def __str__(self) -> str:
        first, *rest = self.parts or (".",)
        return f"{first}//{'/'.join(rest)}" if first.endswith(":") else "/".join([first, *rest])

    def __fspath__(self) -> str:
        raise TypeError(f"{self} is not a local file")

    def __truediv__(self, key: "str | os.PathLike[str]") -> Self:
        """Join; an absolute path, or a URL that can be used, replaces this one."""
        text = str(key)
        if URL.fullmatch(text):
            with contextlib.suppress(ValueError):
                return _parsed(text)  # type: ignore[return-value]
        return Path(text) if text.startswith("/") else super().__truediv__(key)  # type: ignore[return-value]

    # --- state ---

    @property
    def stamp(self) -> str:
        """Size and entity tag, or time of change, as listed; changes with the content. FileNotFoundError."""
        entry = self._file()
        return f"{entry.size} {entry.state}"

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        if not self.is_file() and self.is_dir():
            return os.stat_result((stat.S_IFDIR | 0o755, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        entry, changed = self._file(), int(self._file().changed)
        return os.stat_result((stat.S_IFREG | 0o644, 0, 0, 1, 0, 0, entry.size, changed, changed, changed))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        if len(self.parts) < 3:
            return False
        entry = _listing(self.parent).get(self.name)
        return entry is not None and not entry.is_folder

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether anything lies in this folder. Object storage has no empty folders."""
        return bool(_listing(self))

    def is_absolute(self) -> bool:
        return True

    def absolute(self) -> Self:
        return self

    def resolve(self, strict: bool = False) -> Self:
        return self

    def _file(self) -> _Entry:
        if not self.is_file():
            raise FileNotFoundError(f"{self}: no such file. Check the path.")
        return _listing(self.parent)[self.name]

    # --- folders ---

    def iterdir(self) -> Iterator[Self]:  # type: ignore[override]
        return iter([self / name for name in _listing(self)])

    def glob(self, pattern: str, **_: Any) -> Iterator[Self]:  # type: ignore[override]
        """Files and folders directly in this folder whose name matches."""
        return iter([self / name for name in _listing(self) if fnmatchcase(name, str(pattern))])

    def rglob(self, pattern: str, **_: Any) -> Iterator[Self]:  # type: ignore[override]
        """Files and folders at any depth whose name matches."""
        for name, entry in _listing(self).items():
            if fnmatchcase(name, str(pattern)):
                yield self / name
            if entry.is_folder:
                yield from (self / name).rglob(pattern)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: folders on object storage come with their files."""

    # --- contents ---

    def open(  # type: ignore[override]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open for reading; the file is read ahead in blocks that grow while it is read forward."""
        if mode.replace("b", "").replace("t", "") != "r":
            raise io.UnsupportedOperation(f"{self}: opened for reading only")
        binary = io.BufferedReader(_Reader(self), 1 << 12)
        return binary if "b" in mode else io.TextIOWrapper(binary, encoding, errors, newline)

    def read_bytes(self) -> bytes:
        return self._read(None, None)

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        with io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding, errors, newline) as file:
            return file.read()

    def read_range(self, start: int, end: int) -> bytes:
        """Bytes from `start` to before `end`, or fewer at the end of the file."""
        end = min(end, self._file().size)
        return self._read(start, end) if start < end else b""

    def read_stored(self, start: int, end: int) -> bytes:
        """As `read_range`, without a look at the listing: for files that were written after it. OSError if shorter."""
        return self._read(start, end)

    def _read(self, start: int | None, end: int | None) -> bytes:
        def action(fs: Any, key: str) -> bytes:
            whole_range = {} if fs.async_impl else {"cache_type": "none"}  # others read megabytes ahead
            return bytes(fs.cat_file(key, start=start, end=end, **whole_range))

        return _retried(self, action)

    def read_clip(self, start: int = 0, end: int | None = None) -> bytes:
        """As `read_range`; the last range of each thread is kept, since a clip is hashed and then decoded."""
        wanted = (str(self), self.stamp, start, end)
        if getattr(_last_clip, "wanted", None) != wanted:
            _last_clip.content = self.read_range(start, self._file().size if end is None else end)
            _last_clip.wanted = wanted
        return _last_clip.content

    def put(self, content: bytes) -> None:
        """Write the whole file at once; other readers see all of it or nothing. Transient errors are retried."""
        _retried(self, lambda fs, key: fs.pipe_file(key, content))
        with _listings_lock:
            for folder in list(self.parents)[:-2]:  # up to the bucket
                _listings.pop(_url(folder), None)

    def list_now(self) -> list[str]:
        """Sorted names of the files in this folder at this moment, not as listed before."""
        with _listings_lock:
            _listings.pop(_url(self), None)
        return sorted(name for name, entry in _listing(self).items() if not entry.is_folder)


def read_together(folder: RemotePath, names: Sequence[str]) -> dict[str, bytes]:
    """Read small files of a folder, several at a time.

    Parameters
    ----------
    folder : RemotePath
    names : sequence of str

    Returns
    -------
    dict
        {name: content}, without files that no longer exist.
    """

    def action(fs: Any, key: str) -> dict[str, bytes]:
        keys, whole = [f"{key}/{name}" for name in names], [None] * len(names)
        contents = fs.cat_ranges(keys, whole, whole, on_error="return")
        for each in contents:
            if isinstance(each, Exception) and not isinstance(each, FileNotFoundError):
                raise each
        return {name: bytes(each) for name, each in zip(names, contents, strict=True) if not isinstance(each, OSError)}

    return _retried(folder, action) if names else {}


def below(folder: Path, name: str) -> Path:
    """The path of a name in a folder; a URL stands for itself.

    Examples
    --------
    >>> below(Path("data"), "esc50/manifest.csv")
    PosixPath('data/esc50/manifest.csv')
    """
    return _parsed(name) if URL.fullmatch(name) else folder / name


def require_reachable(path: Path) -> None:
    """Check before a long run that a remote folder can be listed; local paths are not checked.

    Raises
    ------
    MissingError
        If the library, the bucket or credentials are missing.
    EarmarkError
        If access is denied or the server does not respond.
    """
    if isinstance(path, RemotePath):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            _call(path, _list)  # without the wait of `_retried`


# --- listings ---------------------------------------------------------------------------------------------------------

_listings: dict[str, tuple[float, dict[str, _Entry]]] = {}  # {URL of a folder: (when listed, {name: entry})}
_listings_lock = Lock()
_last_clip = local()


def _forget_listings() -> None:
    with _listings_lock:
        _listings.clear()


def _url(path: RemotePath) -> str:
    """The URL without `..`, which object storage does not know."""
    scheme, *rest = path.parts
    return f"{scheme}//{posixpath.normpath('/'.join(rest))}"


def _listing(folder: RemotePath) -> Mapping[str, _Entry]:
    """{name: file or folder}, sorted; empty if the folder does not exist."""
    url = _url(folder)
    with _listings_lock:
        known = _listings.get(url)
    if known is not None and time.monotonic() - known[0] < LISTING_SECONDS:
        return known[1]
    try:
        found = _retried(folder, _list)
    except (FileNotFoundError, NotADirectoryError):
        found = {}
    with _listings_lock:
        _listings[url] = (time.monotonic(), found)
    return found


def _list(fs: Any, key: str) -> dict[str, _Entry]:
    fs.invalidate_cache(key)
    entries: dict[str, _Entry] = {}
    for info in fs.ls(key, detail=True):
        parent, _, name = str(info["name"]).rstrip("/").rpartition("/")
        if name and parent.strip("/") == key.strip("/"):  # a folder marker has the name of the folder itself
            entries[name] = _entry(info)
    return dict(sorted(entries.items()))


def _entry(info: Mapping[str, Any]) -> _Entry:
    if info.get("type") == "directory":
        return _Entry(True)
    state = next((str(info[name]) for name in STATE if info.get(name)), "")
    changed = next((info[name] for name in TIMES if info.get(name)), 0.0)
    changed = changed.timestamp() if hasattr(changed, "timestamp") else changed
    return _Entry(
        False,
        int(info.get("size") or 0),
        " ".join(state.strip('"').split()),
        float(changed) if isinstance(changed, int | float) else 0.0,
    )


class _Reader(io.RawIOBase):
    """Reads a remote file forward: each request twice as long as the last, or short again after a long jump."""

    def __init__(self, path: RemotePath) -> None:
        super().__init__()
        self._path, self._size, self._at = path, path.stat().st_size, 0
        self._start, self._block, self._length = 0, b"", FIRST_BLOCK

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, (0, self._at, self._size)[whence] + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._at >= self._size:
            return 0
        end = self._start + len(self._block)
        if not self._start <= self._at < end:
            near = 0 <= self._at - end < MAX_GAP and bool(self._block)
            self._length = min(2 * self._length, LARGEST_BLOCK) if near else FIRST_BLOCK
            self._block = self._path.read_range(self._at, self._at + max(self._length, len(buffer)))
            self._start = self._at
        offset = self._at - self._start
        part = self._block[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


# --- access and errors ------------------------------------------------------------------------------------------------


def _retried(path: RemotePath, action: Callable[[Any, str], T]) -> T:
    """`_call`, again after transient errors."""
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    attempts = Retrying(
        retry=retry_if_exception_type(_TransientError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(FIRST_WAIT, LONGEST_WAIT),
        reraise=True,
    )
    return attempts(_call, path, action)


class _TransientError(EarmarkError):
    """A server that does not respond, or is busy."""


def _call(path: RemotePath, action: Callable[[Any, str], T]) -> T:
    """Run an action on the file system and key of a path. Errors name the URL and what to do, and hold no secrets."""
    scheme = path.parts[0].removesuffix(":")
    library, extra = EXTRAS.get(scheme, ("fsspec", "s3"))
    require_library(library, f"--extra {extra}", f"{scheme}://")
    url_to_fs = require_library("fsspec.core", f"--extra {extra}", f"{scheme}://").url_to_fs
    try:
        fs, key = url_to_fs(_url(path))
        return action(fs, key)
    except EarmarkError:
        raise
    except Exception as error:
        raise _explained(path, error) from None  # the original may hold credentials


def _explained(path: RemotePath, error: Exception) -> Exception:
    """The error to report: names the URL, what happened and what to do."""
    chain = list(_chain(error))
    kinds = {name for each in chain for name in (kind.__name__ for kind in type(each).__mro__)}
    code = next((str(each.response["Error"]["Code"]) for each in chain if _has_code(each)), "")
    scheme, bucket = path.parts[0], path.parts[1]
    s3 = scheme in ("s3:", "s3a:")
    if code == "NoSuchBucket":
        return MissingError(f"{path}: the bucket {bucket} does not exist. Check its name.")
    if code in ("InvalidRange", "416"):
        return OSError(f"{path}: is shorter than expected.")
    if kinds & {"FileNotFoundError", "NotADirectoryError"}:
        return FileNotFoundError(f"{path}: no such file. Check the path.")
    if kinds & {"ParamValidationError"} or code == "InvalidBucketName":
        return MissingError(f"{path}: {bucket} is not a valid name of a bucket. Check the URL.")
    where = "environment variables (AWS_ACCESS_KEY_ID, AWS_PROFILE, …) or ~/.aws" if s3 else "their usual place"
    if kinds & {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError"}:
        public = " For a public bucket, set FSSPEC_S3_ANON=true." if s3 else ""
        return MissingError(f"{path}: no credentials found. Provide them in {where}.{public}")
    if "PermissionError" in kinds or code in ("403", "AccessDenied"):
        detail = f" ({code})" if re.fullmatch(r"\w{1,40}", code) else ""
        return EarmarkError(
            f"{path}: access denied{detail}. Check that the credentials in {where} may use this bucket."
        )
    if kinds & {
        "ConnectionError",
        "HTTPClientError",
        "TimeoutError",
        "FSTimeoutError",
        "ClientConnectionError",
        "TransportError",
    }:
        endpoint = next((str(each.kwargs["endpoint_url"]) for each in chain if _has_endpoint(each)), "")
        host = "/".join(shown_url(endpoint).split("/")[:3]) or "the server"
        hint = "the network and AWS_ENDPOINT_URL" if s3 else "the network"
        return _TransientError(f"{path}: {host} does not respond. Check {hint}, and run the same command again.")
    what = code if re.fullmatch(r"\w{1,40}", code) else type(error).__name__
    if isinstance(error, ImportError):
        package = next((each.name for each in chain if isinstance(each, ImportError) and each.name), "PACKAGE")
        return MissingError(f"{path}: {scheme}// needs {package}; use `uv run --with {package} {SCRIPT_PLACEHOLDER} …`")
    if isinstance(error, ValueError) and "rotocol" in str(error):
        return MissingError(f"{path}: {scheme}// is not known to fsspec. Check the URL.")
    if isinstance(error, ValueError) and "nvalid endpoint" in str(error):
        return MissingError(f"{path}: AWS_ENDPOINT_URL is not an address such as https://host:port.")
    if code in BUSY_CODES:
        return _TransientError(f"{path}: the server is busy ({what}). Run the same command again later.")
    return EarmarkError(f"{path}: cannot be accessed ({what}).")


def _chain(error: BaseException | None) -> Iterator[Any]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _has_code(error: Any) -> bool:
    response = getattr(error, "response", None)
    return isinstance(response, dict) and bool(response.get("Error", {}).get("Code"))


def _has_endpoint(error: Any) -> bool:
    return bool(getattr(error, "kwargs", None)) and "endpoint_url" in error.kwargs


def is_remote(path: PurePath) -> bool:
    """Whether a path is a URL."""
    return isinstance(path, RemotePath)
