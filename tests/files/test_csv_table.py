"""The fast reader of plain CSV files against the reader of all others."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.files.csv_table import _read_plain, read_csv_frame, read_csv_table

CELLS = [
    "a",
    "b1",
    "x y",
    "",
    "é",
    "weiß",
    "\u00a0a",
    "a\u00a0",
    "a\u3000",
    "\u2003",
    '"q"',
    '"a,b"',
    " a",
    "a\t",
    "NA",
]
CELLS += ["nan", "#", "5.0", "\x1f", "あ", "…", "a\u2028", "\x00", '"two\nlines"']


@st.composite
def csv_files(draw):
    separator, end = draw(st.sampled_from(",;\t|")), draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    width = draw(st.integers(1, 4))
    pool = draw(st.lists(st.sampled_from(CELLS), min_size=1, max_size=4))
    widths = draw(st.lists(st.one_of(st.just(width), st.just(width), st.integers(0, 5)), max_size=5))
    rows = [[draw(st.sampled_from(pool)) for _ in range(n)] for n in widths]
    lines = [separator.join(["name", "x", "y y", "z"][:width]), *(separator.join(row) for row in rows)]
    text = end.join(lines) + draw(st.sampled_from(["", end]))
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"])))


@settings(max_examples=300, deadline=None)
@given(csv_files())
def test_read_csv_frame_matches_read_csv_table(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    path.write_bytes(content)
    frame, faults = read_csv_frame(path)
    table = read_csv_table(path)
    index = pd.Index(table.lines, name="line", dtype=int)
    expected = pd.DataFrame(table.rows, columns=table.columns, index=index, dtype=str)
    pd.testing.assert_frame_equal(frame, expected, check_index_type=False)
    assert faults == table.faults


@pytest.mark.parametrize("content", [b"a,b\n1,2\n3,\n", b"\xef\xbb\xbfa;b\r\n1;x,y\r\n", "a\tb\nweiß\tÜ\n".encode()])
def test_read_plain_reads_plain_files(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    assert _read_plain(path) is not None


@pytest.mark.parametrize(
    "content",
    [
        b'a,b\n"1",2\n',
        b"a,b\n1,2\n3\n",
        b"a,b\n1,2,3\n4\n",
        b"a,b\n1,2\n\n",
        b"a,b\n,\n",
        b"a,b\n 1,2\n",
        b"a,a\n1,2\n",
        b"a,b\n1,2\xff\n",
        b"a,b\n1,\xc2\xa02\n",
        b"a,b\n1\r,2\n",
        b"a\n1\n",
        b"a,b\n",
        b"",
        b"a,\n1,2\n",
    ],
)
def test_read_plain_leaves_other_files(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    assert _read_plain(path) is None


def test_read_csv_table_names_utf_16_without_byte_order_mark(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("name,x\na,1\n".encode("utf-16-le"))
    for faults in (read_csv_table(path).faults, read_csv_frame(path)[1]):
        assert [fault.problem.partition(",")[0] for fault in faults] == ["has zero bytes"]
