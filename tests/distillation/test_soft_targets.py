"""The cache of soft targets: what is labelled is kept, and nothing is labelled twice."""

from itertools import islice

import numpy as np
import pytest
from harness.batches import store as token_store

from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.distillation import soft_targets
from mtdnn_tf.distillation.soft_targets import SoftTargets
from mtdnn_tf.errors import UserError
from mtdnn_tf.tasks import resolve_task
from mtdnn_tf.tasks.spec import TaskSpec

TASK = {
    "kind": "pair_classification", "fields": ["a", "b"], "labels": ["no", "yes"],
    "metrics": ["accuracy"], "splits": {"train": {"file": "train.tsv"}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(soft_targets, "PART", 4)


@pytest.fixture
def whole() -> TokenStore:
    return token_store(np.full(22, 3))


@pytest.fixture
def targets(tmp_path) -> SoftTargets:
    task: TaskSpec = resolve_task("same", TASK)
    return SoftTargets(tmp_path, "runs/teacher", "fingerprint", task, "train", "source")


def teacher(store):
    """Says of an example what only depends on its uid."""
    numbers = np.asarray(store.uids).astype(int)
    return np.stack([numbers, -numbers], axis=1).astype(np.float32)


def label(targets, whole, uids, parts=None):
    """Labels what is missing of some examples, all of it or so many parts; returns how many."""
    steps = targets.write(whole, targets.missing(whole, uids), teacher)
    return sum(islice(steps, parts))


def test_what_is_wanted_alone_is_labelled(targets, whole):
    wanted = whole.uids[[1, 5, 6, 21]]
    assert label(targets, whole, wanted) == 4
    np.testing.assert_array_equal(targets.read(wanted)[:, 0], [1, 5, 6, 21])
    with pytest.raises(UserError, match="lack the example '0' of same/train; label again"):
        targets.read(whole.uids[:3])


def test_more_is_added_to_what_is_there(targets, whole):
    label(targets, whole, whole.uids[3:9])
    assert label(targets, whole, whole.uids[5:15]) == 6
    assert label(targets, whole, whole.uids) == 22 - 12
    assert label(targets, whole, whole.uids) == 0
    np.testing.assert_array_equal(targets.read(whole.uids), teacher(whole))


def test_labelling_that_was_left_goes_on_where_it_was(targets, whole):
    assert label(targets, whole, whole.uids, parts=2) == 8
    with pytest.raises(UserError, match=r"label with mtdnn-distill --label_only first"):
        targets.read(whole.uids[:3])  # Not even what is there: it is not finished.
    assert label(targets, whole, whole.uids) == 14
    np.testing.assert_array_equal(targets.read(whole.uids), teacher(whole))


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_what_a_batch_holds_does_not_depend_on_where_a_labelling_was_left(targets, whole, parts):
    """Else numbers, too, might differ by a rounding."""
    batches = []

    def noted(store):
        batches.append(np.asarray(store.uids).tolist())
        return teacher(store)

    wanted = whole.uids[[1, 2, 5, 6, 7, 9, 17]]
    for many in (parts, None):
        list(islice(targets.write(whole, targets.missing(whole, wanted), noted), many))
    assert batches == [["1", "2"], ["5", "6", "7"], ["9"], ["17"]]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"teacher": "now"}, "are of another state of that run; label again"),
        ({"source": "other rows"}, "are of other data or labels; label again"),
    ],
)
def test_what_is_of_something_else_is_told(targets, whole, tmp_path, other, message):
    label(targets, whole, whole.uids)
    same = {"teacher": "fingerprint", "source": "source"}
    task = resolve_task("same", TASK)
    now = SoftTargets(tmp_path, run="runs/teacher", task=task, split="train", **(same | other))
    with pytest.raises(UserError, match=f"no soft targets of runs/teacher for .*{message}"):
        now.read(whole.uids)


def test_a_full_cache_is_left_alone(targets, whole):
    label(targets, whole, whole.uids)
    before = {path: path.stat().st_ino for path in targets.folder.iterdir()}
    assert label(targets, whole, whole.uids) == 0
    assert {path: path.stat().st_ino for path in targets.folder.iterdir()} == before


def test_files_of_larger_parts_are_read_and_kept(targets, whole):
    label(targets, whole, whole.uids[:0])
    np.save(targets.folder / "00000000.npy", teacher(whole)[:16])
    assert label(targets, whole, whole.uids) == 6
    np.testing.assert_array_equal(targets.read(whole.uids), teacher(whole))


def test_a_damaged_file_is_told(targets, whole):
    label(targets, whole, whole.uids)
    (targets.folder / "00000004.npy").write_bytes(b"")
    for do in (lambda: targets.read(whole.uids), lambda: targets.missing(whole, whole.uids)):
        with pytest.raises(UserError, match=r"are damaged .*; remove them and label again"):
            do()
