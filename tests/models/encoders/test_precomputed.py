"""Precomputed embeddings in all file formats."""

import sys
from pathlib import Path

import kaldiio
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from earmark.errors import DataError, EarmarkError, MissingError
from earmark.models.encoders.registry import load_encoder

IDS = ["anna/1.wav", "anna/2.wav", "bela/1.wav"]
VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4)


def save(folder: Path, form: str) -> Path:
    if form == "arrays":
        np.savez(folder / "x.npz", ids=np.array(IDS), embeddings=VECTORS)
    elif form == "stems":
        np.savez(folder / "x.npz", keys=np.array([name[:-4] for name in IDS]), vectors=VECTORS.astype(np.float64))
    elif form == "one for each":
        np.savez(folder / "x.npz", **dict(zip(IDS, VECTORS, strict=True)))
    else:
        np.save(folder / "x.npy", VECTORS)
        (folder / "x.ids").write_text("\n".join(IDS) + "\n")
        return folder / "x.npy"
    return folder / "x.npz"


@pytest.mark.parametrize("form", ["arrays", "stems", "one for each", "npy"])
def test_embed_paths_looks_up_relative_paths(tmp_path, form):
    precomputed = load_encoder(f"embeddings:{save(tmp_path, form)}")
    paths = [Path("/audio") / IDS[2], Path("/audio") / IDS[0], Path("/audio/anna/3.wav")]
    embeddings = dict(precomputed.embed_paths(paths, Path("/audio")))
    assert precomputed.dimension == 4
    assert embeddings[paths[0]].vector.tolist() == [8, 9, 10, 11]
    assert embeddings[paths[1]].vector.tolist() == [0, 1, 2, 3]
    assert embeddings[paths[2]].error == "anna/3.wav: is not among the 3 ids of x"


def test_lookup_reports_invalid_vectors(tmp_path):
    vectors = VECTORS.copy()
    vectors[0], vectors[1, 2] = 5, np.nan
    np.savez(tmp_path / "x.npz", ids=np.array(IDS), embeddings=vectors)
    precomputed = load_encoder(f"embeddings:{tmp_path}/x.npz")
    assert "is constant" in precomputed.lookup(Path(IDS[0])).error
    assert "is not finite" in precomputed.lookup(Path(IDS[1])).error


