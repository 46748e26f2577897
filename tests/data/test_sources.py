import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from harness.tasks import task_with
from hypothesis import given
from hypothesis import strategies as st

from mtdnn_tf.data.sources import available_splits, read_split, split_paths
from mtdnn_tf.errors import UserError
from mtdnn_tf.tasks import builtin_tasks

DATA_DIR = Path(os.environ.get("MTDNN_DATA_DIR", Path(__file__).parents[2] / "../shared/data"))


PAIRS = task_with("train")
JSON_PAIRS = task_with("train", file="rows.jsonl")
SCORES = task_with("train", kind="similarity", labels=[], metrics=["pearson"], score_range=[0, 5])
UNLABELLED = task_with("test", columns={"label": None})


@pytest.fixture
def read(tmp_path):
    """Writes a file (text or bytes) and reads it as the only split of a task."""

    def write_and_read(task, content, on_bad_row="error"):
        (split,) = task.splits
        content = content if isinstance(content, bytes) else content.encode()
        (path,) = split_paths(task, split, tmp_path)
        path.write_bytes(content)
        return read_split(task, split, tmp_path, on_bad_row)

    return write_and_read


@pytest.fixture
def error_of(read, tmp_path):
    """The one line that tells what is wrong with a file, from the file's name on."""

    def write_and_fail(task, content, on_bad_row="error"):
        with pytest.raises(UserError) as caught:
            read(task, content, on_bad_row)
        assert "\n" not in str(caught.value)
        return str(caught.value).replace(f"{tmp_path}{os.sep}", "")

    return write_and_fail


def test_rows_are_read_by_the_names_of_the_header(read):
    rows = read(PAIRS, "label\tb\tother\ta\nyes\tOne b.\tx\tOne a.\nno\tTwo b.\t\tTwo a.\n")
    assert rows.texts == {"a": ["One a.", "Two a."], "b": ["One b.", "Two b."]}
    assert rows.labels.dtype == np.float32
    assert rows.labels.tolist() == [1, 0]
    assert rows.uids == ["0", "1"]
    assert (len(rows), rows.skipped) == (2, 0)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa\tb\tlabel\nHi.\tHo.\tyes\n",
        b"a\tb\tlabel\nHi.\tHo.\tyes",
        b"a\tb\tlabel\r\nHi.\tHo.\tyes\r\n",
        b"a\tb\tlabel\n Hi. \tHo. \tyes \n",
    ],
    ids=["byte-order mark", "no last line end", "carriage returns", "spaces around cells"],
)
def test_quirks_of_files_do_not_reach_the_rows(read, content):
    rows = read(PAIRS, content)
    assert rows.texts == {"a": ["Hi."], "b": ["Ho."]}
    assert rows.labels.tolist() == [1]


def test_quotes_are_characters(read):
    rows = read(PAIRS, 'a\tb\tlabel\n"Never closed.\t"\tno\n""\tSo "what"?\tyes\n')
    assert rows.texts == {"a": ['"Never closed.', '""'], "b": ['"', 'So "what"?']}


def test_only_a_line_feed_ends_a_line(read):
    text = "one\u2028two\u2029three\u0085four\x0bfive\x0csix\x1cseven\rend"
    assert read(PAIRS, f"a\tb\tlabel\n{text}\tHo.\tyes\n").texts["a"] == [text]


def test_columns_that_are_not_used_may_be_empty(read):
    rows = read(PAIRS, "x\ta\ty\tz\tb\tlabel\n\tHi.\t\t\tHo.\tyes\n")
    assert rows.texts == {"a": ["Hi."], "b": ["Ho."]}


def test_columns_can_be_given_by_position_in_a_file_without_header(read):
    task = task_with("train", columns={"a": 3, "b": 0, "label": 1}, header=False)
    rows = read(task, "Ho.\tyes\t\tHi.\nHoho.\tno\t*\tHihi.\n")
    assert rows.texts == {"a": ["Hi.", "Hihi."], "b": ["Ho.", "Hoho."]}


def test_label_values_map_what_the_file_says(read):
    task = task_with("train", label_values={"0": "yes", "1": "no"})
    rows = read(task, "a\tb\tlabel\nA\tB\t0\nA\tB\t1\nA\tB\tyes\n")
    assert rows.labels.tolist() == [1, 0, 1]


