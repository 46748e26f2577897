"""Files in every format that is read: the same rows, whatever they come in. (Some 4 s.)"""

import csv
import gzip
import io
import json
import os
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from harness.tasks import task_with

from mtdnn_tf.data import tables
from mtdnn_tf.data.sources import SplitReader, read_split
from mtdnn_tf.errors import UserError
from mtdnn_tf.tasks import resolve_task

ROWS = [
    ("A plain text.", "Another.", "yes"),
    ('She said "no", twice.', "A comma, a\nline end and a\ttab.", "no"),
    ("Schön 🙂", '""', "yes"),
]
FRAME = pd.DataFrame(ROWS, columns=["a", "b", "label"])
FORMATS = [
    "csv",
    "tsv quoted",
    "jsonl",
    "ndjson",
    "json",
    "json lines",
    "parquet",
    "arrow",
    "feather",
]


def write(folder, form):
    """Writes ROWS; returns what the split says of the file."""
    name = {"tsv quoted": "x.tsv", "json lines": "x.json"}.get(form, f"x.{form}")
    path = folder / name
    if form == "csv":
        FRAME.to_csv(path, index=False)
    elif form == "tsv quoted":
        FRAME.to_csv(path, index=False, sep="\t")
        return {"file": name, "quoting": "csv"}
    elif form == "json":
        path.write_text(FRAME.to_json(orient="records", indent=1))
    elif form in ("jsonl", "ndjson", "json lines"):
        path.write_text("\n" + FRAME.to_json(orient="records", lines=True) + "\n\n")
    elif form == "parquet":
        FRAME.to_parquet(path)
    elif form == "feather":
        FRAME.to_feather(path)
    else:  # As the library `datasets` writes it.
        table = pa.Table.from_pandas(FRAME)
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    return {"file": name}


def read(folder, on_bad_row="error", **layout):
    columns = layout.pop("columns", None)
    task = task_with("train", columns)
    spec = {**task.splits["train"].model_dump(exclude_unset=True), **layout}
    task = resolve_task("own", {**task.model_dump(exclude_unset=True), "splits": {"train": spec}})
    return read_split(task, "train", folder, on_bad_row)


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_gives_the_rows_that_were_written(tmp_path, form):
    rows = read(tmp_path, **write(tmp_path, form))
    assert list(zip(rows.texts["a"], rows.texts["b"], rows.labels, strict=True)) == [
        (a, b, float(label == "yes")) for a, b, label in ROWS
    ]
    assert rows.uids == ["0", "1", "2"]


@pytest.mark.parametrize("form", ["csv", "tsv quoted", "jsonl", "json"])
def test_text_forms_may_be_compressed_and_suffixes_in_capitals(tmp_path, form):
    layout = write(tmp_path, form)
    plain = read(tmp_path, **layout)
    name = layout["file"].upper() + ".GZ"
    (tmp_path / name).write_bytes(gzip.compress((tmp_path / layout["file"]).read_bytes()))
    assert read(tmp_path, **{**layout, "file": name}).texts == plain.texts


def test_a_format_that_is_given_goes_before_the_suffix(tmp_path):
    layout = write(tmp_path, "csv")
    (tmp_path / layout["file"]).rename(tmp_path / "rows.data")
    assert len(read(tmp_path, file="rows.data", format="csv")) == 3


@pytest.mark.parametrize("name", ["rows.data", "rows", "rows.parquet.gz", "rows.xlsx"])
def test_an_unknown_suffix_is_refused_and_the_known_ones_listed(tmp_path, name):
    with pytest.raises(UserError, match=r"no known format; expected \.tsv, .*\.feather"):
        read(tmp_path, file=name)


def test_csv_may_have_no_header_and_other_columns(tmp_path):
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows((i, label, a, b) for i, (a, b, label) in enumerate(ROWS))
    columns = {"uid": 0, "label": 1, "a": 2, "b": 3}
    rows = read(tmp_path, file="x.csv", header=False, columns=columns)
    assert rows.texts["a"] == [a for a, _, _ in ROWS]


