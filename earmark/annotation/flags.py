"""Flags that `anonymize.py` and `analysis.py` share: which subsets or table to read, and how."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from earmark import cli
from earmark.annotation.subsets import SCALES, subsets


def add_source_flags(parser: ArgumentParser, verb: str) -> None:
    """Add --subset and the flags that describe a table.

    Parameters
    ----------
    parser : ArgumentParser
    verb : str
        What the script does, for the help.
    """
    parser.add_argument(
        "--subset",
        default="all",
        metavar="NAME",
        help=f"subset to {verb}: {', '.join(subsets())}, one with a subset.toml or of --subset-file "
        "(default: all present)",
    )
    table = parser.add_argument_group("your own table")
    table.add_argument(
        "--table", type=Path, metavar="FILE", help="ratings as CSV, Parquet or JSON of Label Studio, one row per rating"
    )
    table.add_argument("--item", nargs="+", default=[], metavar="COLUMN", help="columns that identify an item")
    table.add_argument("--rater", metavar="COLUMN", help="column of the rater")
    table.add_argument("--rating", metavar="COLUMN", help="column of the rating")
    table.add_argument("--scale", choices=SCALES, help="binary (with --positive), nominal, ordinal (--order), interval")
    table.add_argument(
        "--order", type=comma_separated, default=[], metavar="LOW,…,HIGH", help="levels of an ordinal scale"
    )
    table.add_argument("--positive", metavar="VALUE", help="the rating of a binary scale that counts as present")
    table.add_argument("--time", metavar="COLUMN", help="column of the time: of repeated ratings the newest counts")
    table.add_argument("--users", type=Path, metavar="FILE", help="table of the raters, one row per rater")
    table.add_argument("--name", metavar="NAME", help="name of the outputs (default: name of the table)")
    table.add_argument(
        "--by", nargs="+", default=[], metavar="COLUMN", help="item columns by which agreement is also reported"
    )
    table.add_argument("--subset-file", type=Path, metavar="FILE", help="description of subsets as TOML")


def add_reading_flags(parser: ArgumentParser) -> None:
    """Add the flags that change how a table is read."""
    reading = parser.add_argument_group("reading")
    reading.add_argument(
        "--map", nargs="+", action="extend", default=[], metavar="OLD=NEW", help="columns or ratings to rename"
    )
    reading.add_argument(
        "--missing", nargs="*", metavar="VALUE", help="ratings that mean no rating, besides the empty cell"
    )
    reading.add_argument("--day-first", action="store_true", help="read 03.04.2026 and 03/04/2026 as 3 April")
    reading.add_argument("--month-first", action="store_true", help="read 03/04/2026 as 4 March")
    reading.add_argument("--decimal-comma", action="store_true", help="read 3,5 as 3.5")
    reading.add_argument(
        "--ignore-case", action="store_true", help="ratings and raters that differ only in case are the same"
    )
    reading.add_argument("--drop-identical", action="store_true", help="drop lines that equal an earlier line")
    reading.add_argument(
        "--exact-keys",
        action="store_true",
        help="treat items, raters and ratings that differ only in spelling as different",
    )


def pass_rate(text: str) -> float:
    """argparse type: the smallest pass rate, above 0 and at most 1.

    Examples
    --------
    >>> pass_rate("1")
    1.0
    """
    rate = cli.positive_float(text)
    if rate > 1:
        raise ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return rate


def trimmed_share(text: str) -> float:
    """argparse type: the share that a trimmed mean leaves out at either end, above 0 and below 0.5.

    Examples
    --------
    >>> trimmed_share("0.2")
    0.2
    """
    share = cli.positive_float(text)
    if share >= 0.5:
        raise ArgumentTypeError(f"must be below 0.5, since it is left out at either end, not {text}")
    return share


def comma_separated(text: str) -> list[str]:
    """argparse type: entries separated by commas.

    Examples
    --------
    >>> comma_separated("low, mid,high")
    ['low', 'mid', 'high']
    """
    return [entry.strip() for entry in text.split(",") if entry.strip()]
