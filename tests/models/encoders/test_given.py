"""Vectors made elsewhere, in every form they come in."""

from pathlib import Path

import numpy as np
import pytest

from earmark.errors import EarmarkError, MissingError
from earmark.models.encoders import load_encoder

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
def test_vectors_are_found_by_the_path_below_the_root(tmp_path, form):
    given = load_encoder(f"embeddings:{save(tmp_path, form)}")
    paths = [Path("/audio") / IDS[2], Path("/audio") / IDS[0], Path("/audio/anna/3.wav")]
    found = dict(given.embed_paths(paths, Path("/audio")))
    assert given.dimension == 4
    assert found[paths[0]].vector.tolist() == [8, 9, 10, 11]
    assert found[paths[1]].vector.tolist() == [0, 1, 2, 3]
    assert found[paths[2]].error == "anna/3.wav: is not among the 3 ids of x"


def test_a_vector_that_is_no_embedding_is_an_error(tmp_path):
    vectors = VECTORS.copy()
    vectors[0], vectors[1, 2] = 5, np.nan
    np.savez(tmp_path / "x.npz", ids=np.array(IDS), embeddings=vectors)
    given = load_encoder(f"embeddings:{tmp_path}/x.npz")
    assert "is constant" in given.lookup(Path(IDS[0])).error
    assert "is not finite" in given.lookup(Path(IDS[1])).error


def test_the_identity_is_that_of_the_content(tmp_path):
    (tmp_path / "other").mkdir()
    one, same = (load_encoder(f"embeddings:{save(place, 'npy')}").identity for place in (tmp_path, tmp_path / "other"))
    (tmp_path / "x.ids").write_text("\n".join(reversed(IDS)))
    assert one == same != load_encoder(f"embeddings:{tmp_path}/x.npy").identity


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": np.array(IDS[:2]), "embeddings": VECTORS}, r"2 ids and embeddings of shape \(3, 4\)"),
        ({"ids": np.array([*IDS[:2], IDS[0]]), "embeddings": VECTORS}, r"'anna/1.wav' is there more than once"),
        ({"ids": np.array(IDS, dtype=object), "embeddings": VECTORS}, "ids have to be an array of strings"),
        ({"a": np.ones(3), "b": np.ones(4)}, "has neither the arrays"),
    ],
)
def test_a_file_of_another_kind_is_told_why(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(EarmarkError, match=message):
        load_encoder(f"embeddings:{tmp_path}/x.npz")


def test_what_is_not_there_or_damaged(tmp_path):
    with pytest.raises(MissingError, match="no such file"):
        load_encoder(f"embeddings:{tmp_path}/absent.npz")
    np.save(tmp_path / "x.npy", VECTORS)
    with pytest.raises(MissingError, match=r"the ids are not beside it; put one a line into x\.ids"):
        load_encoder(f"embeddings:{tmp_path}/x.npy")
    whole = save(tmp_path, "arrays")
    whole.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(EarmarkError, match=r"x\.npz: is"):
        load_encoder(f"embeddings:{whole}")
    whole.write_text("no array")
    with pytest.raises(EarmarkError, match=r"x\.npz: is no \.npz or \.npy file"):
        load_encoder(f"embeddings:{whole}")
