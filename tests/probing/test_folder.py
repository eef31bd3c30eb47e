"""Result folders that several processes write: who owns them, which outcomes belong together, merging."""

import json
import threading
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from earmark.errors import MissingError
from earmark.files.atomic import lock_if_free
from earmark.metrics.estimate import Estimate
from earmark.probing.folder import LOCKS, claim_folder, collect, existing_folder, owner_of, release_folder, task_lock
from earmark.probing.joint import FinishedEncoder, different_data, joint_rows
from earmark.probing.merge import disagreement, find_encoders, merge, most_common_origin
from earmark.probing.options import ProbeSettings
from earmark.probing.outcome import TaskOutcome, store_failure, store_outcome, stored_outcomes
from earmark.probing.schema import Failure, ProbeSummary, TaskScore
from tests.probing.origins import a_task_origin

OTHER_SETTINGS = {"settings": asdict(ProbeSettings(seeds=5))}


def a_score(task="one", value=0.5, **changes):
    fields = {
        "task": task, "formal_name": task, "domain": "", "track": "linear", "protocol": "strict", "metric": "accuracy",
        "score": Estimate(value), "n_test": 10, "weight": 1.0, "private": False, "folds": 1, "n_heads": 1,
        "seconds": 0.0,
    }  # fmt: skip
    return TaskScore(**fields | changes)


def an_outcome(task="one", value=0.5, key="key", **changes):
    return TaskOutcome(key=key, scores=[a_score(task, value)], origin=a_task_origin(task, **changes))


def store(folder, task="one", value=0.5, key="key", tables=None, **changes):
    return store_outcome(folder, task, an_outcome(task, value, key, **changes), tables or {}, TaskOutcome())


def scores_of(collected):
    return {name: [row.value for row in outcome.scores] for name, outcome in collected.outcomes.items()}


# --- owners -------------------------------------------------------------------------------------------------


def test_claim_folder_gives_one_encoder_one_folder_and_another_encoder_the_next(tmp_path):
    first = claim_folder(tmp_path, "a", "weights-1")
    assert first == (tmp_path / "a", 1) == claim_folder(tmp_path, "a", "weights-1")
    store(tmp_path / "a")
    assert claim_folder(tmp_path, "a", "weights-2") == (tmp_path / "a-2", 2)
    store(tmp_path / "a-2")
    assert existing_folder(tmp_path, "a", "weights-2") == tmp_path / "a-2"
    assert existing_folder(tmp_path, "a", "weights-3") == tmp_path / "a-3" and not (tmp_path / "a-3").exists()


