import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from earmark.probing.heads import knn
from earmark.probing.heads.knn import knn_predict, nearest_neighbours, neighbours_on_device, normalise_embeddings


def knn_by_loops(train, labels, test, k, recipe):
    """Reference implementation: neighbours sorted by (similarity, row), votes summed by class."""
    a, b = normalise_embeddings(train, test, recipe)
    winners = []
    for vector in b:
        similarities = (vector @ a.T).tolist()
        near = sorted(range(len(a)), key=lambda i: (-similarities[i], i))[:k]
        votes = {}
        for i in near:
            weight = np.exp((similarities[i] - similarities[near[0]]) / 0.07)
            votes[labels[i]] = votes.get(labels[i], 0) + weight
        winners.append(min(votes, key=lambda c: (-round(float(votes[c]), 9), c)))
    return winners


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["strict", "published"]), st.integers(1, 12))
@example(seed=852, recipe="published", k=8)  # a tie up to rounding errors
def test_knn_predict_matches_loops_with_ties(seed, recipe, k):
    rng = np.random.default_rng(seed)
    # Axis-parallel embeddings: products have one term, so equal similarities are equal to the last bit.
    train, test = (np.eye(3, dtype=np.float32)[rng.integers(0, 3, n)] * rng.integers(1, 3, (n, 1)) for n in (10, 7))
    labels = rng.integers(0, 4, 10)
    assert knn_predict(train, labels, test, [k], recipe=recipe)[k].tolist() == knn_by_loops(
        train, labels, test, k, recipe
    )


@pytest.mark.parametrize("recipe", ["strict", "published"])
def test_several_k_match_each_k_alone(recipe, monkeypatch):
    rng = np.random.default_rng(0)
    train, test, labels = rng.normal(size=(80, 6)), rng.normal(size=(33, 6)), rng.integers(0, 5, 80)
    ks = [1, 5, 10, 20, 50]
    at_once = knn_predict(train, labels, test, ks, recipe=recipe)
    monkeypatch.setattr(knn, "MAX_SIMILARITIES", 7 * 80)  # blocks of seven
    for k in ks:
        alone = knn_predict(train, labels, test, [k], recipe=recipe)[k]
        assert at_once[k].tolist() == alone.tolist() == knn_by_loops(train, labels, test, k, recipe)