def test_scores_are_numbers(read):
    rows = read(SCORES, "a\tb\tlabel\nA\tB\t0\nA\tB\t4.750\nA\tB\t5.0\n")
    assert rows.labels.tolist() == [0, 4.75, 5]


def test_a_split_without_labels_has_none(read):
    rows = read(UNLABELLED, "a\tb\nHi.\tHo.\n")
    assert rows.labels is None
    assert rows.texts == {"a": ["Hi."], "b": ["Ho."]}


def test_a_split_without_labels_keeps_empty_texts_for_every_row_needs_an_answer(read):
    assert read(UNLABELLED, "a\tb\nHi.\t\n\tHo.\n").texts == {"a": ["Hi.", ""], "b": ["", "Ho."]}


def test_uids_are_read_where_the_task_says_so(read):
    task = task_with("test", columns={"label": None, "uid": "id"})
    assert read(task, "id\ta\tb\nq7\tA\tB\nq3\tA\tB\n").uids == ["q7", "q3"]


def test_jsonl_rows_are_objects_with_keys(read):
    rows = read(
        JSON_PAIRS,
        '{"label": "yes", "a": "Hi\\tthere.", "b": "H\\u00f6.", "more": [1]}\n'
        '{"b": "B\u2028", "a": "A\\nC", "label": "no"}',
    )
    assert rows.texts == {"a": ["Hi\tthere.", "A\nC"], "b": ["Hö.", "B"]}
    assert rows.labels.tolist() == [1, 0]


def test_jsonl_labels_and_uids_can_be_numbers(read):
    task = task_with(
        "train",
        columns={"uid": "id", "label": "gold"},
        file="rows.jsonl",
        label_values={0: "no", 1: "yes"},
    )
    lines = [{"a": "A", "b": "B", "gold": g, "id": i} for i, g in enumerate([1, 0, "1", 1.0])]
    rows = read(task, "\n".join(json.dumps(line) for line in lines))
    assert rows.labels.tolist() == [1, 0, 1, 1]
    assert rows.uids == ["0", "1", "2", "3"]


def test_jsonl_scores_can_be_numbers_or_strings(read):
    task = SCORES.model_copy(update={"splits": JSON_PAIRS.splits})
    rows = read(task, '{"a": "A", "b": "B", "label": 2.5}\n{"a": "A", "b": "B", "label": "3"}\n')
    assert rows.labels.tolist() == [2.5, 3]


@pytest.mark.parametrize(
    ("bad_line", "reason"),
    [
        ("A\tB", "2 columns, expected 3"),
        ("A\tB\tC\tyes", "4 columns, expected 3"),
        ("", "1 columns, expected 3"),
        ("A\tB\tmaybe", "label 'maybe', expected 'no' or 'yes'"),
        ("A\tB\t", "label '', expected 'no' or 'yes'"),
        ("A\tB\t1", "label '1', expected 'no' or 'yes'; map numbers to names with label_values"),
        ("A\t \tyes", "b is empty, expected text"),
        (b"A\tB\xff\tyes", "byte 0xff at offset 3 of the line is not UTF-8"),
    ],
)
class TestBadTsvRow:
    def content(self, bad_line):
        bad = bad_line if isinstance(bad_line, bytes) else bad_line.encode()
        return b"a\tb\tlabel\n1a\t1b\tno\n" + bad + b"\n3a\t3b\tyes\n"

    def test_is_an_error_that_names_file_line_and_reason(self, error_of, bad_line, reason):
        assert error_of(PAIRS, self.content(bad_line)) == f"rows.tsv:3: {reason}"

    def test_can_be_skipped_and_is_counted(self, read, bad_line, reason):
        rows = read(PAIRS, self.content(bad_line), on_bad_row="skip")
        assert rows.texts == {"a": ["1a", "3a"], "b": ["1b", "3b"]}
        assert rows.labels.tolist() == [0, 1]
        assert rows.skipped == 1