@pytest.mark.parametrize("piece", [1, 7, 40, 1 << 20])
def test_an_array_is_decoded_whatever_pieces_it_comes_in(tmp_path, piece, monkeypatch):
    monkeypatch.setattr(tables, "_PIECE_CHARS", piece)
    (tmp_path / "x.json").write_text(
        "\ufeff [ \n" + FRAME.to_json(orient="records")[1:-1] + " ] \n"
    )
    assert read(tmp_path, file="x.json").texts["b"] == [b for _, b, _ in ROWS]


GOOD = '{"a": "A", "b": "B", "label": "no"}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"[{GOOD}, {GOOD}", "x.json, row 2: not JSON"),
        (f"[{GOOD} {GOOD}]", "x.json, row 1: not JSON: expected ',' or ']'"),
        (f"[{GOOD}] {GOOD}", "x.json: not JSON: text after the end of the array"),
        (f"[{GOOD}, 3]", "x.json, row 1: not a JSON object: 3"),
        (f"[{GOOD}, ]", "x.json, row 1: not JSON"),
        ("[]", "x.json has no rows"),
        ("", "x.json has no rows"),
    ],
)
def test_a_damaged_array_is_one_line(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, file="x.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.parquet", b"PAR1 this is none", "x.parquet is damaged or not of its format"),
        ("x.arrow", b"nor this", "x.arrow is damaged or not of its format"),
        ("x.tsv.gz", b"a\tb\tlabel\n", "x.tsv.gz is damaged or not of its format"),
        (
            "x.tsv.gz",
            gzip.compress(b"a\tb\tlabel\n" + b"A\tB\tyes\n" * 99, mtime=0)[:-20],
            "is damaged",
        ),
        ("x.csv", b'a,b,label\nA,"B" or,yes\n', "x.csv:2: not CSV"),
        ("x.csv", b'a,b,label\nA,B,yes\nA,"B,yes\nA,B,no\n', "x.csv:3: not CSV: unexpected end"),
        ("x.csv", b"a,b,label\nA,B,yes\n\n,B,no\n", "x.csv:4: a is empty, expected text"),
        ("x.csv", b"a,b,label\nA,B\xff,yes\n", "x.csv:2: byte 0xff at offset 2 of the line"),
        ("x.tsv", b"a\tb\tlabel\rA\tB\tyes\r", "x.tsv:1: a carriage return in the first line"),
        ("x.tsv", "a\tb\tlabel\n".encode("utf-16-le"), "x.tsv:1: looks like UTF-16"),
        ("x.tsv", b'a\tb\tlabel\n"A\nB"\tC\tyes\n', "x.tsv:2: 1 columns, expected 3; quoting: csv"),
        ("x.csv", b"a,b,label\nA,B\0,yes\n", "x.csv:2: a NUL character"),
        (
            "x.tsv",
            gzip.compress(b"a\tb\tlabel\n", mtime=0),
            "x.tsv is compressed by gzip, expected a name",
        ),
        (
            "x.json",
            b'[{"a": "\xe9", "b": "B", "label": "no"}]',
            "x.json, row 0: byte 0xe9 at offset 7 of the object is not UTF-8",
        ),
        ("x.json", b"[" * 100_000, "x.json, row 0: not JSON: nested too deep"),
        ("x.json", b'[{"a": 1' + b"0" * 5000 + b"}]", "x.json, row 0: not JSON: Exceeds the limit"),
        ("x.jsonl", b"[" * 100_000, "x.jsonl:1: not JSON: nested too deep"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, file=name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["parquet", "feather"])
@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_a_missing_text_is_a_bad_row_and_not_the_text_nan(tmp_path, form, nothing):
    frame = pd.DataFrame({"a": ["A", nothing], "b": ["B", "B"], "label": ["yes", "no"]})
    getattr(frame, f"to_{form}")(tmp_path / f"x.{form}")
    with pytest.raises(UserError, match=rf"x.{form}, row 1: a is null, expected a string"):
        read(tmp_path, file=f"x.{form}")
    assert read(tmp_path, "skip", file=f"x.{form}").skipped == 1


