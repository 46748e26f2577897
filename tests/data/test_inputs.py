"""Files of texts that a user wants predicted, and the flags that say how to read them."""

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet
import pytest
from absl import logging

from mtdnn_tf.data.inputs import input_file, read_inputs
from mtdnn_tf.errors import UserError
from mtdnn_tf.serving.client.texts import read_texts
from mtdnn_tf.tasks import resolve_task


def task_of(*fields, **changes):
    return resolve_task(
        "own",
        {
            "kind": "pair_classification" if len(fields) == 2 else "single_classification",
            "fields": fields,
            "labels": ["no", "yes"],
            "metrics": ["accuracy"],
            "splits": {"train": {"file": "x.tsv"}},
            **changes,
        },
    )


ONE, PAIR = task_of("text"), task_of("b", "a")


@pytest.fixture
def read(tmp_path):
    """Reads a file as `mtdnn-predict` does."""

    def read(task, content, name="x.tsv", read_rows=read_inputs, columns=(), **given):
        path = tmp_path / name
        if isinstance(content, pa.Table):
            pyarrow.parquet.write_table(content, path)
        else:
            path.write_text(content)
        flags = {"format": None, "header": "auto", "quoting": None, **given}
        values = SimpleNamespace(input=str(path), columns=list(columns), **flags)
        with input_file(values) as source:
            return read_rows(task, source)

    return read


PANDAS = 'text\n"He said ""hi"""\n'


def test_a_table_that_pandas_wrote_is_told_and_can_be_read(read, monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    assert read(ONE, PANDAS).texts["text"] == ['"He said ""hi"""']
    assert "1 texts look quoted as in CSV" in said[0]
    assert said[0].endswith("--quoting=csv reads them as CSV")
    assert read(ONE, PANDAS, quoting="csv").texts["text"] == ['He said "hi"']
    assert len(said) == 1


def test_a_line_end_in_a_quoted_cell_of_one_column_is_told(read):
    content = 'text\n"line one\nline two"\nplain\n'
    rows = read(ONE, content)
    assert len(rows) == 3
    assert rows.remark.startswith("1 texts look quoted")
    assert len(read(ONE, content, quoting="csv")) == 2


def test_sentences_that_open_a_quote_are_no_sign_of_csv_beside_other_columns(read):
    assert read(PAIR, 'b\ta\n"Go on\tHe said so.\n').remark == ""


def test_an_empty_cell_is_no_text_where_cells_are_quoted_as_in_csv(read):
    content = "text\tz\nA\t1\n\t2\n"
    assert read(ONE, content).texts["text"] == ["A", ""]
    with pytest.raises(UserError, match=r"x.tsv:3: text is empty, expected text"):
        read(ONE, content, quoting="csv")


@pytest.mark.parametrize(
    ("content", "given", "message"),
    [
        ('b\ta\n"x\ty"\tz\n', {}, "x.tsv:2: 3 columns, expected 2; --quoting=csv reads"),
        ("{}", {"name": "x.jsonl", "quoting": "csv"}, r"--quoting=csv: .*x.jsonl is no TSV or CSV"),
        ("q\tr\n", {"header": "false", "columns": ["a=0"]}, "the position of every field; b has"),
        (
            "q\tr\n",
            {"header": "false", "columns": ["uid=0"]},
            "position of every field; b has none",
        ),
        ("q\tr\n", {"header": "false", "columns": ["a=0", "b=0"]}, "a position is given twice"),
        ("q\tr\n", {"header": "false", "columns": ["a=r", "b=0"]}, "a=r: without a header, give"),
        (
            "q\tr\n",
            {"header": "true"},
            "x.tsv:1: own takes b, a; found the columns q . r; --columns=b=NAME says which is which",
        ),
        ("q\tr\n", {}, "--header=false if it is a row of texts"),
        ("b\ta\n", {"columns": ["uid=nope"]}, "x.tsv:1: --columns=uid=nope: no column 'nope'"),
        ("b\ta\n", {"columns": ["b="]}, "--columns=b=: expected field=column"),
        ("", {}, "there are no rows"),
    ],
)
def test_what_cannot_be_read_is_one_line(read, content, given, message):
    with pytest.raises(UserError, match=message) as caught:
        read(PAIR, content, **given)
    assert "\n" not in str(caught.value)


def test_predict_and_the_client_of_a_server_read_the_same_columns(read):
    given = {"header": "false", "columns": ["b=2", "a=0"]}
    rows = read(PAIR, "A\tx\tB\n", **given)
    fields = ["a", "b"]  # A server tells them in the order of the alphabet.
    asked = read("own", "A\tx\tB\n", read_rows=lambda t, s: read_texts(t, fields, s), **given)
    assert rows.texts == asked.texts == {"a": ["A"], "b": ["B"]}


@pytest.mark.parametrize("column", ["id", "index"])
def test_rows_can_be_numbered_whatever_columns_there_are(read, column):
    content = f"{column}\tb\ta\n7\tB\tA\n7\tB\tA\n"
    with pytest.raises(UserError, match="uid '7' was used before"):
        read(PAIR, content)
    assert read(PAIR, content, columns=["uid="]).uids == ["0", "1"]


UNREADABLE = [
    pa.array([1 << 59], pa.timestamp("us")),
    pa.array([1], pa.timestamp("us", tz="Mars/Phobos")),
]


@pytest.mark.parametrize("column", UNREADABLE)
def test_a_column_that_nobody_needs_is_not_read(read, column):
    table = pa.Table.from_arrays([pa.array(["B"]), pa.array(["A"]), column], ["b", "a", "when"])
    assert read(PAIR, table, "x.parquet").texts == {"b": ["B"], "a": ["A"]}


def test_columns_that_nobody_needs_may_have_one_name(read):
    table = pa.Table.from_arrays([pa.array(["A"])] * 4, ["b", "a", "x", "x"])
    assert len(read(PAIR, table, "x.parquet")) == 1


def test_candidates_may_be_a_list(read):
    task = task_of("q", "c", kind="ranking", metrics=["mrr"])
    table = pa.table({"q": ["Q"], "c": [["A", "B"]]})
    assert read(task, table, "x.parquet").texts["c"] == ["A", "B"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("pipe.csv", '"A, ""b"""\n'), ("pipe", 'A, "b"\n'), ("pipe.tsv", 'A, "b"')],
)
def test_a_named_pipe_has_the_format_of_its_suffix(tmp_path, name, content):
    pipe = tmp_path / name
    os.mkfifo(pipe)
    writer = threading.Thread(target=Path.write_text, args=(pipe, content))
    writer.start()
    flags = {"format": None, "header": "false", "quoting": None, "columns": []}
    with input_file(SimpleNamespace(input=str(pipe), **flags)) as source:
        assert read_inputs(ONE, source).texts["text"] == ['A, "b"']
    writer.join()
