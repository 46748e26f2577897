"""The suites beside GLUE, over files in the layout of each official download."""

import json

import numpy as np
import pytest

from mtdnn_tf.data.inputs import read_inputs
from mtdnn_tf.data.sources import content_hash, read_split
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.baseline import majority_baseline
from mtdnn_tf.tasks import builtin_tasks, resolve_task


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(name, split, folder, **kwargs):
    return read_split(builtin_tasks()[name], split, folder, **kwargs)


def names(task, rows):
    return [builtin_tasks()[task].labels[int(label)] for label in rows.labels]


# --- what the suites are ---


@pytest.mark.parametrize(
    ("name", "fields", "labels", "metrics"),
    [
        ("snli", "sentence1 sentence2", "contradiction neutral entailment", "accuracy"),
        ("scitail", "premise hypothesis", "neutral entails", "accuracy"),
        ("anli", "context hypothesis", "contradiction neutral entailment", "accuracy"),
        ("boolq", "passage question", "no yes", "accuracy"),
        ("cb", "premise hypothesis", "contradiction neutral entailment", "accuracy macro_f1"),
        ("superglue_rte", "premise hypothesis", "not_entailment entailment", "accuracy"),
        ("wic", "usage1 usage2", "different same", "accuracy"),
    ],
)
def test_entailment_is_the_last_label_as_in_the_released_code(name, fields, labels, metrics):
    task = builtin_tasks()[name]
    assert task.fields == tuple(fields.split())
    assert task.labels == tuple(labels.split())
    assert task.metrics == tuple(metrics.split())
    assert task.dropout == 0.1


@pytest.mark.parametrize("name", builtin_tasks())
def test_a_task_is_the_same_whatever_it_is_read_from(name):
    files, tfds = (builtin_tasks(source)[name] for source in ("files", "tfds"))
    assert files.model_copy(update={"splits": {}}) == tfds.model_copy(update={"splits": {}})
    assert list(files.splits) == list(tfds.splits)
    for split in files.splits:
        assert files.splits[split].has_labels == tfds.splits[split].has_labels
        assert not files.splits[split].tfds_names
        assert not tfds.splits[split].files


# --- SNLI ---

SNLI_ROWS = [  # With some of the keys of the official files that no task reads.
    {"gold_label": "neutral", "sentence1": "A cat sits.", "sentence2": "A cat waits.",
     "annotator_labels": ["neutral"], "pairID": "1#0", "captionID": "1#0"},
    {"gold_label": "-", "sentence1": "A cat sits.", "sentence2": "A pet is tired.",
     "annotator_labels": ["neutral", "entailment"], "pairID": "1#1", "captionID": "1#0"},
    {"gold_label": "entailment", "sentence1": "A cat sits.", "sentence2": "An animal sits.",
     "annotator_labels": ["entailment"], "pairID": "1#2", "captionID": "1#0"},
    {"gold_label": "contradiction", "sentence1": "A cat sits.", "sentence2": "The cat runs.",
     "annotator_labels": ["contradiction"], "pairID": "1#3", "captionID": "1#0"},
]  # fmt: skip


@pytest.mark.parametrize("folder", ["", "nli"])
def test_snli_pairs_without_a_gold_label_are_left_out_and_counted(tmp_path, folder):
    write_jsonl(tmp_path / folder / "snli/snli_1.0_dev.jsonl", SNLI_ROWS)
    rows = read("snli", "dev", tmp_path)
    assert names("snli", rows) == ["neutral", "entailment", "contradiction"]
    assert rows.labels.tolist() == [1, 2, 0]
    assert rows.texts["sentence2"] == ["A cat waits.", "An animal sits.", "The cat runs."]
    assert rows.uids == ["0", "2", "3"]
    assert rows.skipped == 0
    assert rows.remark == "1 of 4 rows are labelled '-' and left out"


