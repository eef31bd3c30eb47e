"""Machines among raters: hand-computed agreement, an independent implementation, and an exchangeable machine."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from earmark.annotation.machines import NO_SHARED_ITEM, machine_agreement, names_of, split_machines
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import Annotations
from earmark.errors import MissingError
from earmark.report.render import definitions

NOMINAL = Subset("choice", "nominal", ("file",), levels=("joy", "anger", "fear"))
ORDINAL = Subset("arousal", "ordinal", ("file",), levels=("1", "2", "3", "4", "5"))
INTERVAL = Subset("valence", "interval", ("file",))
BINARY = Subset("speech", "binary", ("file",), levels=("no", "yes"), present_from="yes")


def annotations_of(subset, ratings):
    """ratings: {file: {rater: rating}}."""
    rows = [(file, name, value) for file, each in ratings.items() for name, value in each.items()]
    table = pd.DataFrame(rows, columns=["file", "username", "rating"])
    empty = pd.DataFrame()
    return Annotations(subset, table, empty, empty, {}, len(table), {})


def compared(subset, ratings, replicates=0, machines=("bot",), **options):
    people, machine = split_machines(annotations_of(subset, ratings), machines)
    rng = np.random.default_rng(0)
    return machine_agreement(people, machine, replicates=replicates, rng=rng, **options)


# Two people agree on a and b, disagree on c; the machine is right on a, and agrees with one person on c.
THREE = {
    "a": {"ann": 0, "ben": 0, "bot": 0},
    "b": {"ann": 1, "ben": 1, "bot": 2},
    "c": {"ann": 1, "ben": 2, "bot": 2},
    "only one person": {"ann": 1, "bot": 1},
    "no machine": {"ann": 0, "ben": 1},
}


def test_split_machines_counts_what_it_leaves_out():
    people, machines = split_machines(annotations_of(NOMINAL, THREE), ["bot"])
    assert set(people.ratings["username"]) == {"ann", "ben"}
    assert len(machines) == 4
    assert people.excluded == {"ratings by bot, a machine (--machine-rater)": 4}


def test_split_machines_names_a_machine_without_ratings():
    with pytest.raises(MissingError, match="--machine-rater bod: no ratings by this rater"):
        split_machines(annotations_of(NOMINAL, THREE), ["bot", "bod"])


def test_percent_and_kappa_by_hand():
    [machine] = compared(NOMINAL, THREE)
    assert (machine.machine, machine.ratings, machine.items) == ("bot", 4, 3)
    percent, kappa = machine.agreement
    assert percent.name == "human_machine_percent"
    assert percent.human_human.value == pytest.approx(2 / 3)
    assert percent.human_machine.value == pytest.approx((1 + 0 + 0.5) / 3)
    assert percent.difference.value == pytest.approx(-1 / 6)
    # People: shares 1/3, 1/2, 1/6, so chance (4 + 9 + 1) / 36.
    assert kappa.human_human.value == pytest.approx((2 / 3 - 14 / 36) / (1 - 14 / 36))
    # Machine: shares 1/3, 0, 2/3, so chance 1/9 + 1/9.
    assert kappa.human_machine.value == pytest.approx((1 / 2 - 2 / 9) / (1 - 2 / 9))


def test_decided_scale_compares_present_and_absent():
    decided = replace(ORDINAL, present_from="3")
    ratings = {
        "a": {"ann": 2, "ben": 4, "bot": 3},
        "b": {"ann": 0, "ben": 1, "bot": 1},
        "c": {"ann": 0, "ben": 3, "bot": 0},
    }
    percent, kappa = compared(decided, ratings)[0].agreement
    assert percent.human_human.value == pytest.approx(2 / 3)
    assert percent.human_machine.value == pytest.approx(2.5 / 3)
    assert kappa.name == "human_machine_kappa"


def test_absolute_difference_and_concordance_by_hand():
    ratings = {"a": {"ann": 1.0, "ben": 3.0, "bot": 2.0}, "b": {"ann": 5.0, "ben": 5.0, "bot": 4.0}}
    difference, concordance = compared(INTERVAL, ratings)[0].agreement
    assert difference.human_human.value == pytest.approx(1.0)
    assert difference.human_machine.value == pytest.approx(1.0)
    # People: mean 3.5, mean square 15, mean product (3 + 25) / 2 = 14.
    assert concordance.human_human.value == pytest.approx((14 - 3.5**2) / (15 - 3.5**2))
    # Machine: mean 3, mean square 10, mean product (4 + 20) / 2 = 12.
    expected = 2 * (12 - 3.5 * 3) / ((15 - 3.5**2) + (10 - 9) + 0.25)
    assert concordance.human_machine.value == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(NOMINAL, None), (ORDINAL, "quadratic")]))
def test_kappa_of_two_people_and_a_machine_is_that_of_scikit_learn(seed, scale):
    subset, weights = scale
    rng, q = np.random.default_rng(seed), len(subset.levels)
    raw = rng.integers(0, q, (25, 3))
    ratings = {f"{i:02}": {"ann": a, "ben": b, "bot": m} for i, (a, b, m) in enumerate(raw)}
    kappa = compared(subset, ratings)[0].agreement[1]
    people, machine = np.r_[raw[:, 0], raw[:, 1]], np.r_[raw[:, 2], raw[:, 2]]
    assert kappa.human_machine.value == pytest.approx(cohen_kappa_score(people, machine, weights=weights))
    mirrored = np.r_[raw[:, 1], raw[:, 0]]
    assert kappa.human_human.value == pytest.approx(cohen_kappa_score(people, mirrored, weights=weights))


@pytest.mark.parametrize("subset", [NOMINAL, ORDINAL, INTERVAL, BINARY])
def test_items_weigh_the_same_whatever_their_number_of_people(subset):
    rng = np.random.default_rng(4)
    ratings = {
        f"{i}": {**{f"p{r}": rng.integers(0, 2) for r in range(2 + i % 4)}, "bot": rng.integers(0, 2)}
        for i in range(30)
    }
    doubled = {
        file: {**each, **{f"{name}'": value for name, value in each.items() if name != "bot" and int(file) < 10}}
        for file, each in ratings.items()
    }
    once, twice = (compared(subset, each)[0].agreement for each in (ratings, doubled))
    # Every person of some items twice: the mean over people of these items stays, and so does their weight.
    for a, b in zip(once, twice, strict=True):
        assert a.human_machine.value == pytest.approx(b.human_machine.value)


def test_permuted_machine_is_at_chance():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 400)
    ratings = {f"{i:03}": {"ann": k, "ben": k, "bot": k} for i, k in enumerate(truth)}
    percent, kappa = compared(NOMINAL, ratings)[0].agreement
    shares = np.bincount(truth) / 400
    assert percent.permuted == pytest.approx((shares**2).sum(), abs=0.01)
    assert kappa.permuted == pytest.approx(0, abs=0.01)
    assert percent.human_machine.value == kappa.human_machine.value == 1


def test_permuted_concordance_is_zero_and_difference_that_of_strangers():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=300)
    ratings = {f"{i:03}": {"ann": x, "ben": x, "bot": x} for i, x in enumerate(truth)}
    difference, concordance = compared(INTERVAL, ratings)[0].agreement
    strangers = np.abs(np.subtract.outer(truth, truth)).mean()
    assert difference.permuted == pytest.approx(strangers, abs=0.02)
    assert concordance.permuted == pytest.approx(0, abs=0.01)


def simulated(rng, items=80, machine=None, sd=1.0):
    truth = rng.normal(size=items)
    each = {}
    for i, x in enumerate(truth):
        people = {f"p{r}": x + rng.normal() for r in rng.permutation(6)[: 3 + i % 2]}
        each[f"{i:02}"] = {**people, "bot": x + sd * rng.normal() if machine is None else machine}
    return each


def test_difference_is_paired_and_its_interval_contains_its_value():
    difference, concordance = compared(INTERVAL, simulated(np.random.default_rng(0)), replicates=200)[0].agreement
    for each in (difference, concordance):
        assert each.difference.value == pytest.approx(each.human_machine.value - each.human_human.value)
        assert each.difference.low < each.difference.value < each.difference.high
        assert 0 < each.p <= 1


def test_noisy_machine_differs_from_people():
    ratings = simulated(np.random.default_rng(0), items=200, sd=4.0)
    difference, concordance = compared(INTERVAL, ratings, replicates=300)[0].agreement
    assert difference.p < 0.01 and difference.difference.low > 0
    assert concordance.p < 0.01 and concordance.difference.high < 0


def test_intervals_for_new_raters_are_wider():
    rng = np.random.default_rng(3)
    bias = 2 * rng.normal(size=8)
    ratings = {
        f"{i:03}": {**{f"p{r}": bias[r] + rng.normal() for r in range(8)}, "bot": rng.normal()} for i in range(60)
    }
    clips, both = (
        compared(INTERVAL, ratings, 200, resample=resample)[0].agreement[0] for resample in ("clips", "both")
    )
    assert both.human_human.value == clips.human_human.value
    assert both.human_human.high - both.human_human.low > 2 * (clips.human_human.high - clips.human_human.low)


def test_constant_machine_has_no_kappa_and_a_reason():
    percent, kappa = compared(NOMINAL, {f"{i}": {"ann": 0, "ben": 0, "bot": 0} for i in range(4)}, 100)[0].agreement
    assert percent.human_machine.value == 1
    assert (kappa.human_machine.value, kappa.human_machine.why) == (None, "only one category was used")
    assert (kappa.difference.value, kappa.difference.why, kappa.p) == (None, "only one category was used", None)
    assert kappa.permuted is None


def test_equal_numbers_have_no_concordance_and_a_reason():
    _, concordance = compared(INTERVAL, {f"{i}": {"ann": 3.0, "ben": 3.0, "bot": 3.0} for i in range(4)})[0].agreement
    assert (concordance.human_machine.value, concordance.human_machine.why) == (None, "all ratings are equal")


def test_machine_without_a_shared_item_is_undefined():
    [machine] = compared(NOMINAL, {"a": {"ann": 0, "ben": 0}, "b": {"ann": 1, "bot": 1}})
    assert machine.items == 0
    assert {each.human_human.why for each in machine.agreement} == {NO_SHARED_ITEM}


def test_several_machines_are_sorted_and_do_not_see_each_other():
    ratings = {file: {**each, "asr": each.get("ann", 0)} for file, each in THREE.items()}
    both = compared(NOMINAL, ratings, machines=("bot", "asr"))
    assert [each.machine for each in both] == ["asr", "bot"]
    alone = compared(NOMINAL, THREE)[0].agreement
    assert [each.human_machine for each in both[1].agreement] == [each.human_machine for each in alone]


@pytest.mark.parametrize("subset", [NOMINAL, ORDINAL, INTERVAL, BINARY, replace(ORDINAL, present_from="3")])
def test_names_are_defined(subset):
    assert set(names_of(subset)) <= set(definitions())
