"""Atomic writes of files, individually or as a group, and locks of directories."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from earmark.errors import EarmarkError, MissingError, shown_path

LOCK = ".lock"
PATIENCE = 5.0  # seconds before a process says that it waits


@contextmanager
def locked(folders: Sequence[Path]) -> Iterator[None]:
    """Lock directories for a run.

    The lock is released when the process ends, even if it is killed.

    Parameters
    ----------
    folders : sequence of Path
        Created if needed.

    Raises
    ------
    EarmarkError
        If another run has locked one of them.
    MissingError
        If one of them was given as a URL: results are written to local folders only.
    """
    _require_local(folders)
    with ExitStack() as stack:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(folder / LOCK, timeout=0))
            except Timeout as error:
                raise EarmarkError(
                    f"Another run is writing to {shown_path(folder)}/. Wait for it, or choose another --output-dir."
                ) from error
        yield


@contextmanager
def lock_if_free(folder: Path) -> Iterator[bool]:
    """Lock a directory unless another process holds its lock.

    As with `locked`, the lock is released when the process ends, even if it is killed.

    Parameters
    ----------
    folder : Path
        Created if needed.

    Yields
    ------
    bool
        Whether the directory is locked by this process now.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder, lock_if_free(Path(folder)) as first:
    ...     with lock_if_free(Path(folder)) as second:
    ...         first, second
    (True, False)
    """
    _require_local([folder])
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def lock_when_free(folder: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Lock a directory; wait as long as another process holds its lock.

    Parameters
    ----------
    folder : Path
        Created if needed.
    waiting : callable
        Called once if there is something to wait for, such as to print a message.
    """
    _require_local([folder])
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _require_local(folders: Sequence[Path]) -> None:
    """Raise MissingError for a URL."""
    if urls := [folder for folder in folders if folder.parts and re.fullmatch(r"[a-z0-9+.-]{2,}:", folder.parts[0])]:
        raise MissingError(f"{urls[0].parts[0]}// is not a local folder; results are written to local folders only.")


def write_together(contents: Mapping[Path, str | bytes | None], *, modes: Mapping[Path, int] | None = None) -> None:
    """Write or remove files as a group: all of them or none.

    Everything is first written and flushed to temporary files next to the targets, so a full disk or a crash leaves the
    old files intact. The renames come last; if one fails, the earlier ones are undone.

    Parameters
    ----------
    contents : mapping of Path to str, bytes or None
        New content of each file; None removes it. Directories are created if needed.
    modes : mapping of Path to int, optional
        Permission bits. A file never exists with more permissive ones.

    Raises
    ------
    OSError
    """
    staged: dict[Path, Path | None] = {}
    try:
        for path, content in contents.items():
            staged[path] = None if content is None else _stage(path, content, (modes or {}).get(path))
        _rename(staged)
    finally:
        for temporary in staged.values():
            if temporary is not None:
                temporary.unlink(missing_ok=True)


def _stage(path: Path, content: str | bytes, mode: int | None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            # Lone surrogates, which JSON may contain, are escaped so that a finished run does not fail.
            file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode if mode is not None else 0o666 & ~_umask())
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


def _rename(staged: Mapping[Path, Path | None]) -> None:
    previous: dict[Path, tuple[bytes, int] | None] = {}
    try:
        for path, temporary in staged.items():
            previous[path] = (path.read_bytes(), path.stat().st_mode) if path.exists() else None
            if temporary is None:
                path.unlink(missing_ok=True)
            else:
                temporary.replace(path)
    except BaseException:
        for path, before in previous.items():
            if before is None:
                path.unlink(missing_ok=True)
            else:
                path.touch(mode=0o600)
                path.write_bytes(before[0])
                path.chmod(before[1])
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