def test_identity_depends_on_content(tmp_path):
    (tmp_path / "other").mkdir()
    one, copy = (load_encoder(f"embeddings:{save(place, 'npy')}").identity for place in (tmp_path, tmp_path / "other"))
    (tmp_path / "x.ids").write_text("\n".join(reversed(IDS)))
    assert one == copy != load_encoder(f"embeddings:{tmp_path}/x.npy").identity


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": np.array(IDS[:2]), "embeddings": VECTORS}, r"2 ids and embeddings of shape \(3, 4\)"),
        ({"ids": np.array([*IDS[:2], IDS[0]]), "embeddings": VECTORS}, r"'anna/1.wav' occurs more than once"),
        ({"ids": np.array(IDS, dtype=object), "embeddings": VECTORS}, "Store ids as an array of strings"),
        ({"a": np.ones(3), "b": np.ones(4)}, "has neither the arrays"),
        ({"names": np.array(IDS), "features": VECTORS}, "has neither the arrays"),
    ],
)
def test_invalid_npz_names_reason(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(EarmarkError, match=message):
        load_encoder(f"embeddings:{tmp_path}/x.npz")


MATRIX_FAULT = r"a matrix of shape \(3, 4\); expected one vector per clip\. For frames .* store the mean over frames"


@pytest.mark.parametrize(
    ("arrays", "clip"),
    [
        ({"a": VECTORS, "b": VECTORS + 1}, "a"),
        ({"a": VECTORS[:1], "b": VECTORS}, "b"),
        ({"ids": np.array(IDS), "embeddings": np.stack([VECTORS, VECTORS])[[0, 1, 0]]}, IDS[0]),
    ],
)
def test_matrix_per_clip_is_rejected(tmp_path, arrays, clip):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(EarmarkError, match=rf"x\.npz: '{clip}' has {MATRIX_FAULT}"):
        load_encoder(f"embeddings:{tmp_path}/x.npz")


def test_one_row_matrix_is_vector(tmp_path):
    np.savez(tmp_path / "x.npz", a=VECTORS[:1], b=VECTORS[1])
    assert vectors_by_id(load_encoder(f"embeddings:{tmp_path}/x.npz")) == {"a": [0, 1, 2, 3], "b": [4, 5, 6, 7]}


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(MissingError, match="no such file"):
        load_encoder(f"embeddings:{tmp_path}/absent.npz")
    np.save(tmp_path / "x.npy", VECTORS)
    with pytest.raises(MissingError, match=r"ids not found; write them to x\.ids in the same folder, one per line"):
        load_encoder(f"embeddings:{tmp_path}/x.npy")
    whole = save(tmp_path, "arrays")
    whole.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(EarmarkError, match=r"x\.npz: is"):
        load_encoder(f"embeddings:{whole}")
    whole.write_text("no array")
    with pytest.raises(EarmarkError, match=r"x\.npz: is not an \.npz or \.npy file"):
        load_encoder(f"embeddings:{whole}")


# --- Kaldi ----------------------------------------------------------------------------------------------------------


def write_arks(folder: Path, vectors=None, **options) -> Path:
    """Write x.ark and x.scp with kaldiio."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = dict(zip(IDS, VECTORS, strict=True)) if vectors is None else vectors
    kaldiio.save_ark(str(folder / "x.ark"), vectors, scp=str(folder / "x.scp"), **options)
    return folder / "x.ark"


def vectors_by_id(precomputed):
    return {key: precomputed.vectors[row].tolist() for key, row in precomputed.rows.items()}


@pytest.mark.parametrize("suffix", [".ark", ".scp"])
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kaldi_text_and_binary(tmp_path, suffix, text, dtype):
    vectors = {key: vector.astype(dtype) / 4 for key, vector in zip(IDS, VECTORS, strict=True)}
    file = write_arks(tmp_path, vectors, text=text).with_suffix(suffix)
    precomputed = load_encoder(f"embeddings:{file}")
    assert vectors_by_id(precomputed) == {key: vector.tolist() for key, vector in vectors.items()}
    assert (precomputed.dimension, precomputed.vectors.dtype) == (4, np.float32)
    assert precomputed.lookup(Path(IDS[2])).vector.tolist() == [2, 2.25, 2.5, 2.75]


def test_text_vector_starting_with_integer_keeps_fractions(tmp_path):
    (tmp_path / "x.ark").write_text("a  [ 0 0.5 1e-05 ]\nb  [ 1 2.5 -3 ]\n")
    expected = {"a": [0, 0.5, pytest.approx(1e-5)], "b": [1, 2.5, -3]}
    assert vectors_by_id(load_encoder(f"embeddings:{tmp_path}/x.ark")) == expected


def test_kaldi_one_row_matrix_is_vector(tmp_path):
    file = write_arks(tmp_path, {"a": VECTORS[:1], "b": VECTORS[1:2]})
    assert vectors_by_id(load_encoder(f"embeddings:{file}")) == {"a": [0, 1, 2, 3], "b": [4, 5, 6, 7]}
    file = write_arks(tmp_path, {"a": VECTORS[:1], "b": VECTORS})
    with pytest.raises(EarmarkError, match=rf"x\.ark: 'b' has {MATRIX_FAULT}"):
        load_encoder(f"embeddings:{file}")
    with pytest.raises(DataError, match=rf"line 2: 'b' has {MATRIX_FAULT}"):
        load_encoder(f"embeddings:{file.with_suffix('.scp')}")


def test_kaldi_one_row_text_matrix_is_vector(tmp_path):
    file = tmp_path / "x.ark"
    file.write_text("a  [\n  0 1 2.5 3 ]\nb  [ 4 5 6 7 ]\n")
    assert vectors_by_id(load_encoder(f"embeddings:{file}")) == {"a": [0, 1, 2.5, 3], "b": [4, 5, 6, 7]}
    file.write_text("a  [\n  0 1 2.5 3 ]\nb  [\n 0 0 0 0\n 0 0 0 0\n 4 5 6 7 ]\n")
    with pytest.raises(EarmarkError, match=rf"x\.ark: 'b' has {MATRIX_FAULT}"):
        load_encoder(f"embeddings:{file}")
    file.write_text("a  [\n  0 1 2.5 3\n")
    with pytest.raises(EarmarkError, match="the file ends within a matrix"):
        load_encoder(f"embeddings:{file}")


@pytest.mark.parametrize("method", [2, 3, 5])
def test_kaldi_compressed_matrix_matches_kaldiio(tmp_path, method):
    file = write_arks(tmp_path, {"a": VECTORS[:1], "b": VECTORS[1:2]}, compression_method=method)
    expected = {key: matrix[0].tolist() for key, matrix in kaldiio.load_ark(str(file))}
    assert vectors_by_id(load_encoder(f"embeddings:{file}")) == expected
    assert expected["b"] == pytest.approx([4, 5, 6, 7], abs=0.05)


def test_scp_paths_relative_to_working_folder_or_scp(tmp_path, monkeypatch):
    write_arks(tmp_path / "here/exp")
    write_arks(tmp_path / "lists/exp", {"a": VECTORS[0] + 1})
    offset = len(IDS[0]) + 1
    scp = tmp_path / "lists/x.scp"
    scp.write_text(f"one exp/x.ark:{offset}\ntwo exp/x.ark:2\n")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DataError, match=r"line 2: exp/x\.ark has no vector at 2"):
        load_encoder(f"embeddings:{scp}")
    scp.write_text(f"one exp/x.ark:{offset}\n")
    assert vectors_by_id(load_encoder(f"embeddings:{scp}")) == {"one": [0, 1, 2, 3]}
    monkeypatch.chdir(tmp_path)
    scp.write_text("one exp/x.ark:2\n")
    assert vectors_by_id(load_encoder(f"embeddings:{scp}")) == {"one": [1, 2, 3, 4]}


def test_scp_commands_are_rejected(tmp_path):
    file = write_arks(tmp_path)
    (tmp_path / "x.scp").write_text(
        f"a touch {tmp_path}/run | \nb |touch {tmp_path}/run\nc {file}:14\nd\ne nowhere.ark:3\nf -\ng {file}:14[0:2]\n"
    )
    with pytest.raises(DataError) as caught:
        load_encoder(f"embeddings:{tmp_path}/x.scp")
    assert not (tmp_path / "run").exists()
    assert [fault.line for fault in caught.value.faults[str(tmp_path / "x.scp")]] == [1, 2, 4, 5, 6, 7]
    assert "lines 1, 2: is a command" in str(caught.value)
    assert "line 4: is not `id FILE.ark:OFFSET`" in str(caught.value)
    assert "line 5: nowhere.ark not found in the working folder or the folder of the .scp" in str(caught.value)


class Touch:
    """Code that a pickle would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("suffix", [".ark", ".scp"])
def test_ark_pickles_are_not_loaded(tmp_path, suffix):
    write_arks(tmp_path, {"a": Touch(tmp_path / "run")}, write_function="pickle")
    assert not (tmp_path / "run").exists()
    with pytest.raises(EarmarkError, match="neither a binary vector nor one line"):
        load_encoder(f"embeddings:{tmp_path}/x{suffix}")
    assert not (tmp_path / "run").exists()
    kaldiio.load_scp(str(tmp_path / "x.scp"))["a"]  # checks that the file does contain a pickle
    assert (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "contains no vectors"),
        (b"only-an-id", "not a Kaldi ark of vectors"),
        (b"a \0BFV \4\xff\xff\xff\x7f1234", "damaged"),
        (b"a \0BFV \4\2\0\0\0" + bytes(4), "the file ends within a vector"),
        (b"a \0BFV \4", "damaged"),
        (b"a \0BXX 12345678", "damaged"),
        (b"a [ 1 2\n", "neither a binary vector nor one line"),
        (b"a [ 1 two ]\n", "could not convert"),
        (b"a [ 1 2 ]\nb [ 1 ]\n", r"'b' has 1 dimensions where 'a' has 2"),
        (b"a [ 1 2 ]\n [ 1 2 ]\n", "an id is empty|not a Kaldi ark"),
        (b"a [ 1 2 ]\na [ 1 2 ]\n", "'a' occurs more than once"),
        (b"\xff\xfe [ 1 2 ]\n", "not a Kaldi ark of vectors"),
    ],
)
def test_invalid_arks(tmp_path, content, message):
    (tmp_path / "x.ark").write_bytes(content)
    with pytest.raises(EarmarkError, match=message):
        load_encoder(f"embeddings:{tmp_path}/x.ark")