def test_strict_recipe_matches_scikit_learn():
    rng = np.random.default_rng(1)
    train, test, labels = rng.normal(size=(200, 8)), rng.normal(size=(50, 8)), rng.integers(0, 6, 200)
    reference = KNeighborsClassifier(
        10, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(train, labels)
    assert knn_predict(train, labels, test, [10])[10].tolist() == reference.predict(test).tolist()


def test_published_similarities_by_hand():
    # Columns have norms 5 and 2, the test vector has norm 5: (3/5·3/5 + 0, 4/5·3/5 + 2/2·4/5).
    a, b = normalise_embeddings([[3.0, 0.0], [4.0, 2.0]], [[3.0, 4.0]], "published")
    np.testing.assert_allclose(b @ a.T, [[0.36, 1.28]], rtol=1e-6)
    a, b = normalise_embeddings([[3.0, 0.0], [4.0, 2.0]], [[3.0, 4.0]], "strict")
    np.testing.assert_allclose(b @ a.T, [[0.6, 20 / (20**0.5 * 5)]], rtol=1e-6)


def test_published_normalisation_matches_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    train, test = (rng.normal(size=(n, 5)).astype(np.float32) for n in (20, 4))
    train[:, 2] = 0
    a, b = normalise_embeddings(train, test, "published")
    np.testing.assert_allclose(a, torch.nn.functional.normalize(torch.tensor(train), dim=0), atol=1e-7)
    np.testing.assert_allclose(b, torch.nn.functional.normalize(torch.tensor(test), dim=-1), atol=1e-7)


def test_strict_and_published_recipe_differ():
    train, labels = [[100.0, 1.0], [90.0, 3.0]], [0, 1]  # published similarities ignore the norm of a training row
    test = [[1.0, 0.0]]
    assert knn_predict([[100.0, 90.0], [90.0, 1.0]], labels, test, [1])[1].tolist() == [1]
    assert knn_predict([[100.0, 90.0], [90.0, 1.0]], labels, test, [1], recipe="published")[1].tolist() == [0]
    assert knn_predict(train, labels, test, [1])[1].tolist() == [0]


def test_temperature_by_hand():
    # Similarity 1 against two of 0.96: e^(−0.04/0.07) = 0.565, and twice that is more than 1.
    near = [[0.96, 0.28], [0.96, -0.28]]
    assert knn_predict([[1.0, 0.0], *near], [0, 1, 1], [[1.0, 0.0]], [3])[3].tolist() == [1]
    # Against two of 0.936: e^(−0.064/0.07) = 0.401, and twice that is less.
    near = [[0.936, 0.352], [0.936, -0.352]]
    assert knn_predict([[1.0, 0.0], *near], [0, 1, 1], [[1.0, 0.0]], [3])[3].tolist() == [0]


def test_ties_prefer_first_row_and_lowest_class():
    train = np.tile([[1.0, 0.0]], (6, 1))
    similarities, rows = nearest_neighbours(train.astype(np.float32), train[:1].astype(np.float32), 4)
    assert rows.tolist() == [[0, 1, 2, 3]]
    assert similarities.tolist() == [[1.0] * 4]
    assert knn_predict(train, [3, 1, 1, 3, 0, 0], train[:1], [4])[4].tolist() == [1]
    assert knn_predict(train, [3, 1, 1, 3, 0, 0], np.zeros((1, 2)), [1, 6]) == {1: [3], 6: [0]}


def test_k_above_n_uses_all_rows():
    train, labels = np.eye(3), [0, 1, 1]
    classes = knn_predict(train, labels, [[0.1, 0.1, 0.1]], [3, 50])
    assert classes[50].tolist() == classes[3].tolist() == [1]
    assert knn_predict(train, labels, np.empty((0, 3)), [1])[1].tolist() == []


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_strict_recipe_ignores_embedding_norms(seed):
    rng = np.random.default_rng(seed)
    train, test, labels = rng.normal(size=(30, 4)), rng.normal(size=(9, 4)), rng.integers(0, 3, 30)
    powers = 2.0 ** rng.integers(-3, 4, (30, 1))
    a, b = (knn_predict(t, labels, test, [5])[5] for t in (train, train * powers))
    assert a.tolist() == b.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.empty((0, 3)), np.empty(0, int), np.eye(3)), "the training set is empty"),
        ((np.eye(3), [0, 1], np.eye(3)), "expected 3 integers ≥ 0"),
        ((np.eye(3), [0, 1, -1], np.eye(3)), "expected 3 integers ≥ 0"),
        ((np.eye(3), [0, 1, 1], np.eye(2)), r"training \(3, 3\) and test embeddings \(2, 2\) must be"),
        ((np.eye(3) * np.nan, [0, 1, 1], np.eye(3)), "must be finite"),
        ((np.eye(3), [0, 1, 1], np.eye(3), [0]), "k must be at least 1, got 0"),
    ],
)
def test_knn_predict_rejects_invalid_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        knn_predict(*arguments)
    with pytest.raises(ValueError, match="'cosine' is not one of"):
        knn_predict(np.eye(3), [0, 1, 1], np.eye(3), recipe="cosine")


def test_neighbours_on_device_are_those_of_numpy_with_ties(monkeypatch):
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    train = rng.integers(-2, 3, size=(300, 3)).astype(np.float32)  # many equal inner products
    test = rng.integers(-2, 3, size=(70, 3)).astype(np.float32)
    expected = nearest_neighbours(train, test, 20)
    monkeypatch.setattr(knn, "MAX_SIMILARITIES", 300 * 32)  # three blocks
    found = neighbours_on_device(train, test, 20, "cpu")
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
