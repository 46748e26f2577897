"""Ranking tasks: a query's candidates stay together, share a loss, and are ordered by relevance."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml
from harness.batches import candidate_store, plain_store
from harness.runs import run
from harness.tasks import ANSWERS, write_answers, write_experiment
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score

import mtdnn_tf
from mtdnn_tf.data.batch import BatchShape, build_batch, example_weights
from mtdnn_tf.data.mixture import in_file_order
from mtdnn_tf.data.packing import pack_epoch
from mtdnn_tf.data.plan import TrainingPlan
from mtdnn_tf.data.sources import read_split
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.baseline import majority_baseline
from mtdnn_tf.evaluation.losses import example_losses, task_sums
from mtdnn_tf.experiment.file import build_experiment
from mtdnn_tf.tasks import builtin_tasks, resolve_task
from mtdnn_tf.tasks.metrics import compute, ranks

LISTS = {**ANSWERS, "splits": {"train": {"file": "train.jsonl", "candidate_lists": True}}}


def task(**changes):
    return resolve_task("answers", {**ANSWERS, **changes})


def rows_of(tmp_path, lines, **changes):
    (tmp_path / "train.tsv").write_text("question\tanswer\tlabel\n" + "\n".join(lines) + "\n")
    return read_split(task(**changes), "train", tmp_path)


def rows_of_lists(tmp_path, *rows, **kwargs):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "train.jsonl").write_text(text)
    split = LISTS["splits"]["train"]
    if isinstance(rows[0], dict) and "id" in rows[0]:
        split = {**split, "columns": {"uid": "id"}}
    task = resolve_task("answers", {**LISTS, "splits": {"train": split}})
    return read_split(task, "train", tmp_path, **kwargs)


# --- rows ---


def test_rows_with_the_same_question_are_put_together_in_order(tmp_path):
    rows = rows_of(
        tmp_path, ["q1\ta\twrong", "q2\tb\tright", "q1\tc\tright", "q2\td\twrong", "q1\te\twrong"]
    )
    assert rows.texts["answer"] == ["a", "c", "e", "b", "d"]
    assert rows.groups.tolist() == [0, 0, 0, 1, 1]
    assert rows.labels.tolist() == [0, 1, 0, 1, 0]
    assert rows.uids == ["0", "2", "4", "1", "3"]
    assert rows.remark == ""


def test_a_question_without_both_kinds_of_answers_is_an_error(tmp_path):
    lines = ["q1\ta\twrong", "q1\tb\tright", "q2\tc\twrong"]
    with pytest.raises(
        UserError, match=r"train.tsv:4: this query has no candidate labelled 'right'"
    ):
        rows_of(tmp_path, lines)
    with pytest.raises(UserError, match=r"train.tsv:2: .* no candidate labelled 'wrong'"):
        rows_of(tmp_path, ["q1\ta\tright"])


def test_incomplete_questions_can_be_left_out_and_the_coverage_is_told(tmp_path):
    lines = ["q0\tx\tright", "q1\ta\twrong", "q1\tb\tright", "q2\tc\twrong"]
    rows = rows_of(tmp_path, lines, ranking={"incomplete_groups": "skip"})
    assert rows.texts["answer"] == ["a", "b"]
    assert rows.groups.tolist() == [0, 0]
    assert rows.remark.startswith(
        "1 of 3 queries have candidates of both labels (33.3%), with 2 of 4"
    )
    with pytest.raises(UserError, match="none of the 1 queries has candidates of both labels"):
        rows_of(tmp_path, ["q\ta\tright"], ranking={"incomplete_groups": "skip"})


def test_a_json_line_holds_a_question_and_its_candidates(tmp_path):
    rows = rows_of_lists(
        tmp_path,
        {"question": "q1", "answer": ["a", "b", "c"], "label": 1},
        {"question": "q1", "answer": ["d", "e", "f"], "label": [0, 2]},
    )
    assert rows.texts == {"question": ["q1"] * 6, "answer": list("abcdef")}
    assert rows.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert rows.groups.tolist() == [0, 0, 0, 1, 1, 1]
    assert rows.uids == ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q", "answer": ["a"], "label": 1}, "positions from 0 to 0"),
        ({"question": "q", "answer": ["a", "b"], "label": -1}, "label is -1, expected positions"),
        (
            {"question": "q", "answer": ["a", "b"], "label": True},
            "label is true, expected positions",
        ),
        ({"question": "q", "answer": ["a", "b"], "label": [[0]]}, r"label is \[\[0\]\], expected"),
        ({"question": "q", "answer": [], "label": 0}, r"answer is \[\], expected a list of texts"),
        ({"question": "q", "answer": ["a", " "], "label": 0}, "expected a list of texts"),
        ({"question": "q", "answer": "a", "label": 0}, 'answer is "a", expected a list of texts'),
        ({"question": 3, "answer": ["a"], "label": 0}, "question is 3, expected a string"),
        (
            {"question": "q", "answers": ["a"], "label": 0},
            "no key 'answer' for answer; did you mean",
        ),
        ({"question": "q", "answer": ["a", "b"], "label": []}, "no candidate labelled 'right'"),
        ({"question": "q", "answer": ["a"], "label": 0}, "no candidate labelled 'wrong'"),
        (["q"], "not a JSON object"),
        ({"question": "q", "answer": ["a", "\ud800"], "label": 0}, "answer has half a surrogate"),
        ({"question": "q", "answer": ["a", "b"], "label": 0.5}, "label is 0.5, expected positions"),
        ({"question": "q", "answer": ["a", "b"], "label": 0, "id": ""}, "uid is empty"),
        (
            {"question": "q", "answer": ["a", "b"], "label": 0, "id": "1\t2\n"},
            "uid '1.t2': expected",
        ),
    ],
)
def test_a_bad_line_of_candidates_is_told(row, message, tmp_path):
    with pytest.raises(UserError, match=rf"train.jsonl:1: .*{message}"):
        rows_of_lists(tmp_path, row)


def test_a_uid_and_a_position_may_be_whole_floats(tmp_path):
    rows = rows_of_lists(tmp_path, {"question": "q", "answer": ["a", "b"], "label": 1.0, "id": 7.0})
    assert (rows.uids, rows.labels.tolist()) == (["7-0", "7-1"], [0, 1])


def test_a_bad_line_of_candidates_can_be_skipped_whole(tmp_path):
    good = {"question": "q", "answer": ["a", "b"], "label": 0}
    rows = rows_of_lists(tmp_path, good, good | {"label": 2}, good, on_bad_row="skip")
    assert (rows.skipped, rows.uids) == (1, ["0-0", "0-1", "2-0", "2-1"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["a", "b", "c"]}, "a ranking task has two labels"),
        ({"metrics": ["accuracy"]}, "metric 'accuracy' does not fit a ranking task"),
        ({"kind": "pair_classification", "metrics": ["mrr"]}, "metric 'mrr' does not fit"),
        ({"ranking": {"activation": "tanh"}}, "ranking.activation"),
        ({"ranking": {"gamma": 0}}, "ranking.gamma"),
        (
            {"splits": {"train": {"file": "a.tsv", "candidate_lists": True}}},
            "is for files whose rows have keys",
        ),
        (
            {"kind": "pair_classification", "metrics": ["accuracy"], "ranking": {}},
            "ranking is for ranking tasks",
        ),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        task(**changes)


@pytest.mark.parametrize(("split", "queries", "rows"), [("train", 670, 1340), ("dev", 1362, 2725)])
def test_qnli_gives_the_questions_that_have_both_labels(split, queries, rows, glue_dir):
    read = read_split(builtin_tasks()["qnli_ranking"], split, glue_dir)
    assert (int(read.groups[-1]) + 1, len(read)) == (queries, rows)
    assert f"{queries:,} of " in read.remark
    assert read.labels.sum() == queries


# --- batches ---


SIZES = st.lists(st.integers(2, 5), min_size=1, max_size=30)


@given(SIZES, st.integers(1, 3), st.integers(0, 20))
def test_candidates_of_a_query_share_a_row_and_come_once(sizes, rows, others):
    rng = np.random.default_rng(0)
    stores = [candidate_store(sizes, rng), plain_store(others + 1, rng)]
    packed = pack_epoch(
        [in_file_order([len(sizes), others + 1])],
        [s.lengths for s in stores],
        item_offsets=[s.item_offsets for s in stores],
        rows=rows,
        row_length=48,
        most_in_row=12,
    )
    seen = sorted(zip(packed.task.tolist(), packed.index.tolist(), strict=True))
    assert seen == [(t, i) for t, s in enumerate(stores) for i in range(len(s))]
    rows_of_query = [set() for _ in sizes]
    for row, (a, b) in enumerate(zip(packed.row_starts, packed.row_starts[1:], strict=False)):
        assert b - a <= 12
        of_row = zip(packed.task[a:b].tolist(), packed.index[a:b].tolist(), strict=True)
        members = list(of_row)
        assert sum(int(stores[t].lengths[i]) for t, i in members) <= 48
        for t, i in members:
            if t == 0:
                rows_of_query[stores[0].groups[i]].add(row)
    assert all(len(rows) == 1 for rows in rows_of_query)


def batch_of(stores, reduction, rows=8, length=64):
    shape = BatchShape(rows, length)
    packed = pack_epoch(
        [in_file_order([len(s.item_offsets) - 1 for s in stores])],
        [s.lengths for s in stores],
        item_offsets=[s.item_offsets for s in stores],
        rows=rows,
        row_length=length,
        most_in_row=shape.most_in_row,
    )
    weights = example_weights(stores, packed, 0, [2.0, 0.5], reduction)
    return build_batch(stores, packed, 0, shape, example_weights=weights)


@pytest.mark.parametrize(
    ("reduction", "of_query", "of_example"),
    [("task", 2.0 / 4, 0.5 / 3), ("example", 2.0 / 7, 0.5 / 7)],
)
def test_a_query_weighs_what_an_example_weighs(reduction, of_query, of_example):
    rng = np.random.default_rng(1)
    batch = batch_of([candidate_store([2, 3, 4, 2], rng), plain_store(3, rng)], reduction)
    real = batch["index"] >= 0
    first = batch["group"] == np.arange(len(real))
    of_task = [real & (batch["task"] == t) for t in (0, 1)]
    assert (first & of_task[0]).sum() == 4
    assert batch["weight"][of_task[0] & first] == pytest.approx(of_query)
    assert batch["weight"][of_task[1]] == pytest.approx(of_example)
    assert not batch["weight"][~first].any()
    sums = task_sums(2, tf.ones(len(real)), batch).numpy()
    assert sums.tolist() == [[4, 4], [3, 3]]


def test_a_query_that_does_not_fit_a_row_is_told():
    experiment = build_experiment(
        {"tasks": {"answers": ANSWERS}, "data": {"max_length": 24}, "batch": {"length": 32}}, "test"
    )
    rng = np.random.default_rng(2)
    long = {"answers": candidate_store([2, 5, 2], rng, 10, 11)}
    with pytest.raises(
        UserError, match=r"5 candidates of 50 word pieces in all .*raise batch\.length"
    ):
        TrainingPlan(experiment, long)
    many = {"answers": candidate_store([9], rng, 3, 4)}
    with pytest.raises(UserError, match="which holds 8 candidates and 32 word pieces"):
        TrainingPlan(experiment, many)


# --- loss ---


def loss_by_hand(outputs, labels, activation, gamma):
    relevance = 1 / (1 + np.exp(-outputs)) if activation == "sigmoid" else outputs
    weights = np.exp(gamma * relevance)
    return -np.log(weights[labels > 0.5].sum() / weights.sum())


@pytest.mark.parametrize(("activation", "gamma"), [("none", 1.0), ("sigmoid", 1.0), ("none", 3.0)])
def test_the_loss_is_that_of_the_papers_equations(activation, gamma):
    spec = task(ranking={"activation": activation, "gamma": gamma})
    tasks = (spec, builtin_tasks()["sst2"])
    rng = np.random.default_rng(3)
    stores = [candidate_store([2, 5, 3], rng), plain_store(4, rng)]
    stores[0].labels[1] = 1  # A query with two right candidates.
    batch = batch_of(stores, "task")
    count = len(batch["task"])
    logits = {
        "answers": rng.normal(0, 3, (count, 1)).astype(np.float32),
        "sst2": rng.normal(size=(count, 2)).astype(np.float32),
    }
    losses = example_losses(tasks, logits, batch).numpy()
    for query in range(3):
        members = np.flatnonzero(
            (batch["index"] >= 0)
            & (batch["task"] == 0)
            & (stores[0].groups[np.minimum(batch["index"], 9)] == query)
        )
        expected = loss_by_hand(
            logits["answers"][members, 0].astype(np.float64),
            batch["label"][members],
            activation,
            gamma,
        )
        assert losses[members] == pytest.approx(expected, rel=1e-5)


def test_the_loss_moves_candidates_of_its_own_query_only():
    spec = task()
    rng = np.random.default_rng(4)
    batch = batch_of([candidate_store([3, 3], rng), plain_store(1, rng)], "task")
    output = tf.constant(rng.normal(size=(len(batch["task"]), 1)).astype(np.float32))
    mine = (batch["group"] == batch["group"][0]) & (batch["index"] >= 0) & (batch["task"] == 0)
    with tf.GradientTape() as tape:
        tape.watch(output)
        logits = {"answers": output, "sst2": tf.zeros([len(mine), 2])}
        loss = example_losses((spec, builtin_tasks()["sst2"]), logits, batch)[0]
    gradient = tape.gradient(loss, output).numpy()[:, 0]
    assert mine.sum() == 3
    assert (gradient[mine] != 0).all()
    assert not gradient[~mine].any()
    assert gradient.sum() == pytest.approx(0, abs=1e-6)


def test_with_a_sigmoid_the_better_of_two_cannot_pass_0_731():
    spec = task(ranking={"activation": "sigmoid"})
    batch = {
        "task": np.zeros(2, np.int32),
        "label": np.array([1, 0], np.float32),
        "group": np.zeros(2, np.int32),
    }
    loss = example_losses((spec,), {"answers": tf.constant([[50.0], [-50.0]])}, batch)[0]
    assert float(tf.exp(-loss)) == pytest.approx(0.731, abs=1e-3)


# --- metrics ---


@given(
    st.lists(
        st.tuples(st.integers(2, 6), st.integers(0, 5), st.integers(0, 99)), min_size=1, max_size=20
    )
)
def test_mrr_with_one_right_candidate_is_scikit_learns_ranking_precision(queries):
    scores, labels, groups, expected = [], [], [], []
    for number, (size, right, seed) in enumerate(queries):
        score = np.random.default_rng(seed).integers(0, 4, size).astype(float)
        label = (np.arange(size) == right % size).astype(int)
        expected.append(label_ranking_average_precision_score([label], [score]))
        scores += score.tolist()
        labels += label.tolist()
        groups += [number] * size
    arrays = [np.array(values) for values in (labels, scores, groups)]
    assert compute("mrr", *arrays) == pytest.approx(np.mean(expected))


def test_ranking_metrics_by_hand():
    groups = np.array([7, 7, 7, 3, 3])
    scores = np.array([0.1, 0.9, 0.5, 2.0, 2.0])
    labels = np.array([1, 0, 1, 1, 0])
    assert ranks(scores, groups).tolist() == [3, 1, 2, 2, 2]
    assert compute("mrr", labels, scores, groups) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert compute("accuracy_at_1", labels, scores, groups) == 0
    assert compute("accuracy_at_1", labels, np.array([1, 0, 0, 2, 1.0]), groups) == 1
    assert majority_baseline(task(), labels, labels, groups) == {
        "mrr": pytest.approx((1 / 3 + 1 / 2) / 2),
        "accuracy_at_1": 0,
    }
    with pytest.raises(ValueError, match="query 3 has no right candidate"):
        compute("mrr", np.array([1, 0, 1, 0, 0]), scores, groups)
    with pytest.raises(ValueError, match="needs the query of each"):
        compute("mrr", labels, scores)


# --- the whole way ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranking")
    path = write_experiment(
        folder,
        encoder={"hidden_dropout": 0.0, "attention_dropout": 0.0, "pooling": "mean"},
        batch={"rows": 4, "length": 96},
        training={"epochs": 8, "learning_rate": 0.01, "optimizer": "adamw"},
    )
    for split, count in (("train", 300), ("dev", 60)):
        write_answers(folder / "data", f"answers_{split}.jsonl", count, seed=count)
    config = yaml.safe_load(path.read_text())
    splits = {s: {"file": f"answers_{s}.jsonl", "candidate_lists": True} for s in ("train", "dev")}
    config["tasks"] = {"answers": {**ANSWERS, "splits": splits}, "mood": config["tasks"]["mood"]}
    path.write_text(yaml.safe_dump(config))
    done = run("train", f"--config={path}", f"--workdir={folder / 'run'}")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_ranking_task_learns_beside_others(trained):
    lines = (trained / "metrics.jsonl").read_text().splitlines()
    dev = [json.loads(x) for x in lines if json.loads(x)["kind"] == "dev"][-1]["metrics"]
    assert dev["answers"]["dev"]["mrr"] > 0.8  # By chance about 0.6.
    assert dev["mood"]["dev"]["accuracy"] > 0.9
    train = [json.loads(x) for x in lines if json.loads(x)["kind"] == "train"]
    assert sum(x["examples"].get("answers", 0) for x in train) == 8 * 300  # Queries.


def test_what_incomplete_questions_leave_is_told_when_they_are_read_and_from_the_store(tmp_path):
    path = write_experiment(tmp_path, training={"epochs": 1})
    lines = ["question\tanswer\tlabel", "q\ta\tright", "q\tb\twrong", "r\tc\tright"]
    (tmp_path / "data" / "asked.tsv").write_text("\n".join(lines) + "\n")
    tree = yaml.safe_load(path.read_text())
    ranking = {"incomplete_groups": "skip"}
    tree["tasks"] = {
        "answers": {**ANSWERS, "splits": {"train": {"file": "asked.tsv"}}, "ranking": ranking}
    }
    path.write_text(yaml.safe_dump(tree))
    for number in (1, 2):  # The second finds the tokens stored.
        done = run("train", f"--config={path}", f"--workdir={tmp_path / str(number)}")
        assert done.returncode == 0, done.stderr
        assert "answers/train: 1 of 2 queries " in done.stderr


def test_written_predictions_rank_each_query(trained):
    header, *lines = (trained / "predictions" / "answers_dev.tsv").read_text().splitlines()
    assert header.split("\t") == ["uid", "score", "query", "rank", "probability", "gold"]
    cells = [line.split("\t") for line in lines]
    for query in {c[2] for c in cells}:
        of_query = [c for c in cells if c[2] == query]
        scores = np.array([float(c[1]) for c in of_query])
        assert [int(c[3]) for c in of_query] == [int((scores >= score).sum()) for score in scores]
        assert sum(float(c[4]) for c in of_query) == pytest.approx(1)
        assert sum(c[5] == "right" for c in of_query) == 1


def test_predict_ranks_a_list_of_candidates_as_the_loaded_model_does(trained, tmp_path):
    rows = write_answers(tmp_path, "in.jsonl", 5, seed=9)
    done = run(
        "predict",
        f"--workdir={trained}",
        "--task=answers",
        f"--input={tmp_path / 'in.jsonl'}",
        f"--output={tmp_path / 'out.jsonl'}",
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["uid"] for r in records] == [
        f"{n}-{i}" for n, row in enumerate(rows) for i in range(len(row["answer"]))
    ]
    model = mtdnn_tf.load(trained)
    for number, row in enumerate(rows):
        pairs = [(row["question"], text) for text in row["answer"]]
        here = [r for r in records if r["query"] == number]
        for ours, theirs in zip(model.predict("answers", pairs), here, strict=True):
            assert ours.rank == theirs["rank"]
            assert ours.score == pytest.approx(theirs["score"], abs=1e-5)
            assert ours.label is None


@pytest.mark.long
def test_candidates_need_not_be_in_the_order_of_their_queries(trained, tmp_path):
    """In Python, and for an ensemble too, which ranks within a query."""
    rows = write_answers(tmp_path, "in.jsonl", 6, seed=9)
    pairs = [(row["question"], text) for row in rows for text in row["answer"]]
    mixed = np.random.default_rng(0).permutation(len(pairs))
    one = mtdnn_tf.load(trained)
    other = shutil.copytree(trained, tmp_path / "other")
    for model in (one, mtdnn_tf.load_ensemble([trained, other])):
        in_order = one.predict("answers", pairs)
        for position, found in zip(
            mixed, model.predict("answers", [pairs[i] for i in mixed]), strict=True
        ):
            assert found.rank == in_order[position].rank
