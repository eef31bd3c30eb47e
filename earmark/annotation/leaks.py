"""Scan of tables for usernames, e-mail addresses and home folders.

Certain finds are faults; uncertain ones are listed for review.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from earmark.annotation.subsets import Subset
from earmark.errors import Fault

EMAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
HOME_FOLDER = re.compile(
    r"([\\/](home|users|documents and settings)[\\/]|(^|[^\w])/root\b|~[a-z]\w*/|%userprofile%|\$home\b)", re.IGNORECASE
)
# Scripts without spaces between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese; and Korean, which attaches
# particles to names.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
TOKEN = re.compile(rf"[{UNSPACED}]+|[^\W_{UNSPACED}]+")
IN_UNSPACED = re.compile(rf"[{UNSPACED}]")
DIGITS_AFTER = re.compile(r"(?<=\D)\d+$")
UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})
ONE_LETTER = str.maketrans({"ł": "l", "ı": "i", "đ": "d", "ø": "o", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"})
CAMEL = re.compile(r"(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])")
AFFIX_LETTERS = 4  # a name with fewer letters attached (inflection) is doubtful
MIN_PART_LETTERS = 4  # shorter parts of a username are ignored: they are common words in some language
MIN_SURE_LETTERS = 8  # a username of this length is certain even if word breaks differ
USERNAME, EMAIL_ADDRESS, HOME_PATH = "a raw username", "an e-mail address", "a path to a home folder"
POSSIBLE_NAME = "a possible name (part or variant of a username)"


@dataclass(frozen=True)
class ScanResult:
    """Finds in one table.

    Attributes
    ----------
    faults : list of Fault
        Certain finds.
    doubtful : list of Fault
        Possible names, to be reviewed by a person.
    """

    faults: list[Fault] = field(default_factory=list)
    doubtful: list[Fault] = field(default_factory=list)


def scan(table: pd.DataFrame, usernames: Iterable[str], checked: Iterable[str]) -> ScanResult:
    """Search headers and cells for usernames, e-mail addresses and paths to home folders.

    Names are found regardless of case, accents and separators ("Anna.S" in "as anna_s said", "schmidt, anna",
    "annaschmidt2"), and inside text without word breaks. If a username is an e-mail address, the part before @ is
    searched as well.

    Parameters
    ----------
    table : DataFrame
        Cells as text, indexed by line number. Column `username` holds pseudonyms and is skipped.
    usernames : iterable of str
        Usernames to search for.
    checked : iterable of str
        Columns to skip, because their cells were validated against a set of values or a number format.

    Returns
    -------
    ScanResult
        Messages give line and column but do not repeat the name.

    Examples
    --------
    >>> table = pd.DataFrame({"reason": ["noise", "as Ann said"]}, index=[2, 3])
    >>> print(*scan(table, ["ann"], ()).faults)
      line 3, column reason: contains a raw username
    """
    matcher = UsernameMatcher(tuple(usernames))
    result = ScanResult()
    columns = table.columns.difference(["username", *checked], sort=False)
    for column in columns:
        _add_find(result, 1, column, "the header contains", matcher.classify(str(column)))
        finds = {cell: matcher.classify(cell) for cell in table[column].unique()}
        for line, cell in zip(table.index, table[column], strict=True):
            _add_find(result, int(line), column, "contains", finds[cell])
    return result


def _add_find(result: ScanResult, line: int, column: str, where: str, find: str) -> None:
    if find:
        (result.doubtful if find == POSSIBLE_NAME else result.faults).append(Fault(line, column, f"{where} {find}"))


def cells_with_names(cells: Iterable[str], usernames: Iterable[str]) -> int:
    """Number of cells that contain a username, or the part of one before @, as whole words; a fast and coarse `scan`.

    Parameters
    ----------
    cells : iterable of str
    usernames : iterable of str
        Names with fewer than `MIN_PART_LETTERS` letters are ignored.

    Returns
    -------
    int

    Examples
    --------
    >>> cells_with_names(["home/ann.kay/a.wav", "b.wav", "ann/kay.wav"], ["Ann.Kay@uni.example", "b"])
    2
    """
    texts = [part for name in usernames for part in (name, name.partition("@")[0])]
    names = {words for text in texts if sum(map(str.isalpha, text)) >= MIN_PART_LETTERS and (words := _words(text))}
    lengths = sorted({len(words) for words in names})
    return sum(
        any(words[at : at + n] in names for n in lengths for at in range(len(words))) for words in map(_words, cells)
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\W_]+", text.casefold()))


@dataclass(frozen=True)
class UsernameMatcher:
    """Finds usernames in text, in many spellings.

    Attributes
    ----------
    usernames : tuple of str
    """

    usernames: tuple[str, ...]

    def classify(self, text: str) -> str:
        """Classify what a text contains.

        Parameters
        ----------
        text : str

        Returns
        -------
        str
            One of EMAIL_ADDRESS, HOME_PATH, USERNAME and POSSIBLE_NAME; empty if nothing is found.
        """
        if EMAIL.search(text):
            return EMAIL_ADDRESS
        if HOME_FOLDER.search(text):
            return HOME_PATH
        folded, words = fold(text), split_words(text)
        joined = "".join(words)
        if any(name in folded for name in self._wordless) or any(name in joined for name in self._unspaced):
            return USERNAME
        find = ""
        for n, run in _runs(words, self._longest + 2):
            bare = DIGITS_AFTER.sub("", run)
            if self._whole.get(run) == n or (len(bare) >= MIN_PART_LETTERS and self._whole.get(bare) == n):
                return USERNAME
            if {run, bare} & self._whole.keys() and len(bare) >= MIN_SURE_LETTERS:
                return USERNAME
            if {run, bare} & (self._whole.keys() | self._doubtful):
                find = POSSIBLE_NAME
        camel = split_words(CAMEL.sub(" ", text))
        if camel != words and any(self._whole.get(run) == n for n, run in _runs(camel, self._longest + 2)):
            return USERNAME
        if any(name in joined for name in self._long):
            return POSSIBLE_NAME  # inside a longer word
        return find or (POSSIBLE_NAME if any(self._has_affix(word) for word in words if word.isalpha()) else "")

    def _has_affix(self, word: str) -> bool:
        """Whether a word is a name or part of a name with a few letters attached, as in Schmidts."""
        return any(
            word[i : len(word) - j] in self._doubtful or word[i : len(word) - j] in self._whole
            for i in range(AFFIX_LETTERS)
            for j in range(AFFIX_LETTERS)
            if 0 < i + j < AFFIX_LETTERS and len(word) - i - j >= (MIN_PART_LETTERS if word.isascii() else 3)
        )

    @cached_property
    def _spellings(self) -> list[tuple[str, ...]]:
        """Words of each username, of the part before @ if it has several words, and of two words in reverse order."""
        spellings = [words for name in self.usernames if (words := split_words(name))]
        local = (split_words(name.partition("@")[0]) for name in self.usernames if "@" in name)
        spellings += [words for words in local if len(words) > 1 or IN_UNSPACED.search("".join(words))]
        return [*spellings, *(words[::-1] for words in spellings if len(words) == 2)]

    @cached_property
    def _whole(self) -> dict[str, int]:
        """{letters of a username: number of words it is written in}"""
        return {"".join(words): len(words) for words in self._spellings}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._spellings), default=0)

    @cached_property
    def _wordless(self) -> set[str]:
        return {fold(name) for name in self.usernames if not split_words(name)}

    @cached_property
    def _unspaced(self) -> set[str]:
        parts = {part for name in self.usernames for part in split_words(name) if IN_UNSPACED.search(part)}
        return {name for name in {*self._whole, *parts} if len(name) > 1 and IN_UNSPACED.search(name)}

    @cached_property
    def _long(self) -> list[str]:
        return [name for name in self._whole if len(name) >= MIN_SURE_LETTERS]

    @cached_property
    def _doubtful(self) -> set[str]:
        """Parts of usernames, usernames without digits, and variants with umlauts written out or restored."""
        variants: set[str] = set()
        for name in self.usernames:
            local = unicodedata.normalize("NFC", name.partition("@")[0]).casefold()
            restored = local.replace("ae", "ä").replace("oe", "ö").replace("ue", "ü")
            for words in (split_words(local), split_words(local.translate(UMLAUTS)), split_words(restored)):
                spelled = (*words, "".join(words))
                variants |= {*spelled, *(DIGITS_AFTER.sub("", word) for word in spelled)}
        return {name for name in variants if len(name) >= MIN_PART_LETTERS} - self._whole.keys()


def _runs(words: tuple[str, ...], longest: int) -> Iterator[tuple[int, str]]:
    """Yield (number of words, joined words) of all runs of adjacent words."""
    for n in range(1, longest + 1):
        for i in range(len(words) - n + 1):
            yield n, "".join(words[i : i + n])


def fold(text: str) -> str:
    """Remove case, accents and Unicode compatibility forms.

    Parameters
    ----------
    text : str

    Returns
    -------
    str

    Examples
    --------
    >>> fold("Zoë ＳＣＨＭＩＤＴ")
    'zoe schmidt'
    """
    apart = unicodedata.normalize("NFKD", text.casefold())
    bare = unicodedata.normalize("NFC", "".join(c for c in apart if not unicodedata.combining(c))).casefold()
    return bare.translate(ONE_LETTER)


def split_words(text: str) -> tuple[str, ...]:
    """Split folded text into words.

    Parameters
    ----------
    text : str

    Returns
    -------
    tuple of str
        Runs of letters and digits. A run in a script without spaces is one word.

    Examples
    --------
    >>> split_words("Ann-Smith 2")
    ('ann', 'smith', '2')
    """
    return tuple(TOKEN.findall(fold(text)))


def checked_columns(subset: Subset) -> tuple[str, ...]:
    """Columns that cannot contain a name, because `tables.find_faults` validates their cells.

    Parameters
    ----------
    subset : Subset

    Returns
    -------
    tuple of str
    """
    return ("rating", *subset.choices, "reaction_time_ms", "sample_time_ms", "created_at")
