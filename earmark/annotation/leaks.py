"""Names, addresses and home folders that are still in a table: the certain are refused, the doubtful are listed."""

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
# Scripts that are written without blanks between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese; Korean attaches
# particles to names.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
TOKEN = re.compile(rf"[{UNSPACED}]+|[^\W_{UNSPACED}]+")
IN_UNSPACED = re.compile(rf"[{UNSPACED}]")
DIGITS_AFTER = re.compile(r"(?<=\D)\d+$")
UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})
ONE_LETTER = str.maketrans({"ł": "l", "ı": "i", "đ": "d", "ø": "o", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"})
CAMEL = re.compile(r"(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])")
ATTACHED = 4  # letters that a language may put before or after a name
PART_LETTERS = 4  # of one part of a name that may be the person's; shorter ones are words of any language
SURE_LETTERS = 8  # of a name that is spelled with other gaps than the account has
RAW_NAME, ADDRESS, FOLDER = "a raw username", "an e-mail address", "a path to a home folder"
DOUBT = "what may be a name (part or variant of a username)"


@dataclass(frozen=True)
class Scan:
    """What a table still holds. faults: certain. doubtful: what a person has to look at."""

    faults: list[Fault] = field(default_factory=list)
    doubtful: list[Fault] = field(default_factory=list)


def scan(table: pd.DataFrame, usernames: Iterable[str], checked: Iterable[str]) -> Scan:
    """Every header and cell that holds a raw username, an e-mail address or a path to somebody's home folder.

    Names are found whatever the case, the accents, or the gaps between their parts ("Anna.S" in "as anna_s said",
    "schmidt, anna", "annaschmidt2"), and inside text that has no word breaks. Of an address as username, the part
    before @ counts too. `username` holds pseudonyms by now. checked: columns whose cells were already held against a
    closed set of values or a number format. Messages name line and column but not the name.
    """
    names = Names(tuple(usernames))
    found = Scan()
    columns = table.columns.difference(["username", *checked], sort=False)
    for column in columns:
        _note(found, 1, column, "the column's name holds", names.verdict(str(column)))
        verdicts = {cell: names.verdict(cell) for cell in table[column].unique()}
        for line, cell in zip(table.index, table[column], strict=True):
            _note(found, int(line), column, "still holds", verdicts[cell])
    return found


def _note(found: Scan, line: int, column: str, where: str, verdict: str) -> None:
    if verdict:
        (found.doubtful if verdict == DOUBT else found.faults).append(Fault(line, column, f"{where} {verdict}"))


@dataclass(frozen=True)
class Names:
    """Usernames, in every spelling in which they are looked for."""

    usernames: tuple[str, ...]

    def verdict(self, text: str) -> str:
        """What a text holds, in words; empty when nothing."""
        if EMAIL.search(text):
            return ADDRESS
        if HOME_FOLDER.search(text):
            return FOLDER
        folded, words = fold(text), words_of(text)
        joined = "".join(words)
        if any(name in folded for name in self._wordless) or any(name in joined for name in self._unspaced):
            return RAW_NAME
        doubt = ""
        for n, run in _runs(words, self._longest + 2):
            bare = DIGITS_AFTER.sub("", run)
            if self._whole.get(run) == n or (len(bare) >= PART_LETTERS and self._whole.get(bare) == n):
                return RAW_NAME
            if {run, bare} & self._whole.keys() and len(bare) >= SURE_LETTERS:
                return RAW_NAME
            if {run, bare} & (self._whole.keys() | self._doubtful):
                doubt = DOUBT
        camel = words_of(CAMEL.sub(" ", text))
        if camel != words and any(self._whole.get(run) == n for n, run in _runs(camel, self._longest + 2)):
            return RAW_NAME
        if any(name in joined for name in self._long):
            return DOUBT  # glued into a longer word
        return doubt or (DOUBT if any(self._attached(word) for word in words if word.isalpha()) else "")

    def _attached(self, word: str) -> bool:
        """Whether a word is a name or a part of one with a few letters before or after it, as in Schmidts."""
        return any(
            word[i : len(word) - j] in self._doubtful or word[i : len(word) - j] in self._whole
            for i in range(ATTACHED)
            for j in range(ATTACHED)
            if 0 < i + j < ATTACHED and len(word) - i - j >= (PART_LETTERS if word.isascii() else 3)
        )

    @cached_property
    def _spellings(self) -> list[tuple[str, ...]]:
        """The words of each name, of the part before @ where it has several words, and in the other order."""
        found = [words for name in self.usernames if (words := words_of(name))]
        local = (words_of(name.partition("@")[0]) for name in self.usernames if "@" in name)
        found += [words for words in local if len(words) > 1 or IN_UNSPACED.search("".join(words))]
        return [*found, *(words[::-1] for words in found if len(words) == 2)]

    @cached_property
    def _whole(self) -> dict[str, int]:
        """{letters of a name: in how many words it is written}"""
        return {"".join(words): len(words) for words in self._spellings}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._spellings), default=0)

    @cached_property
    def _wordless(self) -> set[str]:
        return {fold(name) for name in self.usernames if not words_of(name)}

    @cached_property
    def _unspaced(self) -> set[str]:
        parts = {part for name in self.usernames for part in words_of(name) if IN_UNSPACED.search(part)}
        return {name for name in {*self._whole, *parts} if len(name) > 1 and IN_UNSPACED.search(name)}

    @cached_property
    def _long(self) -> list[str]:
        return [name for name in self._whole if len(name) >= SURE_LETTERS]

    @cached_property
    def _doubtful(self) -> set[str]:
        """Parts of names, names without their digits, and names with umlauts written out."""
        found: set[str] = set()
        for name in self.usernames:
            own = unicodedata.normalize("NFC", name.partition("@")[0]).casefold()
            undone = own.replace("ae", "ä").replace("oe", "ö").replace("ue", "ü")
            for words in (words_of(own), words_of(own.translate(UMLAUTS)), words_of(undone)):
                spelled = (*words, "".join(words))
                found |= {*spelled, *(DIGITS_AFTER.sub("", word) for word in spelled)}
        return {name for name in found if len(name) >= PART_LETTERS} - self._whole.keys()


def _runs(words: tuple[str, ...], longest: int) -> Iterator[tuple[int, str]]:
    """(how many, joined) of words that stand side by side."""
    for n in range(1, longest + 1):
        for i in range(len(words) - n + 1):
            yield n, "".join(words[i : i + n])


def fold(text: str) -> str:
    """Without case, accents and compatibility forms.

    >>> fold("Zoë ＳＣＨＭＩＤＴ")
    'zoe schmidt'
    """
    apart = unicodedata.normalize("NFKD", text.casefold())
    bare = unicodedata.normalize("NFC", "".join(c for c in apart if not unicodedata.combining(c))).casefold()
    return bare.translate(ONE_LETTER)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, folded; text of scripts without blanks is one word apart from what stands beside it."""
    return tuple(TOKEN.findall(fold(text)))


def checked_columns(subset: Subset) -> tuple[str, ...]:
    """Columns that cannot hold a name: `tables.check` holds them against a format or a set of values."""
    return ("rating", *subset.choices, "reaction_time_ms", "sample_time_ms", "created_at")