def test_identity_independent_of_file_format(tmp_path):
    files = [save(tmp_path, "arrays"), save(tmp_path, "npy"), write_arks(tmp_path), tmp_path / "x.scp", table(tmp_path)]
    assert len({load_encoder(f"embeddings:{file}").identity for file in files}) == 1


# --- parquet --------------------------------------------------------------------------------------------------------


def table(folder: Path, **columns) -> Path:
    pd.DataFrame(columns or {"utterance": IDS, "embedding": list(VECTORS)}).to_parquet(folder / "x.parquet")
    return folder / "x.parquet"


NUMBERED = {f"x{i}": VECTORS[:, i] for i in (3, 1, 0, 2)}


@pytest.mark.parametrize(
    "columns",
    [
        {"utterance": IDS, "embedding": list(VECTORS)},
        {"speaker": list("aab"), "tokens": [[1], [2, 3], []], "path": IDS, "vector": list(VECTORS.astype(float))},
        {"id": IDS, "anything": [list(map(int, vector)) for vector in VECTORS]},
        {"duration": [1.0, 2.0, 3.0], "utt": IDS, **NUMBERED},
        {"key": pd.Categorical(IDS), **{f"{i}": VECTORS[:, i] for i in range(4)}},
    ],
)
def test_parquet_lists_and_numbered_columns(tmp_path, columns):
    precomputed = load_encoder(f"embeddings:{table(tmp_path, **columns)}")
    assert vectors_by_id(precomputed) == {key: vector.tolist() for key, vector in zip(IDS, VECTORS, strict=True)}