def test_a_column_that_is_not_there_is_told_before_any_row(tmp_path):
    FRAME.rename(columns={"b": "bee"}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x.parquet: no column 'b' for b; known: a, bee, label"):
        read(tmp_path, "skip", file="x.parquet")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (b"A,B,no\n", "unexpected end of data, in a quoted cell that goes on to line 5"),
        (b'A,"B",no\n', "',' expected after '\"', in a quoted cell that goes on to line 5"),
    ],
)
def test_a_quote_that_swallows_rows_is_an_error_even_where_bad_rows_are_skipped(
    tmp_path, more, message
):
    (tmp_path / "x.csv").write_bytes(b'a,b,label\nA,B,yes\nA,"B,yes\nA,B,no\n' + more)
    with pytest.raises(UserError, match=f"x.csv:3: not CSV: {message}"):
        read(tmp_path, "skip", file="x.csv")


def test_a_mistake_in_an_array_is_told_without_reading_on(monkeypatch):
    monkeypatch.setattr(tables, "_PIECE_CHARS", 64)
    text = io.StringIO(f'[{GOOD}, {{"a":}}, ' + f"{GOOD}, " * 1000)
    with pytest.raises(UserError, match="row 1: not JSON: Expecting value"):
        list(tables._json_array(text, "x.json"))
    assert text.tell() < 500


def parquet(path, **columns):
    """Writes a file of a row, or of as many as a column has."""
    rows = max(map(len, columns.values()))
    given = {"a": ["A"] * rows, "b": ["B"] * rows, "label": ["yes"] * rows} | columns
    pyarrow.parquet.write_table(pa.table(given), path)


def test_a_value_that_python_has_not_is_a_bad_row_of_its_own(tmp_path):
    data = pa.py_buffer(b"A\xe9C")
    texts = pa.StringArray.from_buffers(3, pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), data)
    parquet(tmp_path / "x.parquet", a=texts)
    with pytest.raises(UserError, match=r"x.parquet, row 1: a value cannot be read: 'utf-8' codec"):
        read(tmp_path, file="x.parquet")
    rows = read(tmp_path, "skip", file="x.parquet")
    assert (rows.texts["a"], rows.uids, rows.skipped) == (["A", "C"], ["0", "2"], 1)


def test_a_decimal_is_its_number_and_nan_is_no_uid(tmp_path):
    decimals = [Decimal("1.00"), Decimal("0.00")]
    parquet(tmp_path / "x.parquet", label=decimals, uid=[7.0, float("nan")])
    task = task_with("train", {"uid": "uid"}, file="x.parquet", labels=["0", "1"])
    with pytest.raises(UserError, match="row 1: uid is NaN, expected a string or a number"):
        read_split(task, "train", tmp_path)
    rows = read_split(task, "train", tmp_path, "skip")
    assert (rows.uids, rows.labels.tolist()) == (["7"], [1])