@pytest.mark.parametrize(
    ("bad_line", "reason"),
    [
        ('{"a": "A"', "not JSON: "),
        ("[" * 100_000, "not JSON: "),
        ('["A", "B", "yes"]', 'not a JSON object: ["A", "B", "yes"]'),
        ('{"a": "A", "label": "no"}', "no key 'b' for b"),
        ('{"a": "A", "b": "B", "lable": "no"}', "no key 'label' for label; did you mean 'lable'?"),
        ('{"a": "A", "b": 3, "label": "no"}', "b is 3, expected a string"),
        ('{"a": "A", "b": null, "label": "no"}', "b is null, expected a string"),
        ('{"a": "A", "b": "B", "label": true}', "label 'true', expected 'no' or 'yes'"),
        ('{"a": "A", "b": "B", "label": 0}', "label '0', expected 'no' or 'yes'; map numbers"),
        ('{"a": "A", "b": "B", "label": "-"}', "label '-', expected 'no' or 'yes'"),
        ('{"a": "A", "b": "\\ud83d", "label": "no"}', "b has half a surrogate pair"),
    ],
)
def test_a_bad_jsonl_row_is_an_error_or_is_skipped(read, error_of, bad_line, reason):
    good = '{"a": "A", "b": "B", "label": "yes"}\n'
    text = error_of(JSON_PAIRS, good + bad_line + "\n" + good)
    assert text.startswith(f"rows.jsonl:2: {reason}")
    rows = read(JSON_PAIRS, good + bad_line + "\n" + good, on_bad_row="skip")
    assert (len(rows), rows.skipped) == (2, 1)


@pytest.mark.parametrize("score", ["-0.1", "5.1", "1e999"])
def test_a_score_outside_its_range_is_a_bad_row(error_of, score):
    text = error_of(SCORES, f"a\tb\tlabel\nA\tB\t{score}\n")
    assert text == f"rows.tsv:2: label '{score}', expected a number from 0 to 5"


@pytest.mark.parametrize("score", ["nan", "high", "", "inf", "1e39", "1_0"])
def test_a_score_that_is_no_number_is_a_bad_row_without_a_range_as_well(error_of, score):
    task = SCORES.model_copy(update={"score_range": None})
    text = error_of(task, f"a\tb\tlabel\nA\tB\t{score}\n")
    assert text == f"rows.tsv:2: label '{score}', expected a number"


@pytest.mark.parametrize(
    ("uids", "reason"),
    [(["x", "x"], "uid 'x' was used before, at rows.tsv:2"), (["x", " "], "uid is empty")],
)
def test_uids_differ_and_are_not_empty(error_of, uids, reason):
    task = task_with("test", columns={"label": None, "uid": "id"})
    content = "id\ta\tb\n" + "".join(f"{uid}\tA\tB\n" for uid in uids)
    assert error_of(task, content) == f"rows.tsv:3: {reason}"


def test_a_skipped_row_leaves_the_uids_of_the_others_alone(read):
    rows = read(PAIRS, "a\tb\tlabel\nA\tB\tno\nshort\nA\tB\tyes\n", on_bad_row="skip")
    assert rows.uids == ["0", "2"]


def test_skipped_rows_are_logged_with_their_number_and_the_first_reason(read, monkeypatch):
    messages = []
    log = lambda message, *values: messages.append(message % values)  # noqa: E731
    monkeypatch.setattr("mtdnn_tf.data.sources.logging.warning", log)
    read(PAIRS, "a\tb\tlabel\nA\tB\tno\nshort\nA\tB\tso\n", on_bad_row="skip")
    assert len(messages) == 1
    assert re.match(r"skipped 2 of 3 rows; the first: .*rows\.tsv:3: 1 columns", messages[0])


def test_a_split_can_say_itself_what_becomes_of_bad_rows(read, error_of):
    content = "a\tb\tlabel\nA\tB\tno\nshort\n"
    assert read(task_with("train", on_bad_row="skip"), content).skipped == 1
    assert "expected 3" in error_of(task_with("train", on_bad_row="error"), content, "skip")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("a\tbee\tlabel", "no column 'b' for b"),
        ("a\tb\tLabel", "no column 'label' for label; did you mean 'Label'? (known: a, b, Label)"),
        ("a\tb\tgold", "no column 'label' for label; known: a, b, gold; a test split without"),
        ("a\tb\tlabel\tb", "2 columns are called 'b'"),
        ("", "no column 'a' for a"),
        (b"a\tb\tlabel\xfc", "byte 0xfc at offset 9 of the line is not UTF-8"),
    ],
)
def test_a_wrong_header_is_an_error_even_where_bad_rows_are_skipped(error_of, header, message):
    header = header if isinstance(header, bytes) else header.encode()
    text = error_of(PAIRS, header + b"\nA\tB\tyes\n", on_bad_row="skip")
    assert text.startswith(f"rows.tsv:1: {message}")


