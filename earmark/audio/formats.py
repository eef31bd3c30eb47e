"""Audio file suffixes, and detection of formats that libsndfile cannot decode."""

import re

from earmark.audio.content import Content
from earmark.audio.mpeg import skip_id3_tags

# Folders, tar files and lists are searched for these suffixes. A file named explicitly may have any suffix.
LIBSNDFILE_SUFFIXES = (
    ".mp3 .wav .flac .ogg .opus .oga .aif .aiff .aifc .au .snd .caf .w64 .rf64 .sph .nist .mp2 .voc .wve .avr .svx"
)
FFMPEG_SUFFIXES = ".m4a .m4b .aac .webm .wma .amr .awb .ac3 .eac3 .mka .wv .ape .tta .spx"
SUFFIXES = tuple(f"{LIBSNDFILE_SUFFIXES} {FFMPEG_SUFFIXES}".split())

# Formats that libsndfile cannot decode: pattern at the start of the file, name for messages, FFmpeg container name.
_SIGNATURES = tuple(
    (re.compile(pattern, re.DOTALL), name, container)
    for pattern, name, container in (
        (rb"....(ftyp|moov|mdat|wide|free)", "MPEG-4 audio (m4a, mp4)", "mov"),
        (rb"\x1aE\xdf\xa3", "Matroska or WebM", "matroska"),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media Audio (wma)", "asf"),
        (rb"#!AMR", "AMR", "amr"),
        (rb"\x0bw...[\x58-\xff]", "Dolby Digital Plus (E-AC-3)", "eac3"),
        (rb"\x0bw", "Dolby Digital (AC-3)", "ac3"),
        (rb"\xff[\xf0\xf1\xf8\xf9][^\xff].[\x00-\xff]{3}|ADIF", "AAC", "aac"),
        (rb"wvpk", "WavPack", "wv"),
        (rb"MAC ", "Monkey's Audio", "ape"),
        (rb"TTA[12]", "True Audio", "tta"),
        (rb"OggS.{24,60}Speex   ", "Speex", "ogg"),
    )
)
_WAV_CODECS = {1, 2, 3, 6, 7, 0x11, 0x14, 0x31, 0x38, 0x40, 0x45, 0x55, 0x64, 0x65, 0xFFFE}
_CAF_CODECS = (b"lpcm", b"alac", b"ulaw", b"alaw")
_AIFC_CODECS = b"NONE sowt twos raw  in24 in32 42ni 23ni fl32 FL32 fl64 FL64 ulaw ULAW alaw ALAW ima4 GSM  DWVW"


def ffmpeg_format(content: Content) -> tuple[str, str] | None:
    """Identify a format that libsndfile cannot decode.

    Parameters
    ----------
    content : Content
        An open clip.

    Returns
    -------
    tuple of str, or None
        Name of the format for messages and FFmpeg name of its container; None if libsndfile is to decode the clip.
    """
    start = content.read_at(skip_id3_tags(content, 0), 512)
    for pattern, name, container in _SIGNATURES:
        if pattern.match(start):
            return name, container
    if start[:4] == b"RIFF" and start[12:16] == b"fmt " and len(start) >= 22:
        tag = int.from_bytes(start[20:22], "little")
        return None if tag in _WAV_CODECS else (f"WAV with codec 0x{tag:04x}", "wav")
    if start[:4] == b"caff" and start[8:12] == b"desc" and (codec := start[28:32]) not in _CAF_CODECS:
        return _with_codec("CAF", codec, "caf")
    if start[:4] == b"FORM" and start[8:12] == b"AIFC" and (chunk := re.search(rb"COMM.{22}(.{4})", start, re.DOTALL)):
        return None if chunk[1] in _AIFC_CODECS else _with_codec("AIFC", chunk[1], "aiff")
    return None


def _with_codec(container: str, codec: bytes, name: str) -> tuple[str, str] | None:
    """Format name with its codec; None if its code is not ASCII letters and digits (damaged file)."""
    return (f"{container} with codec {codec.decode()!r}", name) if codec.isascii() and codec.isalnum() else None
