import json
import subprocess
import sys

import pytest

from mtdnn_tf.data import sources
from mtdnn_tf.errors import UserError
from mtdnn_tf.tasks import TaskSpec, builtin_tasks, metrics, resolve_task

OWN_TASK = {
    "kind": "single_classification",
    "fields": ["review"],
    "labels": ["bad", "good"],
    "metrics": ["accuracy"],
    "splits": {"train": {"file": "train.tsv"}, "dev": {"file": "dev.tsv"}},
}


def error_of(name, override=None):
    with pytest.raises(UserError) as caught:
        resolve_task(name, override)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(**fields):
    return {**OWN_TASK, **fields}


def with_split(name, **split):
    return changed(splits={**OWN_TASK["splits"], name: {"file": "more.tsv", **split}})


def test_all_tasks_of_glue_and_its_diagnostics_are_built_in():
    assert [task.name for task in builtin_tasks().values() if task.folder == "glue"] == [
        "cola",
        "sst2",
        "mrpc",
        "stsb",
        "qqp",
        "mnli",
        "qnli",
        "qnli_ranking",
        "rte",
        "wnli",
        "ax",
    ]


def test_the_built_in_tasks_cannot_be_spoiled_by_a_caller():
    builtin_tasks().clear()
    assert "cola" in builtin_tasks()


@pytest.mark.parametrize(
    ("name", "metrics", "dropout", "labels"),
    [
        ("cola", ("matthews",), 0.05, ("unacceptable", "acceptable")),
        ("sst2", ("accuracy",), 0.1, ("negative", "positive")),
        ("mrpc", ("f1", "accuracy"), 0.1, ("not_paraphrase", "paraphrase")),
        ("stsb", ("pearson", "spearman"), 0.1, ()),
        ("qqp", ("f1", "accuracy"), 0.1, ("not_duplicate", "duplicate")),
        ("mnli", ("accuracy",), 0.3, ("contradiction", "neutral", "entailment")),
        ("qnli", ("accuracy",), 0.1, ("not_entailment", "entailment")),
        ("rte", ("accuracy",), 0.1, ("not_entailment", "entailment")),
        ("wnli", ("accuracy",), 0.1, ("not_entailment", "entailment")),
    ],
)
def test_glue_tasks_have_the_metrics_of_glue_and_the_dropout_of_the_papers(
    name, metrics, dropout, labels
):
    task = builtin_tasks()[name]
    assert (task.metrics, task.dropout, task.labels) == (metrics, dropout, labels)
    assert task.output_size == (len(labels) or 1)
    assert task.splits_like("train") == ("train",)
    assert task.splits_like("dev")
    assert not any(task.splits[split].has_labels for split in task.splits_like("test"))


def test_mnli_is_evaluated_on_both_dev_sets_where_both_are_there():
    mnli = builtin_tasks()["mnli"]
    assert mnli.splits_like("dev") == ("dev_matched", "dev_mismatched")
    assert mnli.splits_like("test") == ("test_matched", "test_mismatched")
    assert [mnli.splits[s].optional for s in mnli.splits_like("dev")] == [False, True]


def test_the_diagnostics_are_predicted_with_the_head_of_mnli():
    tasks = builtin_tasks()
    ax = tasks["ax"]
    assert not ax.has_head
    assert list(ax.splits) == ["test"]
    assert tasks[ax.predict_with].kind == ax.kind
    assert all(task.has_head for task in tasks.values() if task is not ax)
    with pytest.raises(ValueError, match="head of mnli"):
        _ = ax.output_size


@pytest.mark.parametrize("name", builtin_tasks())
def test_a_spec_survives_being_written_and_read(name):
    task = builtin_tasks()[name]
    assert TaskSpec.model_validate(json.loads(task.model_dump_json())) == task
    assert resolve_task(name) == task


def test_an_override_replaces_a_field_and_keeps_the_rest():
    task = resolve_task("cola", {"dropout": 0.3})
    assert task == builtin_tasks()["cola"].model_copy(update={"dropout": 0.3})


def test_an_override_of_a_split_replaces_its_keys_one_by_one():
    task = resolve_task("cola", {"splits": {"train": {"file": "mine.tsv"}, "test": None}})
    before = builtin_tasks()["cola"]
    assert task.splits["train"] == before.splits["train"].model_copy(update={"file": "mine.tsv"})
    assert task.splits["dev"] == before.splits["dev"]
    assert "test" not in task.splits


def test_an_override_can_add_a_split():
    split = {"file": "more.jsonl"}
    assert resolve_task("sst2", {"splits": {"dev_more": split}}).splits_like("dev") == (
        "dev",
        "dev_more",
    )


def test_a_task_of_ones_own_needs_no_python():
    task = resolve_task("reviews", OWN_TASK)
    assert (task.name, task.output_size, task.dropout) == ("reviews", 2, 0.1)