def test_the_number_of_columns_can_be_given(error_of):
    task = task_with("train", column_count=4)
    text = error_of(task, "a\tb\tlabel\nA\tB\tyes\n")
    assert text == "rows.tsv:1: 3 columns in the header, expected 4"
    task = task_with("train", {"a": 0, "b": 1, "label": 2}, header=False, column_count=4)
    assert error_of(task, "A\tB\tyes\n") == "rows.tsv:1: 3 columns, expected 4"


def test_a_position_past_the_last_column_is_an_error(error_of):
    task = task_with("train", {"a": 0, "b": 1, "label": 3}, header=False)
    text = error_of(task, "A\tB\tyes\n")
    assert text == "rows.tsv: label is at position 3, but rows have 3 columns"


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"a\tb\tlabel\n", b"a\tb\tlabel"])
def test_a_file_without_rows_is_an_error(error_of, content):
    assert error_of(PAIRS, content) == "task 'own', split 'train': rows.tsv has no rows"


def test_a_file_with_bad_rows_only_is_an_error(error_of):
    text = error_of(PAIRS, "a\tb\tlabel\nA\nB\n", on_bad_row="skip")
    assert text.endswith("all 2 rows are bad; the first: rows.tsv:2: 1 columns, expected 3")


def test_a_file_in_another_encoding_is_an_error(error_of):
    text = error_of(PAIRS, "a\tb\tlabel\nHi.\tHo.\tyes\n".encode("utf-16"))
    assert text == "rows.tsv:1: looks like UTF-16, expected UTF-8"


def test_a_missing_file_is_named_with_task_split_and_where_it_was_looked_for(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=rf"^task 'own', split 'train': no file {tmp_path}/rows"):
        read_split(PAIRS, "train", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"no file here/rows.tsv \(looked for {tmp_path}/here/ro"):
        read_split(PAIRS, "train", Path("here"))


def test_a_directory_in_place_of_a_file_is_an_error(tmp_path):
    (tmp_path / "rows.tsv").mkdir()
    with pytest.raises(UserError, match=r"rows\.tsv is a directory, expected a file"):
        read_split(PAIRS, "train", tmp_path)


def test_an_unknown_split_is_told_with_near_names(tmp_path):
    with pytest.raises(UserError, match="has no split 'tain'; did you mean 'train'"):
        read_split(PAIRS, "tain", tmp_path)


def test_a_file_can_be_anywhere(tmp_path):
    assert split_paths(PAIRS, "train", Path("data")) == (Path("data/rows.tsv"),)
    absolute = task_with("train", file=str(tmp_path / "a.tsv"))
    assert split_paths(absolute, "train", Path("data")) == (tmp_path / "a.tsv",)


def test_the_diagnostics_may_be_in_the_folder_of_the_old_download(tmp_path):
    ax = builtin_tasks()["ax"]
    header = "index\tsentence1\tsentence2\n"
    for folder in ("diagnostic", "AX"):
        path = tmp_path / "glue" / folder / "diagnostic.tsv"
        path.parent.mkdir(parents=True)
        path.write_text(f"{header}0\tA {folder}.\tB.\n")
        assert read_split(ax, "test", tmp_path).texts["sentence1"] == [f"A {folder}."]


def test_only_a_missing_file_of_an_optional_split_is_left_out(tmp_path):
    mnli = builtin_tasks()["mnli"]
    assert available_splits(mnli, "dev", tmp_path) == ("dev_matched",)
    (path,) = split_paths(mnli, "dev_mismatched", tmp_path)
    path.parent.mkdir(parents=True)
    path.touch()
    assert available_splits(mnli, "dev", tmp_path) == ("dev_matched", "dev_mismatched")