def test_parquet_numbered_columns_are_sorted(tmp_path):
    wide = {f"x{i}": [float(i)] for i in sorted(range(12), key=str)}
    precomputed = load_encoder(f"embeddings:{table(tmp_path, id=['a'], **wide)}")
    assert vectors_by_id(precomputed) == {"a": list(range(12))}


def test_parquet_fixed_size_lists_in_chunks(tmp_path):
    kind = pyarrow.list_(pyarrow.float16(), 4)
    rows = [VECTORS[:2].astype(np.float16), VECTORS[2:].astype(np.float16)]
    chunks = pyarrow.chunked_array([pyarrow.array(list(part), type=kind) for part in rows])
    parquet = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"ids": IDS, "X": chunks}), parquet, row_group_size=2)
    assert vectors_by_id(load_encoder(f"embeddings:{parquet}")) == dict(zip(IDS, VECTORS.tolist(), strict=True))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": IDS, "embedding": list(VECTORS)}, "has no column of ids; expected a column named ids, id, keys"),
        ({"id": [*IDS[:2], None], "embedding": list(VECTORS)}, "column id has empty cells"),
        ({"id": [*IDS[:2], IDS[0]], "embedding": list(VECTORS)}, "'anna/1.wav' occurs more than once"),
        ({"id": IDS, "embedding": [[1.0], [1.0, 2.0], [1.0]]}, "column embedding differ in length"),
        ({"id": IDS, "embedding": [[1.0], None, [1.0]]}, "differ in length"),
        ({"id": IDS, "embedding": [VECTORS.tolist()] * 3}, rf"x\.parquet: 'anna/1\.wav' has {MATRIX_FAULT}"),
        ({"id": IDS, "embedding": [[], VECTORS.tolist(), []]}, rf"x\.parquet: 'anna/2\.wav' has {MATRIX_FAULT}"),
        ({"id": IDS, "embedding": [["a"], ["b"], ["c"]]}, r"embeddings of shape \(3, 1\), object"),
        ({"id": IDS, "a": list(VECTORS), "b": list(VECTORS)}, r"it has several \(a, b\)"),
        ({"id": IDS, "a1": [1, 2, 3], "b1": [1, 2, 3]}, r"it has several \(a, b\)"),
        ({"id": IDS, "duration": [1.0, 2.0, 3.0]}, "it has none"),
    ],
)
def test_invalid_parquet_tables(tmp_path, columns, message):
    with pytest.raises(EarmarkError, match=message):
        load_encoder(f"embeddings:{table(tmp_path, **columns)}")


def test_invalid_parquet_file(tmp_path):
    (tmp_path / "x.parquet").write_text("no table")
    with pytest.raises(EarmarkError, match=r"x\.parquet: is not a parquet file, or is damaged"):
        load_encoder(f"embeddings:{tmp_path}/x.parquet")


@pytest.mark.parametrize(("suffix", "package"), [(".ark", "kaldiio"), (".scp", "kaldiio"), (".parquet", "pyarrow")])
def test_missing_reader_names_command(tmp_path, monkeypatch, suffix, package):
    write_arks(tmp_path), table(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingError, match=f"uv run --with {package} SCRIPT.py"):
        load_encoder(f"embeddings:{tmp_path}/x{suffix}")
