"""The check of a submission to GLUE: one thing is changed at a time."""

import warnings
import zipfile

import pytest

from mtdnn_tf.errors import UserError
from mtdnn_tf.submission import check as check_module
from mtdnn_tf.submission.check import check_submission
from mtdnn_tf.submission.formats import GLUE_FILES
from mtdnn_tf.tasks import builtin_tasks

FILES = {of_one.name: of_one for of_one in GLUE_FILES}


def content(of_one):
    """A right file, whose predictions go through all values."""
    lines = ["index\tprediction"]
    for row in range(of_one.rows):
        value = of_one.values[row % len(of_one.values)] if of_one.values else f"{row % 51 / 10:.3f}"
        lines.append(f"{row}\t{value}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def right():
    return {of_one.file: content(of_one) for of_one in GLUE_FILES}


@pytest.fixture
def check(right, tmp_path):
    """A function that checks the right submission with some files changed; None leaves one out."""

    def checked(**changes):
        files = right | {f"{name.replace('_', '-')}.tsv": text for name, text in changes.items()}
        with zipfile.ZipFile(tmp_path / "submission.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                if text is not None:
                    archive.writestr(name, text)
        return check_submission(tmp_path / "submission.zip")

    return checked


def test_a_right_submission_has_no_faults(check):
    report = check()
    assert (report.faults, report.warnings) == ([], [])
    assert report.rows == {of_one.file: of_one.rows for of_one in GLUE_FILES}
    assert report.shares["RTE.tsv"] == {"not_entailment": 0.5, "entailment": 0.5}
    assert "STS-B.tsv" not in report.shares


def test_the_files_are_those_of_glue():
    """The numbers that the benchmark's test files have, as the issue of this project lists them."""
    rows = [1063, 1821, 1725, 1379, 9796, 9847, 5463, 390965, 3000, 146, 1104]
    names = "CoLA SST-2 MRPC STS-B MNLI-m MNLI-mm QNLI QQP RTE WNLI AX".split()
    assert [(f.name, f.rows) for f in GLUE_FILES] == list(zip(names, rows, strict=True))
    tasks = builtin_tasks()
    for of_one in GLUE_FILES:
        task = tasks[of_one.task]
        head = tasks[task.predict_with] if task.predict_with else task
        assert of_one.split in task.splits
        assert len(of_one.values) == len(head.labels)
        if of_one.values[:1] not in ((), ("0",)):
            assert of_one.values == head.labels
        elif of_one.values:
            assert [head.label_values[value] for value in of_one.values] == list(head.labels)


@pytest.mark.parametrize(
    ("name", "old", "new", "faults"),
    [
        ("CoLA", "index\tprediction", "id\tprediction",
         ["CoLA.tsv:1: expected the header 'index<TAB>prediction', found 'id\\tprediction'"]),
        ("CoLA", "\n0\t0\n", "\n0\t2\n", ["CoLA.tsv:2: prediction '2', expected one of 0, 1"]),
        ("RTE", "\n5\tentailment\n", "\n5\t1\n",
         ["RTE.tsv:7: prediction '1', expected one of not_entailment, entailment"]),
        ("AX", "\n2\tentailment\n", "\n2\tEntailment\n",
         ["AX.tsv:4: prediction 'Entailment', expected one of contradiction, neutral, entailment"]),
        ("STS-B", "\n1\t0.100\n", "\n1\t5.001\n",
         ["STS-B.tsv:3: prediction '5.001', expected a number from 0 to 5"]),
        ("STS-B", "\n1\t0.100\n", "\n1\tnan\n",
         ["STS-B.tsv:3: prediction 'nan', expected a number from 0 to 5"]),
        ("STS-B", "\n1\t0.100\n", "\n1\t0,1\n",
         ["STS-B.tsv:3: prediction '0,1', expected a number from 0 to 5"]),
        ("WNLI", "\n3\t1\n", "\n4\t1\n",
         ["WNLI.tsv:5: index 4, expected 3: rows are in the order of the test file"]),
        ("WNLI", "\n3\t1\n", "\n146\t1\n", ["WNLI.tsv:5: index 146 is over the last, 145"]),
        ("WNLI", "\n3\t1\n", f"\n{'9' * 5000}\t1\n",
         [f"WNLI.tsv:5: index {'9' * 20} is over the last, 145"]),
        ("STS-B", "\n1\t0.100\n", "\n1\t0_1\n",
         ["STS-B.tsv:3: prediction '0_1', expected a number from 0 to 5"]),
        ("STS-B", "\n1\t0.100\n", "\n1\t \u0663\n",
         ["STS-B.tsv:3: prediction ' \u0663', expected a number from 0 to 5"]),
        ("WNLI", "\n3\t1\n", "\n3.0\t1\n", ["WNLI.tsv:5: index '3.0' is not a whole number"]),
        ("WNLI", "\n145\t1\n", "\n", ["WNLI.tsv:146: 145 rows, expected 146"]),
        ("WNLI", "\n7\t1\n", "\n",
         ["WNLI.tsv:9: index 8, expected 7: rows are in the order of the test file",
          "WNLI.tsv:146: 145 rows, expected 146"]),
        ("WNLI", "\n7\t1\n", "\n7\t1\n7\t1\n",
         ["WNLI.tsv:10: index 7, expected 8: rows are in the order of the test file",
          "WNLI.tsv:148: 147 rows, expected 146"]),
        ("WNLI", "\n7\t1\n8\t0\n", "\n8\t0\n7\t1\n",
         ["WNLI.tsv:9: index 8, expected 7: rows are in the order of the test file",
          "WNLI.tsv:10: index 7, expected 8: rows are in the order of the test file"]),
        ("WNLI", "\n145\t1\n", "\n145\t1\n\n", ["WNLI.tsv:148: is empty"]),
        ("WNLI", "\n7\t1\n", "\n\n7\t1\n", ["WNLI.tsv:9: is empty"]),
        ("WNLI", "\n145\t1\n", "\n145\t1\n146\t1\n",
         ["WNLI.tsv:148: index 146 is over the last, 145", "WNLI.tsv:148: 147 rows, expected 146"]),
        ("WNLI", "\n3\t1\n", "\n3 1\n", ["WNLI.tsv:5: expected index and prediction, found 1 columns"]),
        ("WNLI", "\n3\t1\n", "\n3\t1\r\n", ["WNLI.tsv:5: ends with a carriage return"]),
        ("WNLI", "index", "\ufeffindex", ["WNLI.tsv:1: begins with a byte-order mark"]),
    ],
)  # fmt: skip
def test_one_thing_that_is_wrong_is_named_with_its_line(name, old, new, faults, check, right):
    text = right[f"{name}.tsv"]
    assert old in text
    assert check(**{name: text.replace(old, new, 1)}).faults == faults


def test_missing_files_and_others_are_named(check):
    report = check(AX=None)
    assert report.faults == ["AX.tsv: is missing"]
    assert "AX.tsv" not in report.rows
    (fault,) = check(MNLI="x").faults
    assert fault.startswith("MNLI.tsv: no file of a submission; did you mean 'MNLI-m.tsv'")
    assert check(WNLI="").faults == ["WNLI.tsv:1: is empty"]


def test_a_file_in_a_folder_is_not_where_glue_looks(right, tmp_path):
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in right.items():
            archive.writestr(f"glue/{name}" if name == "AX.tsv" else name, text)
    unexpected, missing = check_submission(path).faults
    assert unexpected.startswith("glue/AX.tsv: no file of a submission; did you mean 'AX.tsv'")
    assert missing == "AX.tsv: is missing"


def test_text_that_is_not_utf8_is_named(right, tmp_path):
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in right.items():
            raw = text.encode()
            archive.writestr(
                name, raw.replace(b"\n3\t1", b"\n3\t\xff") if name == "WNLI.tsv" else raw
            )
    assert check_submission(path).faults == ["WNLI.tsv:5: not UTF-8"]


def test_a_constant_column_is_a_warning(check, right):
    report = check(WNLI=right["WNLI.tsv"].replace("\t0\n", "\t1\n"))
    assert report.faults == []
    assert report.warnings == ["WNLI.tsv: every prediction is 1"]
    assert report.shares["WNLI.tsv"] == {"0": 0.0, "1": 1.0}


def test_of_many_faults_the_first_are_shown(check, right):
    report = check(RTE=right["RTE.tsv"].replace("\tentailment", "\t1"))
    assert report.count == 1500
    assert len(report.faults) == 22
    assert report.faults[-2] == "RTE.tsv: and 1479 more, the last:"
    assert report.faults[-1].startswith("RTE.tsv:3001: prediction '1'")


def test_all_are_shown_where_they_are_asked_for(right, tmp_path):
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in right.items():
            archive.writestr(
                name, text.replace("\tentailment", "\t1") if name == "RTE.tsv" else text
            )
    report = check_submission(path, most=10**6)
    assert len(report.faults) == report.count == 1500
    assert all(fault.startswith("RTE.tsv:") for fault in report.faults)


def test_a_file_that_is_there_twice_is_named(right, tmp_path):
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile says so too.
        for name, text in [*right.items(), ("AX.tsv", right["AX.tsv"])]:
            archive.writestr(name, text)
    assert check_submission(path).faults == ["AX.tsv: there 2 times"]


def test_a_wrong_number_of_rows_is_named_after_however_many_others(check, right):
    wrong = right["RTE.tsv"].replace("\tentailment", "\t1")
    report = check(RTE=f"{wrong}2999\tnot_entailment\n")
    assert report.faults[-1] == "RTE.tsv:3002: 3,001 rows, expected 3,000"
    assert report.count == 1502


def test_a_score_may_begin_with_its_point(check, right):
    assert check(**{"STS-B": right["STS-B.tsv"].replace("\n1\t0.100\n", "\n1\t.1\n")}).faults == []


def test_what_cannot_be_printed_is_shown_as_python_does(check, right, tmp_path):
    long = check(
        **{"WNLI": right["WNLI.tsv"].replace("\t0\n", "\t1\n").replace("\t1\n", f"\t{'x' * 99}\n")}
    )
    assert long.warnings == [f"WNLI.tsv: every prediction is '{'x' * 20}'"]
    path = tmp_path / "names.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(30):
            archive.writestr(f"\x1b[31m{number}", "")
    faults = check_submission(path).faults
    assert faults[0].startswith(r"'\x1b[31m0': no file of a submission")
    assert faults[20] == "and 10 more such files"


def test_a_member_without_a_name_is_no_file_of_a_submission(right, tmp_path):
    path = tmp_path / "names.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (right | {"?.txt": ""}).items():
            archive.writestr(name, text)
    path.write_bytes(path.read_bytes().replace(b"?.txt", b"\0.txt"))  # A name ends at a NUL.
    (fault,) = check_submission(path).faults
    assert fault.startswith("'': no file of a submission; known: AX.tsv")


def test_a_member_whose_name_is_not_what_it_says_is_told(right, tmp_path):
    path = tmp_path / "names.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("é.tsv", "")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(UserError, match="cannot be unpacked"):
        check_submission(path)


def test_a_file_that_would_fill_the_memory_is_not_read(check, monkeypatch):
    monkeypatch.setattr(check_module, "MOST_BYTES", 3 << 20)
    assert check().faults == ["QQP.tsv: more than 3 MiB"]


@pytest.mark.parametrize("line", ["145\t1\n", "\n"])
def test_of_far_too_many_lines_the_rest_is_not_read(line, check, right):
    report = check(WNLI=right["WNLI.tsv"] + line * 1000)
    fault = "WNLI.tsv:294: far over 146 rows; what comes after is not read"
    assert report.faults[-1] == fault
    assert report.count <= 147


def test_a_file_that_is_damaged_or_encrypted_does_not_hide_the_faults_of_others(
    check, right, tmp_path
):
    check(AX=right["AX.tsv"].replace("\n2\tentailment\n", "\n2\tEntailment\n"))
    path = tmp_path / "submission.zip"
    whole = path.read_bytes()
    for place, byte in ((200, 0xFF), (6, 0x01)):  # Amid compressed data; the flag of encryption.
        damaged = bytearray(whole)
        damaged[place : place + 1] = bytes([byte])
        if place == 6:
            first = whole.index(b"PK\x01\x02")
            damaged[first + 8] |= byte
        path.write_bytes(damaged)
        *_, of_cola, of_ax = check_submission(path).faults
        assert of_cola.startswith("CoLA.tsv: cannot be unpacked: ")
        assert of_ax.startswith("AX.tsv:4: prediction 'Entailment', expected one of ")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_file_that_is_damaged_in_another_compression_is_told(method, right, tmp_path):
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, text in right.items():
            archive.writestr(name, text)
    damaged = bytearray(path.read_bytes())
    damaged[100:140] = bytes(40)
    path.write_bytes(damaged)
    (fault,) = check_submission(path).faults
    assert fault.startswith("CoLA.tsv: cannot be unpacked: ")


@pytest.mark.parametrize("raw", [b"", b"PK nothing", b"index\tprediction\n"])
def test_what_is_no_zip_file_is_told(raw, tmp_path):
    path = tmp_path / "submission.zip"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"submission\.zip: cannot be unpacked: "):
        check_submission(path)
    with pytest.raises(UserError, match="cannot read /none: No such file"):
        check_submission(tmp_path.__class__("/none"))