def test_a_pair_without_a_gold_label_is_a_bad_row_of_a_task_that_does_not_leave_it_out(tmp_path):
    write_jsonl(tmp_path / "snli/snli_1.0_train.jsonl", SNLI_ROWS)
    task = resolve_task("snli", {"splits": {"train": {"skip_labels": []}}})
    with pytest.raises(UserError, match=r"train.jsonl:2: label '-', .*; skip_labels: \['-'\] leav"):
        read_split(task, "train", tmp_path)
    assert read_split(task, "train", tmp_path, on_bad_row="skip").skipped == 1


def test_a_split_of_which_nothing_is_left_is_an_error(tmp_path):
    write_jsonl(tmp_path / "snli/snli_1.0_test.jsonl", SNLI_ROWS[1:2])
    with pytest.raises(UserError, match="task 'snli', split 'test': every row is left out by"):
        read("snli", "test", tmp_path)


# --- SciTail ---


def test_scitail_is_read_from_the_tsv_format(tmp_path):
    (tmp_path / "scitail").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / f"scitail/scitail_1.0_{split}.tsv").write_text(
            'Iron "rusts" in air.\tAir makes iron rust.\tentails\nIce floats.\tIce is hot.\tneutral\n'
        )
        rows = read("scitail", split, tmp_path)
        assert names("scitail", rows) == ["entails", "neutral"]
        assert rows.labels.tolist() == [1, 0]
        assert rows.texts["premise"] == ['Iron "rusts" in air.', "Ice floats."]


# --- ANLI ---


@pytest.fixture
def anli_dir(tmp_path):
    for number in (1, 2, 3):
        for split in ("train", "dev", "test"):
            rows = [
                {"uid": f"{number}-{split}-{label}", "context": f"Round {number}.", "label": label,
                 "hypothesis": f"It is {label}.", "model_label": "n", "emturkid": "", "reason": ""}
                for label in "enc"[:number]
            ]  # fmt: skip
            write_jsonl(tmp_path / f"anli/R{number}/{split}.jsonl", rows)
    return tmp_path


def test_anli_trains_on_all_rounds_and_scores_each(anli_dir):
    train = read("anli", "train", anli_dir)
    assert train.texts["context"] == ["Round 1."] + ["Round 2."] * 2 + ["Round 3."] * 3
    assert train.labels.tolist() == [2, 2, 1, 2, 1, 0]
    assert train.uids[:3] == ["1-train-e", "2-train-e", "2-train-n"]
    task = builtin_tasks()["anli"]
    assert task.splits_like("dev") == ("dev_r1", "dev_r2", "dev_r3")
    assert [len(read("anli", split, anli_dir)) for split in task.splits_like("dev")] == [1, 2, 3]
    assert [len(read("anli", split, anli_dir)) for split in task.splits_like("test")] == [1, 2, 3]


def test_a_single_round_of_anli_is_an_override(anli_dir):
    splits = {"train": {"file": "anli/R2/train.jsonl"}, "dev_r1": None, "dev_r3": None}
    task = resolve_task("anli", {"splits": splits})
    assert len(read_split(task, "train", anli_dir)) == 2
    assert task.splits_like("dev") == ("dev_r2",)


def test_several_files_count_their_rows_on_and_each_has_its_header(tmp_path):
    (tmp_path / "one.tsv").write_text("text\tlabel\nA\tno\nB\tyes\n")
    (tmp_path / "two.tsv").write_text("label\ttext\nyes\tC\nmaybe\tD\n")
    own = {
        "kind": "single_classification",
        "fields": ["text"],
        "labels": ["no", "yes"],
        "metrics": ["accuracy"],
        "splits": {"train": {"file": ["one.tsv", "two.tsv"], "on_bad_row": "skip"}},
    }
    task = resolve_task("own", own)
    rows = read_split(task, "train", tmp_path)
    assert (rows.texts["text"], rows.uids, rows.skipped) == (["A", "B", "C"], ["0", "1", "2"], 1)
    key = content_hash(task, "train", tmp_path)
    (tmp_path / "two.tsv").write_text("label\ttext\nyes\tC\nno\tD\n")
    assert content_hash(task, "train", tmp_path) != key
    own["splits"]["train"]["file"].append("three.tsv")
    longer = resolve_task("own", own)
    with pytest.raises(UserError, match=r"no file .*three\.tsv"):
        read_split(longer, "train", tmp_path)