def test_claim_folder_of_processes_that_start_at_once(tmp_path):
    got = []
    start = threading.Barrier(8)

    presence = ExitStack()

    def claim(identity):
        start.wait()
        got.append((identity, claim_folder(tmp_path, "a", identity, presence)[0].name))

    threads = [threading.Thread(target=claim, args=[f"weights-{i % 2}"]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    presence.close()
    assert len(got) == 8 and len(set(got)) == 2 and {name for _, name in got} == {"a", "a-2"}


def test_release_folder_frees_it_only_without_results_and_workers(tmp_path):
    folder, _ = claim_folder(tmp_path, "a", "weights-1")
    with task_lock(folder, "one") as free:
        assert free
        release_folder(folder)
        assert owner_of(folder) == "weights-1"
    release_folder(folder)
    assert owner_of(folder) is None
    claim_folder(tmp_path, "a", "weights-1")
    store(folder)
    release_folder(folder)
    assert owner_of(folder) == "weights-1"


def test_claim_folder_takes_over_what_a_killed_process_left_but_not_from_a_live_one(tmp_path):
    with ExitStack() as presence:
        folder, _ = claim_folder(tmp_path, "a", "weights-1", presence)
        assert claim_folder(tmp_path, "a", "weights-2")[1] == 2
        assert claim_folder(tmp_path, "a", "weights-1", presence) == (folder, 1)
    assert len(list((folder / LOCKS).glob(".process-*"))) == 2  # as after a kill
    assert claim_folder(tmp_path, "a", "weights-3") == (folder, 1)
    assert owner_of(folder) == "weights-3" and not list((folder / LOCKS).glob(".process-*"))


def test_task_lock_covers_one_task(tmp_path):
    with task_lock(tmp_path, "one") as one, task_lock(tmp_path, "two") as two, task_lock(tmp_path, "one") as again:
        assert (one, two, again) == (True, True, False)
    with lock_if_free(tmp_path / LOCKS / "one") as free:
        assert free


# --- collecting ---------------------------------------------------------------------------------------------


def test_collect_keeps_tasks_of_the_same_settings(tmp_path):
    store(tmp_path, "one", 0.1)
    store(tmp_path, "esc50", 0.2)
    store(tmp_path, "two", 0.3, **OTHER_SETTINGS)
    found = collect(tmp_path, a_task_origin())
    assert scores_of(found) == {"esc50": [0.2], "one": [0.1]} and list(found.outcomes) == ["esc50", "one"]
    (left_out,) = found.left_out
    assert left_out.task == "two" and "seeds 5 instead of 3" in left_out.reason
    assert scores_of(collect(tmp_path, a_task_origin(), excluded=["one"])) == {"esc50": [0.2]}


@pytest.mark.parametrize(
    "changes",
    [
        OTHER_SETTINGS, {"release": "0.9"}, {"versions": [1, 2]}, {"allow_missing": True},
        {"encoder_identity": "other"}, {"settings": asdict(ProbeSettings(protocols=("strict",)))},
    ],
)  # fmt: skip
def test_collect_leaves_out_what_is_not_comparable(tmp_path, changes):
    store(tmp_path, **changes)
    found = collect(tmp_path, a_task_origin())
    assert not found.outcomes and [each.task for each in found.left_out] == ["one"]
    assert a_task_origin(**changes).differences(a_task_origin())


def test_collect_joins_jobs_on_different_devices(tmp_path):
    store(tmp_path, settings=asdict(ProbeSettings(device="cuda")))
    assert "one" in collect(tmp_path, a_task_origin(settings=asdict(ProbeSettings(device="auto")))).outcomes


def test_failure_of_a_task_replaces_scores_of_other_data_but_not_of_other_settings(tmp_path):
    store(tmp_path, value=0.4)
    failed = TaskOutcome.from_error("out of memory").model_copy(update={"key": "new", "origin": a_task_origin()})
    store_failure(tmp_path, "one", failed)
    assert [failure.error for failure in collect(tmp_path, a_task_origin()).outcomes["one"].failed] == ["out of memory"]
    store(tmp_path, value=0.6, key="new")  # repaired
    assert scores_of(collect(tmp_path, a_task_origin())) == {"one": [0.6]}
    store_failure(tmp_path, "one", failed.model_copy(update={"origin": a_task_origin(**OTHER_SETTINGS)}))
    assert scores_of(collect(tmp_path, a_task_origin())) == {"one": [0.6]}


def test_store_failure_ignores_missing_things(tmp_path):
    store_failure(tmp_path, "one", TaskOutcome(failed=[Failure(error="no data", missing=True)], origin=a_task_origin()))
    assert stored_outcomes(tmp_path) == []


def test_stored_outcomes_skip_broken_files_and_lost_predictions(tmp_path):
    store(tmp_path, "one", tables={"one_linear_strict.csv": "a\n"})
    store(tmp_path, "two")
    (tmp_path / "tasks/three.json").write_text("{")
    assert [name for name, _ in stored_outcomes(tmp_path)] == ["one", "two"]
    (tmp_path / "predictions/one_linear_strict.csv").unlink()
    assert [name for name, _ in stored_outcomes(tmp_path)] == ["two"]


# --- merging ------------------------------------------------------------------------------------------------


def test_merge_copies_tasks_and_predictions_of_two_machines(tmp_path):
    one, two, both = tmp_path / "1", tmp_path / "2", tmp_path / "both"
    store(one, "one", 0.1, tables={"one_linear_strict.csv": "a\n"})
    store(two, "two", 0.2)
    assert merge([one, two], both) == []
    assert scores_of(collect(both, a_task_origin())) == {"one": [0.1], "two": [0.2]}
    assert (both / "predictions/one_linear_strict.csv").read_text() == "a\n"


def test_merge_says_where_folders_disagree_and_keeps_the_first(tmp_path):
    one, two, both = tmp_path / "1", tmp_path / "2", tmp_path / "both"
    store(one, "one", 0.1)
    store(two, "one", 0.25)
    (note,) = merge([one, two], both)
    assert "accuracy (linear, strict) is 0.2500 and 0.1000" in note
    assert scores_of(collect(both, a_task_origin())) == {"one": [0.1]}


def test_merge_prefers_scores_to_a_failure(tmp_path):
    one, two, both = tmp_path / "1", tmp_path / "2", tmp_path / "both"
    store_failure(one, "one", TaskOutcome.from_error("killed").model_copy(update={"origin": a_task_origin()}))
    store(two, "one", 0.25)
    assert merge([one, two], both) == []
    assert scores_of(collect(both, a_task_origin())) == {"one": [0.25]}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (an_outcome(), ""),
        (an_outcome(value=0.5 + 1e-12), ""),
        (an_outcome(**OTHER_SETTINGS), "other settings (seeds 5 instead of 3)"),
        (an_outcome(labels_hash="b"), "other data"),
        (an_outcome(task="two"), "another definition of the task"),
        (TaskOutcome.from_error("x").model_copy(update={"origin": a_task_origin()}), ""),
    ],
)
def test_disagreement_names_the_cause(other, said):
    assert disagreement(an_outcome(), other) == said


