"""What a clip is: a file of its own, or a member of an uncompressed tar file, read where it lies."""

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from earmark.errors import EarmarkError, MissingError, shown_path

# The first bytes of compressed files, and what makes a plain tar of one.
COMPRESSION_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class AudioError(EarmarkError):
    """A clip that cannot be used; the message is what the clip's row says."""


@dataclass(frozen=True, order=True)
class TarMember:
    """A file inside an uncompressed tar file, such as the shards of webdataset.

    name: within the tar. offset, size: of its content, in bytes from the start of the tar.
    """

    tar: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """The content. Each call opens the tar for itself, so that any number of threads may read at once and no
        more files are open than threads read. OSError where the tar cannot be read, AudioError where it ends early.
        """
        with self.tar.open("rb", buffering=0) as file:
            content = bytearray()
            while len(content) < self.size:  # the system may hand over less than it is asked for
                some = os.pread(file.fileno(), self.size - len(content), self.offset + len(content))
                if not some:
                    raise AudioError(
                        f"{shown_clip(self)}: the tar file ends after {len(content):,} of its {self.size:,} bytes"
                    )
                content += some
        return bytes(content)


Clip = Path | TarMember


def shown_clip(clip: Clip) -> str:
    """A clip as messages name it, without its folder.

    >>> shown_clip(Path("audio/anna/1.wav"))
    '1.wav'
    >>> shown_clip(TarMember(Path("audio/train-0.tar"), "anna/1.wav", 512, 8044))
    'train-0.tar:anna/1.wav'
    """
    return f"{clip.tar.name}:{clip.name}" if isinstance(clip, TarMember) else clip.name


def file_stamp(path: Path) -> str:
    """What changes when a file does: size, inode, and times of modification and of change.

    The last cannot be set back by hand, as tools that unpack archives do with the other. OSError as of `stat`.
    """
    found = path.stat()
    return f"{found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}"


def tar_members(path: Path) -> list[TarMember]:
    """The regular files of an uncompressed tar file, in their order; folders and links are passed over.

    Only headers are read. A tar file ends in a block of zeros; one that does not was cut short or is damaged, and is
    an EarmarkError that names the last member that is whole in its header. EarmarkError too for a compressed tar,
    whose members cannot be reached without unpacking all before them. MissingError where there is no file.
    """
    if not path.is_file():
        raise MissingError(f"{shown_path(path)}: no such tar file.")
    found: list[TarMember] = []
    name = ""
    with path.open("rb") as file:
        _require_uncompressed(path, file.read(6))
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    name = member.name
                    if member.issparse():
                        raise EarmarkError(f"{shown_path(path)}: {name} is stored sparse; make the tar without -S.")
                    if member.isreg():
                        found.append(TarMember(path, name, member.offset_data, member.size))
                end = tar.offset
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise EarmarkError(_damaged_message(path, name, str(error))) from error
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes any end for the end
            raise EarmarkError(_damaged_message(path, name, "no end mark"))
        while block := file.read(1 << 20):
            if block.strip(b"\0"):
                raise EarmarkError(
                    f"{shown_path(path)}: goes on after its end mark, as tar files do that were joined by cat; what "
                    "follows would be lost, so unpack both and make one tar."
                )
    return found


def _require_uncompressed(path: Path, start: bytes) -> None:
    program = next((program for magic, program in COMPRESSION_MAGIC.items() if start.startswith(magic)), None)
    if program:
        raise EarmarkError(
            f"{shown_path(path)}: is compressed; clips are read where they lie in a tar file, which has to be plain: "
            f"`{program} -dc {path.name} > plain.tar`, and put that in its place."
        )


def _damaged_message(path: Path, last: str, reason: str) -> str:
    where = f"at or after its member {last}" if last else "before its first member"
    return f"{shown_path(path)}: is no whole tar file, it is cut short or damaged {where} ({reason}); copy it again."