def test_a_uid_in_two_files_is_told_with_both_places(anli_dir):
    write_jsonl(
        anli_dir / "anli/R2/train.jsonl",
        [{"uid": "1-train-e", "context": "C.", "hypothesis": "H.", "label": "e"}],
    )
    with pytest.raises(UserError, match=r"R2/train\.jsonl:1: uid '1-train-e' .*R1/train\.jsonl:1$"):
        read("anli", "train", anli_dir)


# --- SuperGLUE ---


@pytest.mark.parametrize("folder", ["", "superglue"])
def test_boolq_labels_are_json_booleans(tmp_path, folder):
    rows = [
        {"question": "is tea hot", "passage": "Tea is hot.", "idx": 7, "label": True},
        {"question": "is tea cold", "passage": "Tea is hot.", "idx": 5, "label": False},
    ]
    write_jsonl(tmp_path / folder / "BoolQ/val.jsonl", rows)
    write_jsonl(
        tmp_path / folder / "BoolQ/test.jsonl",
        [{"question": "is it", "passage": "It is.", "idx": 0}],
    )
    dev = read("boolq", "dev", tmp_path)
    assert names("boolq", dev) == ["yes", "no"]
    assert dev.uids == ["7", "5"]
    assert list(dev.texts) == ["passage", "question"]
    assert read("boolq", "test", tmp_path).labels is None


def test_cb_and_the_rte_of_superglue(tmp_path):
    labels = ["entailment", "contradiction", "neutral"]
    rows = [
        {"premise": f"P{i}.", "hypothesis": "H.", "label": label, "idx": i}
        for i, label in enumerate(labels)
    ]
    write_jsonl(tmp_path / "CB/train.jsonl", rows)
    assert read("cb", "train", tmp_path).labels.tolist() == [2, 0, 1]
    rows[1]["label"] = "not_entailment"
    write_jsonl(tmp_path / "RTE/train.jsonl", rows[:2])
    assert read("superglue_rte", "train", tmp_path).labels.tolist() == [1, 0]


WIC_ROW = {"word": "bank", "sentence1": "The bank lent it.", "sentence2": "A bank of sand.",
           "start1": 4, "end1": 8, "start2": 2, "end2": 6, "version": 1.1, "idx": 3}  # fmt: skip


def test_the_word_of_wic_goes_before_each_sentence(tmp_path):
    write_jsonl(tmp_path / "WiC/train.jsonl", [{**WIC_ROW, "label": False}])
    rows = read("wic", "train", tmp_path)
    assert rows.texts == {
        "usage1": ["bank: The bank lent it."],
        "usage2": ["bank: A bank of sand."],
    }
    assert names("wic", rows) == ["different"]
    assert rows.uids == ["3"]


def test_an_empty_part_of_a_template_is_a_bad_row(tmp_path):
    write_jsonl(tmp_path / "WiC/train.jsonl", [{**WIC_ROW, "word": " ", "label": True}])
    with pytest.raises(UserError, match=r"train.jsonl:1: word is empty, expected text"):
        read("wic", "train", tmp_path)
    write_jsonl(tmp_path / "WiC/train.jsonl", [{"word": "a", "sentence1": "A.", "label": True}])
    with pytest.raises(UserError, match=r"no key 'sentence2' for usage2; did you mean 'sentence1'"):
        read("wic", "train", tmp_path)


def test_a_template_reads_a_table_too_and_braces_of_the_text_stay(tmp_path):
    columns = {"usage1": "{word}: {sentence1}", "usage2": "<{word}> {sentence2} <{word}>"}
    task = resolve_task("wic", {"splits": {"train": {"file": "wic.tsv", "columns": columns}}})
    (tmp_path / "wic.tsv").write_text(
        "label\tsentence2\tword\tsentence1\ntrue\tA {word}.\t{set}\tA {0}.\n"
    )
    rows = read_split(task, "train", tmp_path)
    assert rows.texts == {"usage1": ["{set}: A {0}."], "usage2": ["<{set}> A {word}. <{set}>"]}