def test_an_official_qqp_row_that_lacks_columns_is_skipped(tmp_path):
    (path,) = split_paths(builtin_tasks()["qqp"], "train", tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
        "7\t1\t2\tWhat is tea?\tWhat's tea?\t1\n8\t3\t4\tWhere is\n9\t5\t6\tWhy?\tHow?\t0\n"
    )
    rows = read_split(builtin_tasks()["qqp"], "train", tmp_path)
    assert rows.texts["question1"] == ["What is tea?", "Why?"]
    assert (rows.labels.tolist(), rows.skipped) == ([1, 0], 1)


# Any text without the two characters that a TSV file is made of, and without white space at its
# ends, which no task reads.
SEPARATORS = st.sampled_from("\"'\\\u2028\u2029\u0085\x0b\x0c\x1e \ufeff\u00a0🙂é")
TEXTS = (
    st.text(
        st.one_of(st.characters(codec="utf-8", exclude_characters="\0"), SEPARATORS),
        min_size=1,
        max_size=20,
    )
    .map(lambda text: re.sub("[\t\n]", " ", text).strip())
    .filter(bool)
)
ROWS = st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from(["no", "yes"])), min_size=1, max_size=5)


@given(rows=ROWS, line_end=st.sampled_from(["\n", "\r\n"]), last=st.booleans())
def test_what_was_written_is_read(tmp_path_factory, rows, line_end, last):
    folder = tmp_path_factory.mktemp("data")
    lines = ["a\tb\tlabel", *("\t".join(row) for row in rows)]
    tsv = line_end.join(lines) + (line_end if last else "")
    (folder / "rows.tsv").write_bytes(tsv.encode())
    objects = (dict(zip(("a", "b", "label"), row, strict=True)) for row in rows)
    jsonl = line_end.join(json.dumps(row, ensure_ascii=last) for row in objects)
    (folder / "rows.jsonl").write_bytes(jsonl.encode())
    for task in (PAIRS, JSON_PAIRS):
        found = read_split(task, "train", folder)
        assert found.texts == {"a": [row[0] for row in rows], "b": [row[1] for row in rows]}
        assert found.labels.tolist() == [row[2] == "yes" for row in rows]


# Rows of each class in the spec's order, or (rows, mean score), or the rows of an unlabelled split.
@pytest.mark.skipif(not DATA_DIR.is_dir(), reason=f"MTDNN_DATA_DIR: no folder {DATA_DIR}")
@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("cola", "train", [2528, 6023]),
        ("cola", "dev", [322, 721]),
        ("cola", "test", 1063),
        ("sst2", "train", [29780, 37569]),
        ("sst2", "dev", [428, 444]),
        ("sst2", "test", 1821),
        ("mrpc", "train", [1194, 2474]),
        ("mrpc", "dev", [129, 279]),
        ("mrpc", "test", 1725),
        ("stsb", "train", (5749, 2.701)),
        ("stsb", "dev", (1500, 2.364)),
        ("stsb", "test", 1379),
        ("mnli", "train", [9770, 9793, 9932]),
        ("mnli", "dev_matched", [3213, 3123, 3479]),
        ("qnli", "train", [5856, 5947]),
        ("qnli", "dev", [2761, 2702]),
        ("qnli", "test", 5463),
        ("rte", "train", [1241, 1249]),
        ("rte", "dev", [131, 146]),
        ("rte", "test", 3000),
        ("wnli", "train", [323, 312]),
        ("wnli", "dev", [40, 31]),
        ("wnli", "test", 146),
        ("ax", "test", 1104),
        ("snli", "train", [10010, 9747, 9863]),
        ("snli", "dev", [3278, 3235, 3329]),
        ("scitail", "dev", [647, 657]),
        ("scitail", "test", [1284, 842]),
    ],
)
def test_the_real_files_read_with_their_documented_counts(name, split, expected):
    task = builtin_tasks()[name]
    rows = read_split(task, split, DATA_DIR)
    if not task.kind.has_classes and not task.kind.by_query and rows.labels is not None:
        assert (len(rows), round(float(rows.labels.mean()), 3)) == expected
    elif rows.labels is not None:
        assert np.bincount(rows.labels.astype(int)).tolist() == expected
    else:
        assert len(rows) == expected
    assert rows.skipped == 0
    assert all(text for texts in rows.texts.values() for text in texts)
