"""Sanitised external text for messages and outputs: without secrets, valid UTF-8, on one line.

A server may echo what it was sent, in part or in another encoding. Therefore secrets are searched for in the raw text
and in its decoded forms, and before truncation, which could leave half of a secret.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit, urlunsplit

REDACTED = "(hidden)"
MAX_EXCERPT = 500  # characters of a reply in a message
MAX_READ = 1 << 16  # bytes of a reply that are decoded
MAX_SEARCHED = 4000  # characters of a reply that are searched for secrets
PIECE_LENGTH = 6  # consecutive characters of a secret that are redacted
MIN_LENGTH = 4  # shorter secrets are redacted only as whole words
MAX_NESTING = 3  # escapes within escapes

ESCAPES = re.compile(
    r"%u([0-9a-f]{4})|%([0-9a-f]{2})|\\+u\{?([0-9a-f]{4,6})\}?|\\+x([0-9a-f]{2})|&#x([0-9a-f]{1,6});|&#([0-9]{1,7});"
    r"|\\+(?=[\\/\"'])",
    re.IGNORECASE,
)


def encodable(text: str) -> str:
    r"""Replace lone surrogates, as from `"\ud800"` in JSON, by their escapes, so that the text can be encoded in UTF-8.

    Examples
    --------
    >>> encodable("a\ud800")
    'a\\ud800'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str) -> str:
    r"""Put text on one line and escape control characters.

    Examples
    --------
    >>> one_line("no\n  such\tthing\x1b[2J")
    'no such thing\\x1b[2J'
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in " ".join(text.split()))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class Secrets:
    """Redacts secrets in text. Empty secrets are ignored."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if secret}
        self._words = {_lower(secret) for secret in known if len(secret) < MIN_LENGTH}
        self._pieces: dict[int, set[str]] = {}
        for spelling in {_lower(s) for secret in known for s in _spellings(secret) if len(s) >= MIN_LENGTH}:
            size = min(PIECE_LENGTH, len(spelling))
            self._pieces.setdefault(size, set()).update(spelling[i : i + size] for i in range(len(spelling) - size + 1))

    def redacted_excerpt(self, data: bytes | str) -> str:
        """Excerpt of a server's reply for a message: redacted, on one line, at most 500 characters."""
        text = data[:MAX_READ].decode("utf-8", errors="replace") if isinstance(data, bytes) else data[:MAX_READ]
        return one_line(self.redact(" ".join(text.split())[:MAX_SEARCHED]))[:MAX_EXCERPT] or "(empty reply)"

    def redact(self, text: str) -> str:
        """Replace every recognisable piece of a secret.

        Examples
        --------
        >>> Secrets(["s3cret-value"]).redact("Bearer s3cret%2Dval… is unknown")
        'Bearer (hidden)… is unknown'
        """
        marked = bytearray(len(text))
        for characters, ends in _decoded_forms(text):
            for start, end in self._spans(characters):
                first, last = ends[start], ends[end]
                marked[first:last] = b"\1" * (last - first)
        pieces = re.finditer(b"\1+|\0+", marked)
        return "".join(REDACTED if marked[m.start()] else text[m.start() : m.end()] for m in pieces)

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the positions of pieces of secrets."""
        for size, pieces in self._pieces.items():
            yield from ((i, i + size) for i in range(len(text) - size + 1) if text[i : i + size] in pieces)
        for word in self._words:
            yield from (m.span() for m in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text))


def _spellings(secret: str) -> Iterator[str]:
    """Encodings in which a server may echo a secret: its parts, percent-encoding, bytes, and base64 at any offset."""
    data = secret.encode("utf-8", "surrogateescape")
    yield from (secret, quote(data, safe=""), data.decode("latin-1"))
    yield from re.split(r"[\W_]+", secret)
    yield from (data.hex(), "".join(f"={byte:02x}" for byte in data), secret[::-1])  # hex, quoted-printable, backwards
    for before in range(3):  # base64 encodes three bytes at a time, so the offset changes the encoding
        coded = b64encode(bytes(before) + data).decode("ascii")[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        yield from (coded, coded.translate(str.maketrans("+/", "-_")))


def _decoded_forms(text: str) -> Iterator[tuple[str, list[int]]]:
    """Yield the text and its decoded forms in lower case, with the position of each character in the original text.

    Decoded forms omit invisible characters, which may be inserted into a secret.
    """
    current, begins = text, [*range(len(text) + 1)]
    yield _lower(text), begins
    for _ in range(MAX_NESTING):
        read: list[tuple[str, int]] = []
        at = 0
        for match in [*ESCAPES.finditer(current), None]:
            plain = range(at, match.start() if match else len(current))
            read += [(current[i], i) for i in plain if current[i].isprintable()]
            if match is None:
                break
            if decoded := _decoded(match):
                read.append((decoded, match.start()))
            at = match.end()
        decoded_text = "".join(c for c, _ in read)
        if decoded_text == current:
            return
        current, begins = decoded_text, [*(begins[i] for _, i in read), len(text)]
        yield _lower(current), begins


def _lower(text: str) -> str:
    """Lower case with unchanged length."""
    return "".join(c.lower()[:1] for c in text)


def _decoded(escape: re.Match[str]) -> str:
    """Character that an escape stands for; empty for a backslash before another character."""
    digits = next(((group, 10 if i == 6 else 16) for i, group in enumerate(escape.groups(), 1) if group), None)
    code = int(*digits) if digits else 0
    return chr(code) if 0 < code < 0x110000 else ""


def shown_url(url: str) -> str:
    """URL without user, password, query and fragment.

    Examples
    --------
    >>> shown_url("https://me:secret@host/v1?key=1")
    'https://host/v1'
    """
    parts, _ = _split(url)
    return one_line(urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")))


def url_secrets(url: str) -> list[str]:
    """Potential secrets in a URL: user, password, both as Basic credentials, and names and values of the query."""
    parts, userinfo = _split(url)
    user, _, password = userinfo.partition(":")
    plain = f"{unquote(user)}:{unquote(password)}"
    basic = [b64encode(plain.encode(how, "replace")).decode("ascii") for how in ("utf-8", "latin-1")]
    credentials = [user, password, unquote(user), unquote(password), plain, *basic]
    values = [value for name, value in parse_qsl(parts.query, keep_blank_values=True) for value in (name, value)]
    # Shorter values are versions or switches; redacting them would make messages unreadable.
    return [*(credentials if userinfo else ()), *(value for value in values if len(value) >= MIN_LENGTH)]


def _split(url: str) -> tuple[SplitResult, str]:
    """Split a URL into the URL without credentials, and the credentials.

    An unescaped slash or question mark in a password makes the URL invalid. Everything up to the last @ then counts as
    credentials.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # validated on access
        userinfo, _, host = parts.netloc.rpartition("@")
        return parts._replace(netloc=host), userinfo
    except ValueError:
        scheme, _, rest = url.partition("://")
        userinfo, _, location = rest.rpartition("@")
        location, _, query = location.partition("#")[0].partition("?")
        host, slash, path = location.partition("/")
        return SplitResult(scheme, host, slash + path, query, ""), userinfo