def test_prediction_takes_the_file_of_wic_or_the_finished_texts(tmp_path):
    wic = builtin_tasks()["wic"]
    write_jsonl(tmp_path / "test.jsonl", [WIC_ROW])
    rows = read_inputs(wic, tmp_path / "test.jsonl")
    assert rows.texts["usage1"] == ["bank: The bank lent it."]
    assert rows.uids == ["3"]
    (tmp_path / "wic.tsv").write_text("word\tsentence1\tsentence2\nbank\tOne.\tTwo.\n")
    assert read_inputs(wic, tmp_path / "wic.tsv").texts["usage2"] == ["bank: Two."]
    write_jsonl(tmp_path / "own.jsonl", [{"usage1": "bank: One.", "usage2": "bank: Two."}])
    assert read_inputs(wic, tmp_path / "own.jsonl").texts["usage1"] == ["bank: One."]
    write_jsonl(tmp_path / "wordless.jsonl", [{"sentence1": "One.", "sentence2": "Two."}])
    with pytest.raises(
        UserError, match=r"wic takes usage1, usage2; found the keys sentence1 \| sentence2"
    ):
        read_inputs(wic, tmp_path / "wordless.jsonl")


# --- mistakes in a spec ---


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("snli", {"splits": {"dev2": {"columns": {}}}}, "splits.dev2: needs either file or tfds"),
        ("snli", {"splits": {"dev": {"file": []}}}, "splits.dev.file: should "),
        ("snli", {"splits": {"dev": {"file": ["a.tsv", "b.jsonl"]}}},
         "expected files of one format, found jsonl, tsv"),
        ("snli", {"splits": {"dev2": {"file": "a.tsv", "tfds": "snli", "split": "test"}}},
         "splits.dev2: needs either file or tfds"),
        ("snli", {"splits": {"dev": {"tfds": "snli"}}}, "tfds and split go together"),
        ("snli", {"splits": {"dev": {"split": "test"}}}, "tfds and split go together"),
        ("snli", {"splits": {"dev": {"tfds": "huggingface:snli", "split": "test"}}},
         "splits.dev.tfds: should match pattern"),
        ("scitail", {"splits": {"dev": {"tfds": "sci_tail", "split": "test", "header": False}}},
         "no positions, header or column_count"),
        ("scitail", {"splits": {"dev": {"tfds": "sci_tail", "split": "test", "columns": {"label": 2}}}},
         "no positions, header or column_count"),
        ("boolq", {"splits": {"test": {"skip_labels": ["-"]}}}, "skip_labels is for splits with labels"),
        ("boolq", {"splits": {"dev": {"columns": {"label": "{a}{b}"}}}},
         "columns.label: a template is for text fields"),
        ("cola", {"splits": {"dev": {"columns": {"sentence": "{a}: {b}", "label": 1}}}},
         "without a header, give its 0-based position"),
        ("snli", {"source": "tdfs"}, "source: should be 'files' or 'tfds', not 'tdfs'"),
        ("own", {"source": "tfds", "kind": "similarity"}, "source is for built-in tasks"),
        ("snli", {"tfds_splits": {}}, "tfds_splits: unknown key"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_split_is_one_line(name, override, message):
    with pytest.raises(UserError) as caught:
        resolve_task(name, override)
    assert str(caught.value).startswith(f"task {name!r}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --- the real files ---


@pytest.mark.parametrize(
    ("name", "split", "shares", "majority"),
    [
        ("snli", "train", [10010, 9747, 9863], 0.338),
        ("snli", "dev", [3278, 3235, 3329], 0.338),
        ("scitail", "dev", [647, 657], 0.504),
        ("scitail", "test", [1284, 842], 0.604),
    ],
)
def test_the_real_files_have_their_documented_rows_and_majority(
    data_dir, name, split, shares, majority
):
    rows = read(name, split, data_dir)
    assert np.bincount(rows.labels.astype(int)).tolist() == shares
    assert (rows.skipped, rows.remark) == (0, "")
    baseline = majority_baseline(builtin_tasks()[name], rows.labels, rows.labels)
    assert round(baseline["accuracy"], 3) == majority
