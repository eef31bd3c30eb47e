"""Text from elsewhere, made fit for messages and outputs: without secrets, and such that UTF-8 and a line can hold it.

A server may send back what it was sent: whole, in part, and in another spelling. So secrets are looked for in text as
it came and in what its escapes stand for, and before anything is cut off, which could leave half of one behind.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit, urlunsplit

HIDDEN = "(hidden)"
SHOWN = 500  # characters of what a server said
READ = 1 << 16  # bytes of it that are looked at
SEARCHED = 4000  # characters of it in which secrets are looked for
TELLING = 6  # so many characters in a row of a secret give it away
SHORTEST = 4  # a shorter secret is a word of every sentence, and hidden only where it stands alone
DEPTH = 3  # escapes within escapes

ESCAPES = re.compile(
    r"%u([0-9a-f]{4})|%([0-9a-f]{2})|\\+u\{?([0-9a-f]{4,6})\}?|\\+x([0-9a-f]{2})|&#x([0-9a-f]{1,6});|&#([0-9]{1,7});"
    r"|\\+(?=[\\/\"'])",
    re.IGNORECASE,
)


def encodable(text: str) -> str:
    r"""Text that UTF-8 can hold: half a character, as from `"\ud800"` in JSON, is written as its escape.

    >>> encodable("a\ud800")
    'a\\ud800'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str) -> str:
    r"""Text on one line, without what a terminal would obey.

    >>> one_line("no\n  such\tthing\x1b[2J")
    'no such thing\\x1b[2J'
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in " ".join(text.split()))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class Secrets:
    """What no message may show. Empty ones do not count."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if secret}
        self._words = {_lower(secret) for secret in known if len(secret) < SHORTEST}
        self._pieces: dict[int, set[str]] = {}
        for spelling in {_lower(s) for secret in known for s in _spellings(secret) if len(s) >= SHORTEST}:
            size = min(TELLING, len(spelling))
            self._pieces.setdefault(size, set()).update(spelling[i : i + size] for i in range(len(spelling) - size + 1))

    def redacted_excerpt(self, data: bytes | str) -> str:
        """What a server said, on one line, without secrets and short enough for a message."""
        text = data[:READ].decode("utf-8", errors="replace") if isinstance(data, bytes) else data[:READ]
        return one_line(self.redact(" ".join(text.split())[:SEARCHED]))[:SHOWN] or "(empty reply)"

    def redact(self, text: str) -> str:
        """Text without any piece of a secret that gives it away.

        >>> Secrets(["s3cret-value"]).redact("Bearer s3cret%2Dval… is unknown")
        'Bearer (hidden)… is unknown'
        """
        found = bytearray(len(text))
        for characters, ends in _readings(text):
            for start, end in self._found(characters):
                first, last = ends[start], ends[end]
                found[first:last] = b"\1" * (last - first)
        pieces = re.finditer(b"\1+|\0+", found)
        return "".join(HIDDEN if found[m.start()] else text[m.start() : m.end()] for m in pieces)

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        """Where pieces of secrets are."""
        for size, pieces in self._pieces.items():
            yield from ((i, i + size) for i in range(len(text) - size + 1) if text[i : i + size] in pieces)
        for word in self._words:
            yield from (m.span() for m in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text))


def _spellings(secret: str) -> Iterator[str]:
    """A secret as a server may spell it: its parts, percent-encoded, as bytes, in base64 wherever it begins."""
    data = secret.encode("utf-8", "surrogateescape")
    yield from (secret, quote(data, safe=""), data.decode("latin-1"))
    yield from re.split(r"[\W_]+", secret)
    yield from (data.hex(), "".join(f"={byte:02x}" for byte in data), secret[::-1])  # hex, quoted-printable, backwards
    for before in range(3):  # base64 spells three bytes at a time; those before decide how ours come out
        coded = b64encode(bytes(before) + data).decode("ascii")[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        yield from (coded, coded.translate(str.maketrans("+/", "-_")))


def _readings(text: str) -> Iterator[tuple[str, list[int]]]:
    """The text as it is, and as its escapes mean it: lower case, with where each character begins in the text.

    Characters that cannot be seen are left out of the second: they may stand within a secret.
    """
    current, begins = text, [*range(len(text) + 1)]
    yield _lower(text), begins
    for _ in range(DEPTH):
        read: list[tuple[str, int]] = []
        at = 0
        for match in [*ESCAPES.finditer(current), None]:
            plain = range(at, match.start() if match else len(current))
            read += [(current[i], i) for i in plain if current[i].isprintable()]
            if match is None:
                break
            if meant := _meant(match):
                read.append((meant, match.start()))
            at = match.end()
        meaning = "".join(c for c, _ in read)
        if meaning == current:
            return
        current, begins = meaning, [*(begins[i] for _, i in read), len(text)]
        yield _lower(current), begins


def _lower(text: str) -> str:
    """In lower case, and as long as before."""
    return "".join(c.lower()[:1] for c in text)


def _meant(escape: re.Match[str]) -> str:
    """The character that an escape stands for; none for a backslash before another character."""
    digits = next(((group, 10 if i == 6 else 16) for i, group in enumerate(escape.groups(), 1) if group), None)
    code = int(*digits) if digits else 0
    return chr(code) if 0 < code < 0x110000 else ""


def shown_url(url: str) -> str:
    """An address without what may be secret in it: user, password, query and fragment.

    >>> shown_url("https://me:secret@host/v1?key=1")
    'https://host/v1'
    """
    parts, _ = _split(url)
    return one_line(urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")))


def url_secrets(url: str) -> list[str]:
    """What may be secret in an address: user, password, both as Basic credentials, and all of the query's values."""
    parts, given = _split(url)
    user, _, password = given.partition(":")
    plain = f"{unquote(user)}:{unquote(password)}"
    basic = [b64encode(plain.encode(how, "replace")).decode("ascii") for how in ("utf-8", "latin-1")]
    credentials = [user, password, unquote(user), unquote(password), plain, *basic]
    values = [value for name, value in parse_qsl(parts.query, keep_blank_values=True) for value in (name, value)]
    # A value of the query that is shorter is a version or a switch, and every message would have holes.
    return [*(credentials if given else ()), *(value for value in values if len(value) >= SHORTEST)]


def _split(url: str) -> tuple[SplitResult, str]:
    """An address without user and password, and those two as they stand in it.

    A password may hold a slash or a question mark that was to be escaped: then everything up to the last @ is taken for
    it, and not for a host with a strange port.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # read, and so checked, on access
        given, _, place = parts.netloc.rpartition("@")
        return parts._replace(netloc=place), given
    except ValueError:
        scheme, _, rest = url.partition("://")
        given, _, place = rest.rpartition("@")
        place, _, query = place.partition("#")[0].partition("?")
        host, slash, path = place.partition("/")
        return SplitResult(scheme, host, slash + path, query, ""), given