def test_most_common_origin_is_that_of_most_tasks_then_of_the_last():
    a, b = a_task_origin(), a_task_origin(**OTHER_SETTINGS)
    assert most_common_origin([b, a, a]) == a and most_common_origin([a, b]) == b


def test_find_encoders_groups_machines_and_keeps_layers_apart(tmp_path):
    store(tmp_path / "1/mine", "one")
    store(tmp_path / "2/mine", "two")
    store(tmp_path / "2/other", "two", encoder_identity="other")
    store(tmp_path / "2/mine-layers", "two", settings=asdict(ProbeSettings(layers=())))
    found = find_encoders([tmp_path / "1/mine", tmp_path / "2", tmp_path / "2/mine"])
    assert [[folder.relative_to(tmp_path).as_posix() for folder in own] for own in found.values()] == [
        ["1/mine", "2/mine"], ["2/mine-layers"], ["2/other"],
    ]  # fmt: skip
    with pytest.raises(MissingError, match="no finished tasks"):
        find_encoders([tmp_path / "3"])


# --- several encoders ---------------------------------------------------------------------------------------


def an_encoder(name, *scores):
    return FinishedEncoder(name, Path(name), ProbeSummary.model_construct(scores=list(scores)))


def test_joint_rows_average_main_metrics_of_tasks_that_all_have():
    first = an_encoder(
        "a", a_score("x", 0.2), a_score("x", 0.9, metric="macro_f1"), a_score("y", 0.4),
        a_score("e", 9.0, metric="mse"), a_score("only", 1.0),
    )  # fmt: skip
    second = an_encoder("b", a_score("x", 0.6), a_score("y", 0.8), a_score("e", 3.0, metric="mse"))
    rows = joint_rows([first, second], ("linear", "strict", None))
    assert [row[:2] for row in rows] == [
        ["x", "accuracy"], ["x", "macro_f1"], ["y", "accuracy"], ["e", "mse"], ["only", "accuracy"],
        ["mean over 2 tasks", ""],
    ]  # fmt: skip
    assert rows[4][3] is None and rows[-1][2:] == pytest.approx([0.3, 0.7])


def test_joint_rows_have_a_row_for_each_layer():
    first = an_encoder("a", a_score("x", 0.2, layer=0), a_score("x", 0.3, layer=1))
    rows = joint_rows([first, an_encoder("b", a_score("x", 0.4, layer=1))], ("linear", "strict", None))
    assert [(row[0], [each and each.value for each in row[2:]]) for row in rows] == [
        ("x, layer 0", [0.2, None]), ("x, layer 1", [0.3, 0.4]),
    ]  # fmt: skip


def test_different_data_names_encoders_with_other_labels(tmp_path):
    store(tmp_path / "a", labels_hash="1")
    store(tmp_path / "b", labels_hash="2")
    store(tmp_path / "c", labels_hash="1")
    (note,) = different_data({name: tmp_path / name for name in "abc"})
    assert note == "one: b had other data than a; scores are not comparable"


def test_outcomes_of_the_first_releases_stay_readable(tmp_path):
    store(tmp_path)
    file = tmp_path / "tasks/one.json"
    content = json.loads(file.read_text())
    del content["origin"]
    file.write_text(json.dumps(content))
    assert TaskOutcome.model_validate(json.loads(file.read_text())).origin is None
    assert stored_outcomes(tmp_path) == []