def test_numbers_in_label_values_need_no_quotes():
    task = resolve_task("reviews", changed(label_values={0: "bad", 1: "good"}))
    assert task.label_values == {"0": "bad", "1": "good"}


def test_an_unknown_task_is_told_with_near_names():
    assert error_of("colla").startswith(
        "task 'colla': no built-in task has this name; did you mean 'cola'?"
    )
    assert "did you mean 'cola'" in error_of("colla", {"dropout": 0.3})


def test_an_error_begins_with_the_place_that_was_given():
    with pytest.raises(UserError, match=r"^x\.yaml: task 'cola': droput: unknown key; did you"):
        resolve_task("cola", {"droput": 0.3}, where="x.yaml")


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("cola", {"droput": 0.3}, "droput: unknown key; did you mean 'dropout'?"),
        ("cola", {"dropout": 1.0}, "dropout: should be less than 1, not 1.0"),
        ("cola", [1], "should be a mapping of fields to values, not [1]"),
        ("cola", {"name": "other"}, "name: should be 'cola' or left out, not 'other'"),
        ("cola", {"splits": {"train": 3}}, "splits.train: should be a mapping of keys to values"),
        ("cola", {"splits": []}, "splits: should be a mapping of keys to values, not []"),
        (
            "cola",
            {"splits": {"train": {"fiel": "a"}}},
            "splits.train.fiel: unknown key; did you mean 'file'?",
        ),
        (
            "cola",
            {"splits": {"valid": {"file": "a.tsv"}}},
            "a split is called train or unlabelled, or begins with",
        ),
        (
            "cola",
            {"splits": {"train": {"file": "a.jsonl"}}},
            "label is a position, but these rows have keys",
        ),
        ("Reviews", OWN_TASK, "name: should match pattern"),
        (
            "reviews",
            {"kind": "tagging"},
            "kind: no kind is called 'tagging'; known: pair_classification, ranking, ",
        ),
        ("reviews", changed(kind="pair_classification"), "has 2 text field(s)"),
        ("reviews", changed(fields=["label"]), "not be called label or uid"),
        ("reviews", changed(fields=["Label"]), "not be called label or uid"),
        ("reviews", changed(fields=["review text"]), 'columns: {text: "review text"}'),
        ("reviews", changed(fields=["été"]), "fields: 'été' cannot be the name of a field"),
        ("reviews", changed(fields=["class"]), "fields: 'class' cannot be the name of a field"),
        ("reviews", changed(fields=["self"]), "fields: 'self' cannot be the name of a field"),
        ("reviews", changed(kind="pair_classification", fields=["a", "A"]), "fields must differ"),
        (
            "reviews",
            changed(kind="pair_classification", fields=["a-b", "a_b"]),
            "fields must differ",
        ),
        ("reviews", changed(labels=["", "good"]), "labels.0: a label is text without tabs"),
        (
            "reviews",
            changed(labels=["bad", "very\tgood"]),
            "labels.1: a label is text without tabs",
        ),
        ("reviews", changed(labels=["bad", "good "]), "white space around it, not 'good '"),
        ("reviews", changed(labels=["bad", "good\n"]), r"not 'good\n'"),
        ("reviews", changed(metrics=[]), "metrics must name at least one"),
        (
            "reviews",
            changed(metrics=["acuracy"]),
            "metrics.0: no metric is called 'acuracy'; did you mean 'accuracy'",
        ),
        ("reviews", changed(metrics=["pearson"]), "metric 'pearson' does not fit"),
        ("reviews", changed(labels=["only"]), "labels must be two or more"),
        ("reviews", changed(labels=["a", "b", "c"], metrics=["f1"]), "use macro_f1"),
        ("reviews", changed(label_values={"0": "awful"}), "label_values names 'awful'"),
        ("reviews", changed(score_range=[0, 1]), "score_range is for similarity"),
        ("reviews", with_split("dev2", columns={"reviw": 1}), "columns names 'reviw'"),
        ("reviews", with_split("dev2", columns={"review": None}), "must have a column"),
        (
            "reviews",
            with_split("dev2", columns={"label": None}),
            "only test splits and unlabelled can",
        ),
        ("reviews", with_split("dev2", header=False), "give its 0-based position"),
        (
            "closeness",
            {
                "kind": "similarity",
                "fields": ["a", "b"],
                "metrics": ["pearson"],
                "score_range": [5, 0],
                "splits": {},
            },
            "score_range must be (lowest, highest)",
        ),
        ("ax", {"dropout": 0.3}, "a task with predict_with has no dropout of its own"),
        ("ax", {"splits": {"dev": {"file": "a.tsv"}}}, "has only test splits with `label: null`"),
    ],
)
def test_a_mistake_is_one_line_that_names_task_and_field(name, override, message):
    text = error_of(name, override)
    assert text.startswith(f"task {name!r}: ")
    assert message in text


def test_what_a_task_is_can_be_read_without_tensorflow():
    code = (
        f"import sys, {metrics.__name__}, {sources.__name__};"
        "print({'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