def test_a_stream_that_is_cut_between_two_messages_is_damaged(tmp_path):
    table = pa.Table.from_pandas(FRAME)
    with (tmp_path / "x.arrow").open("wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
        size = file.tell()
        stream.write_table(table)
    os.truncate(tmp_path / "x.arrow", size)
    with pytest.raises(
        UserError, match=r"x.arrow is damaged or not of its format: the stream does"
    ):
        read(tmp_path, file="x.arrow")


def labels_of(tmp_path, labels, values, name):
    frame = pd.DataFrame({"a": "A", "b": "B", "label": values})
    if name.endswith("parquet"):
        frame.to_parquet(tmp_path / name)
    elif name.endswith("csv"):
        frame.to_csv(tmp_path / name, index=False)
    else:
        frame.to_json(tmp_path / name, orient="records", lines=True)
    task = task_with("train", file=name, labels=labels)
    return read_split(task, "train", tmp_path).labels.tolist()


@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.jsonl"])
@pytest.mark.parametrize("labels", [["1", "2"], ["1.0", "2.0"]])
@pytest.mark.parametrize("values", [[1, 2], [1.0, 2.0]])
def test_a_number_that_equals_a_label_written_as_a_number_is_that_label(
    tmp_path, name, labels, values
):
    assert labels_of(tmp_path, labels, values, name) == [0, 1]


def test_labels_that_only_look_like_numbers_are_what_is_written(tmp_path):
    assert labels_of(tmp_path, ["10", "010"], ["010", "10"], "x.csv") == [1, 0]
    with pytest.raises(
        UserError, match=r"label '1', expected '1\.0' or '1\.00'"
    ):  # Which of the two?
        labels_of(tmp_path, ["1.0", "1.00"], ["1", "1"], "x.csv")
    with pytest.raises(UserError, match="label '1e99999999999999999999', expected '0' or '1'"):
        labels_of(tmp_path, ["0", "1"], ["1e99999999999999999999"], "x.csv")


def test_cells_that_look_quoted_are_told_once_a_file(tmp_path):
    FRAME.drop(index=1).assign(a='a "word"').to_csv(tmp_path / "x.tsv", sep="\t", index=False)
    rows = read(tmp_path, file="x.tsv")
    assert rows.texts["a"][0] == '"a ""word"""'
    assert rows.remark.startswith("3 texts look quoted as in CSV, such as")
    assert "quoting: csv" in rows.remark
    quoted = read(tmp_path, file="x.tsv", quoting="csv")
    assert (quoted.texts["a"][0], quoted.remark) == ('a "word"', "")
    assert read(tmp_path, file="x.tsv", quoting="none").remark == ""


def test_cells_that_look_quoted_are_counted_once_where_a_uid_comes_again(tmp_path):
    (tmp_path / "x.tsv").write_text('a\tb\tlabel\tid\n"A ""b"""\tB\tyes\tu\nA\tB\tno\tu\n')
    rows = read(tmp_path, "skip", file="x.tsv", columns={"uid": "id"})
    assert rows.remark.startswith("1 texts look quoted")


def test_blank_lines_at_the_end_are_no_rows(tmp_path):
    (tmp_path / "x.tsv").write_text("a\tb\tlabel\nA\tB\tyes\n\n\n")
    assert len(read(tmp_path, file="x.tsv")) == 1


def test_the_rows_of_a_large_file_are_not_all_held(tmp_path):
    import tracemalloc

    path = tmp_path / "rows.tsv"
    with path.open("w") as file:
        file.write("a\tb\tlabel\n")
        file.writelines(f"{'word ' * 20}{i}\t{'word ' * 20}\tyes\n" for i in range(50_000))
    tracemalloc.start()
    count = sum(1 for _ in SplitReader(task_with("train"), "train", tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 50_000
    assert peak < path.stat().st_size / 10


def test_lists_of_candidates_may_be_in_parquet(tmp_path):
    frame = pd.DataFrame({"q": ["Who?"], "c": [["I.", "You.", "He."]], "label": [2]})
    frame.to_parquet(tmp_path / "x.parquet")
    task = resolve_task(
        "own",
        {
            "kind": "ranking",
            "fields": ["q", "c"],
            "labels": ["wrong", "right"],
            "metrics": ["mrr"],
            "splits": {"train": {"file": "x.parquet", "candidate_lists": True}},
        },
    )
    rows = read_split(task, "train", tmp_path)
    assert (rows.texts["c"], rows.labels.tolist()) == (["I.", "You.", "He."], [0, 0, 1])


def test_what_the_csv_module_writes_is_read(tmp_path):
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [["a", "b", "label"], *ROWS]
    )
    (tmp_path / "x.csv").write_text(file.getvalue())
    assert json.dumps(read(tmp_path, file="x.csv").texts["b"]) == json.dumps(
        [b for _, b, _ in ROWS]
    )
