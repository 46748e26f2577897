"""Splits from TensorFlow Datasets: prepared folders made here, and no network."""

import json
import shutil
import socket
import time
import urllib.error

import numpy as np
import pytest
import tensorflow_datasets as tfds
import yaml
from harness.runs import error_line, run
from harness.tasks import VOCAB, write_experiment

from mtdnn_tf.data.sources import available_splits, read_split
from mtdnn_tf.data.store import open_store
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import build_experiment
from mtdnn_tf.tasks import builtin_tasks, resolve_task
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer

TEXT = tfds.features.Text()


def prepare(folder, name, features, splits, version="1.0.0", **kwargs):
    """Writes a prepared data set; `splits` are lists of examples, shuffled as TFDS does by default."""
    name, _, config = name.partition("/")
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        config=config or None,
        version=version,
        features=tfds.features.FeaturesDict(features),
        split_datasets={split: list(enumerate(rows)) for split, rows in splits.items()},
        data_dir=folder,
        **kwargs,
    )


def classes(*names):
    return tfds.features.ClassLabel(names=names)


def prepare_glue(folder, name, splits, **kwargs):
    """Writes a data set of TFDS' glue with the features and class numbers that its own code has."""
    info = tfds.builder(f"glue/{name}", data_dir=folder).info
    prepare(folder, f"glue/{name}", dict(info.features), splits, str(info.version), **kwargs)


def from_tfds(name, split, folder, override=None, **kwargs):
    task = resolve_task(name, override, source="tfds")
    return read_split(task, split, folder, tfds_dir=folder, **kwargs)


def own_task(**split):
    return resolve_task(
        "own",
        {
            "kind": "single_classification",
            "fields": ["text"],
            "labels": ["no", "yes"],
            "metrics": ["accuracy"],
            "splits": {"dev": {"tfds": "moods", "split": "test", **split}},
        },
    )


def error_of(task, split, folder, **kwargs):
    with pytest.raises(UserError) as caught:
        read_split(task, split, folder, tfds_dir=folder, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def by_uid(rows):
    labels = [None] * len(rows) if rows.labels is None else rows.labels.tolist()
    return dict(zip(rows.uids, zip(*rows.texts.values(), labels, strict=True), strict=True))


@pytest.fixture
def no_network(monkeypatch):
    """Fails a test that looks for a server."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"looked for a server: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def moods_dir(tmp_path_factory):
    """A data set that TFDS has no code for: 40 rows, three of them without a label."""
    folder = tmp_path_factory.mktemp("moods")
    rows = [{"text": f"text {i} é", "label": i % 2, "n": i, "many": ["x"]} for i in range(40)]
    for i in (5, 7, 9):
        rows[i]["label"] = -1
    features = {
        "text": TEXT,
        "label": classes("yes", "no"),
        "n": np.int64,
        "many": tfds.features.Sequence(TEXT),
    }
    splits = {"train": rows[10:], "test": rows[:10]}
    prepare(folder, "moods", features, splits, disable_shuffling=True)
    return folder


# --- the same rows as from the files ---

FILES = {
    "cola": {
        "CoLA/dev.tsv": "x\t1\t\tSnow melts.\nx\t0\t*\tSnow melt slowly it.\n",
        "CoLA/test.tsv": "index\tsentence\n0\tRain falls.\n1\tFalls the.\n",
    },
    "mrpc": {
        "MRPC/dev.tsv": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
        '1\t1\t2\tHe "left".\tHe went.\n0\t3\t4\tIt rains.\tIt is dry.\n',
        "MRPC/test.tsv": "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\tA.\tB.\n",
    },
    "stsb": {
        "STS-B/dev.tsv": "index\tsentence1\tsentence2\tscore\n0\tA dog.\tDogs.\t3.800\n"
        "1\tA cat.\tRain.\t0.000\n2\tIce.\tIce.\t5.000\n",
        "STS-B/test.tsv": "index\tsentence1\tsentence2\n0\tA dog.\tDogs.\n",
    },
    "rte": {
        "RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tIt rained.\tWater fell.\tentailment\n"
        "1\tIt rained.\tIt snowed.\tnot_entailment\n2\tTen ran.\tOne ran.\tentailment\n",
        "RTE/test.tsv": "index\tsentence1\tsentence2\n0\tIt rained.\tIt snowed.\n",
    },
    "mnli": {
        "MNLI/dev_matched.tsv": "index\tsentence1\tsentence2\tgold_label\n0\tA.\tB.\tneutral\n"
        "1\tA.\tC.\tentailment\n2\tA.\tD.\tcontradiction\n",
        "MNLI/test_matched.tsv": "index\tsentence1\tsentence2\n0\tA.\tB.\n",
    },
}


def as_tfds_examples(task, split, rows):
    """The rows of a file as TFDS' code of GLUE makes them: classes by name, -1 without labels."""
    spec = builtin_tasks("tfds")[task.name].splits[split]
    of_label = {task.label_values.get(name, name): name for name in (*task.labels, "equivalent",
                "not_equivalent") if name in task.labels or name in task.label_values}  # fmt: skip
    examples = []
    for i, uid in enumerate(rows.uids):
        example = {str(spec.column_of(name)): texts[i] for name, texts in rows.texts.items()}
        label = -1 if rows.labels is None else float(rows.labels[i])
        if rows.labels is not None and task.kind.has_classes:
            label = of_label[task.labels[int(label)]]
        examples.append({**example, "label": label, "idx": int(uid)})
    return examples


def check_same_rows(task, splits, data_dir, folder):
    files = {split: read_split(task, split, data_dir) for split in splits}
    tfds_split = {split: builtin_tasks("tfds")[task.name].splits[split].split for split in splits}
    prepare_glue(
        folder,
        task.name,
        {tfds_split[split]: as_tfds_examples(task, split, files[split]) for split in splits},
    )
    for split in splits:
        rows = from_tfds(task.name, split, folder)
        assert by_uid(rows) == by_uid(files[split])
        assert list(rows.texts) == list(task.fields)
        assert (rows.skipped, rows.remark) == (0, "")


@pytest.mark.parametrize("name", FILES)
def test_rows_are_those_of_the_files_whatever_the_class_numbers(name, tmp_path):
    task = builtin_tasks()[name]
    for file, content in FILES[name].items():
        path = tmp_path / "files" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    splits = ("dev_matched", "test_matched") if name == "mnli" else ("dev", "test")
    check_same_rows(task, splits, tmp_path / "files", tmp_path / "tfds")


@pytest.mark.parametrize("name", ["cola", "rte", "stsb", "mrpc"])
def test_rows_of_the_real_files_come_back_from_tfds(name, data_dir, tmp_path):
    check_same_rows(builtin_tasks()[name], ("dev", "test"), data_dir, tmp_path)


@pytest.mark.parametrize(
    ("name", "tfds_name", "names"),
    [
        ("snli", "snli", ("entailment", "neutral", "contradiction")),
        ("scitail", "sci_tail", ("entails", "neutral")),
    ],
)
def test_real_pairs_without_uids_come_back_from_tfds_in_order(
    name, tfds_name, names, data_dir, tmp_path
):
    """SNLI and SciTail, with rows that have no label as TFDS marks them."""
    task = builtin_tasks()[name]
    rows = read_split(task, "dev", data_dir)
    columns = {
        builtin_tasks("tfds")[name].splits["dev"].column_of(field): texts[:500]
        for field, texts in rows.texts.items()
    }
    examples = [
        {**dict(zip(columns, texts, strict=True)), "label": task.labels[int(label)]}
        for *texts, label in zip(*columns.values(), rows.labels, strict=False)
    ]
    unlabelled = range(0, 500, 7) if name == "snli" else ()
    for number in unlabelled:
        examples[number]["label"] = -1
    features = {**dict.fromkeys(columns, TEXT), "label": classes(*names)}
    version = str(tfds.builder(tfds_name, data_dir=tmp_path).info.version)
    prepare(
        tmp_path, tfds_name, features, {"validation": examples}, version, disable_shuffling=True
    )
    found = from_tfds(name, "dev", tmp_path)
    kept = [number for number in range(500) if number not in unlabelled]
    assert found.uids == list(map(str, kept))
    assert found.labels.tolist() == [rows.labels[number] for number in kept]
    for field, texts in found.texts.items():
        assert texts == [rows.texts[field][number] for number in kept]
    assert len(set(found.labels.tolist())) == len(task.labels)


def test_the_class_numbers_of_tfds_are_other_than_ours():
    features = tfds.builder("glue/rte", data_dir="nowhere").info.features
    assert features["label"].names == ["entailment", "not_entailment"]
    assert builtin_tasks()["rte"].labels == ("not_entailment", "entailment")


def test_names_prepared_in_another_order_than_the_code_has_are_the_ones_that_count(tmp_path):
    swapped = {"sentence": TEXT, "idx": np.int32, "label": classes("acceptable", "unacceptable")}
    rows = [
        {"sentence": "Good.", "idx": 0, "label": "acceptable"},
        {"sentence": "Bad the.", "idx": 1, "label": "unacceptable"},
    ]
    prepare(tmp_path, "glue/cola", swapped, {"validation": rows}, "2.0.0")
    assert by_uid(from_tfds("cola", "dev", tmp_path)) == {"0": ("Good.", 1), "1": ("Bad the.", 0)}


def test_anli_is_three_data_sets_in_a_row_and_wic_a_template(tmp_path):
    features = {"uid": TEXT, "context": TEXT, "hypothesis": TEXT, "label": classes("e", "n", "c")}
    for number in (1, 2, 3):
        rows = [{"uid": f"u{number}", "context": "C.", "hypothesis": "H.", "label": number - 1}]
        splits = {"train": rows, "validation": rows}
        prepare(tmp_path, f"anli/r{number}", features, splits, "0.1.0")
    rows = from_tfds("anli", "train", tmp_path)
    assert (rows.uids, rows.labels.tolist()) == (["u1", "u2", "u3"], [2, 1, 0])
    assert from_tfds("anli", "dev_r2", tmp_path).uids == ["u2"]
    features = dict.fromkeys(("word", "sentence1", "sentence2"), TEXT)
    features |= {"idx": np.int32, "label": classes("False", "True")}
    rows = [{"word": "w", "sentence1": "A.", "sentence2": "B.", "idx": 4, "label": "True"}]
    prepare(tmp_path, "super_glue/wic", features, {"validation": rows}, "1.0.2")
    assert by_uid(from_tfds("wic", "dev", tmp_path)) == {"4": ("w: A.", "w: B.", 1)}


def test_snli_has_no_uid_in_tfds_and_leaves_out_rows_without_a_label(tmp_path):
    features = {
        "premise": TEXT,
        "hypothesis": TEXT,
        "label": classes("entailment", "neutral", "contradiction"),
    }
    labels = ["entailment", -1, "contradiction", -1]
    rows = [{"premise": "P.", "hypothesis": f"H{i}.", "label": n} for i, n in enumerate(labels)]
    prepare(tmp_path, "snli", features, {"test": rows}, "1.1.0", disable_shuffling=True)
    rows = from_tfds("snli", "test", tmp_path)
    assert by_uid(rows) == {"0": ("P.", "H0.", 2), "2": ("P.", "H2.", 0)}
    assert rows.remark == "2 of 4 rows are labelled '-1' and left out"


# --- rows without a label, bad rows ---


def test_a_row_without_a_label_in_a_labelled_split_is_a_bad_row(moods_dir):
    text = error_of(own_task(), "dev", moods_dir)
    assert text.startswith(
        "TFDS moods, split test, row 5: label '-1', expected 'no' or 'yes'; skip_"
    )
    rows = read_split(own_task(), "dev", moods_dir, "skip", tfds_dir=moods_dir)
    assert (len(rows), rows.skipped) == (7, 3)
    rows = read_split(own_task(skip_labels=[-1]), "dev", moods_dir, tfds_dir=moods_dir)
    assert (len(rows), rows.skipped) == (7, 0)
    assert rows.uids == ["0", "1", "2", "3", "4", "6", "8"]
    assert rows.labels.tolist() == [1, 0, 1, 0, 1, 1, 1]


def test_empty_texts_and_bytes_that_are_not_utf8_are_bad_rows(tmp_path):
    rows = [{"text": "Fine.", "label": 1}, {"text": " ", "label": 0}, {"text": b"\xff", "label": 0}]
    features = {"text": TEXT, "label": classes("no", "yes")}
    prepare(tmp_path, "moods", features, {"test": rows}, disable_shuffling=True)
    assert error_of(own_task(), "dev", tmp_path).endswith("row 1: text is empty, expected text")
    rows = read_split(own_task(), "dev", tmp_path, "skip", tfds_dir=tmp_path)
    assert (rows.texts, rows.skipped) == ({"text": ["Fine."]}, 2)


def test_labels_can_be_texts_or_numbers_without_names(tmp_path):
    features = {"text": TEXT, "word": TEXT, "number": np.int8, "flag": np.float32}
    rows = [{"text": "A.", "word": "yes", "number": 1, "flag": 1.0}]
    prepare(tmp_path, "moods", features, {"test": rows})
    task = own_task(columns={"label": "word"})
    assert read_split(task, "dev", tmp_path, tfds_dir=tmp_path).labels.tolist() == [1]
    task = own_task(columns={"label": "number"})
    assert "label '1', expected 'no' or 'yes'; map" in error_of(task, "dev", tmp_path)
    task = task.model_copy(update={"label_values": {"1": "yes"}})
    assert read_split(task, "dev", tmp_path, tfds_dir=tmp_path).labels.tolist() == [1]


# --- order, parts of splits, the key of a store ---


def test_rows_keep_the_order_of_the_shards_and_a_part_of_a_split_can_be_read(tmp_path):
    rows = [{"text": f"text {i}", "label": 0} for i in range(90)]
    prepare(
        tmp_path,
        "moods",
        {"text": TEXT, "label": classes("no", "yes")},
        {"test": rows},
        disable_shuffling=True,
        download_config=tfds.download.DownloadConfig(num_shards=3),
    )
    assert len(list(tmp_path.rglob("*tfrecord*"))) == 3
    found = read_split(own_task(), "dev", tmp_path, tfds_dir=tmp_path)
    assert found.texts["text"] == [f"text {i}" for i in range(90)]
    task = own_task(split="test[:10%]+test[88:]")
    texts = read_split(task, "dev", tmp_path, tfds_dir=tmp_path).texts["text"]
    assert texts == [f"text {i}" for i in (*range(9), 88, 89)]


def test_a_store_is_made_anew_where_the_data_or_the_part_of_the_split_changed(tmp_path):
    features = {"text": TEXT, "label": classes("no", "yes")}

    def key(task, folder="tfds"):
        tokenizer = BertTokenizer(VOCAB, max_length=16)
        cache = tmp_path / "cache"
        return open_store(task, "dev", tmp_path, tokenizer, cache, tfds_dir=tmp_path / folder).key

    rows = [{"text": "the hat is warm .", "label": 0}, {"text": "the boat is sad .", "label": 1}]
    prepare(tmp_path / "tfds", "moods", features, {"test": rows})
    keys = [key(own_task()), key(own_task(split="test[:1]"))]
    assert key(own_task()) == keys[0]
    shutil.move(tmp_path / "tfds", tmp_path / "moved")
    assert key(own_task(), "moved") == keys[0]
    rows[0]["text"] = "the hat is cold ."
    prepare(tmp_path / "tfds", "moods", features, {"test": rows})
    keys.append(key(own_task()))
    shutil.rmtree(tmp_path / "tfds")
    prepare(tmp_path / "tfds", "moods", {**features, "label": classes("yes", "no")}, {"test": rows})
    keys.append(key(own_task()))
    assert len(set(keys)) == len(keys)


def test_an_optional_split_that_was_not_prepared_is_left_out(tmp_path):
    row = {"premise": "P.", "hypothesis": "H.", "label": 0, "idx": 0}
    prepare_glue(tmp_path, "mnli", {"validation_matched": [row]})
    mnli = builtin_tasks("tfds")["mnli"]
    assert available_splits(mnli, "dev", tmp_path, tmp_path) == ("dev_matched",)


# --- what does not work is one line, and soon ---


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"split": "tset"}, "TFDS moods, split tset: it has no split 'tset'; did you mean 'test'?"),
        ({"split": "test[:3]+dev"}, "it has no split 'dev'; known: test, train"),
        ({"split": "test[oops"}, "split test[oops: "),
        (
            {"tfds": "mods"},
            "TFDS mods, split test: TFDS knows no such data set, and none is prepared in /",
        ),
        ({"tfds": "glue/colla"}, "it has no config 'colla'; did you mean 'cola'?"),
        (
            {"tfds": "glue/cola:9.9.9"},
            "Dataset glue cannot be loaded at version 9.9.9, only: 2.0.0",
        ),
        ({"tfds": "mods:1.0.0"}, "; did you mean 'moods'"),
        ({"columns": {"text": "txt"}}, "it has no feature 'txt' for text; did you mean 'text'?"),
        (
            {"columns": {"uid": "idx"}},
            "it has no feature 'idx' for uid; known: label, many, n, text",
        ),
        ({"columns": {"text": "n"}}, "its feature 'n' for text is "),
        ({"columns": {"label": "many"}}, "its feature 'many' for label is "),
    ],
)
def test_a_wrong_name_is_told_with_near_names(moods_dir, no_network, split, message):
    text = error_of(own_task(**split), "dev", moods_dir)
    assert text.startswith("task 'own', split 'dev': TFDS ")
    assert message in text


def test_a_damaged_file_is_one_line(moods_dir, tmp_path):
    shutil.copytree(moods_dir, tmp_path / "tfds")
    (file,) = (tmp_path / "tfds").rglob("*test.tfrecord*")
    file.write_bytes(file.read_bytes()[:-7])
    assert "cannot read it" in error_of(own_task(skip_labels=[-1]), "dev", tmp_path / "tfds")
    file.unlink()
    assert "cannot read it" in error_of(own_task(), "dev", tmp_path / "tfds")


def test_without_a_network_the_error_names_the_offline_ways_at_once(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    start = time.monotonic()
    text = error_of(builtin_tasks("tfds")["cola"], "dev", tmp_path / "tfds")
    assert time.monotonic() - start < 20
    assert f"it is not prepared in {tmp_path}/tfds/glue/cola/2.0.0" in text
    assert "its servers cannot be reached (" in text
    assert "no route" in text
    assert "data.tfds_dir" in text
    assert "--data_dir" in text
    assert not (tmp_path / "tfds").exists()


def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("Checksum differs.\nMore text.")

    answers = urllib.error.HTTPError("http://x", 404, "not found", {}, None)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: (_ for _ in ()).throw(answers))
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    text = error_of(builtin_tasks("tfds")["rte"], "dev", tmp_path)
    assert "preparing it failed: Checksum differs.; without a network" in text


def test_a_prepared_folder_is_read_without_looking_for_a_server(moods_dir, no_network):
    assert len(read_split(own_task(split="train"), "dev", moods_dir, tfds_dir=moods_dir)) == 30


@pytest.mark.parametrize("name", builtin_tasks("tfds"))
def test_the_built_in_tasks_name_features_that_tfds_has(name, tmp_path, no_network, monkeypatch):
    monkeypatch.setattr("mtdnn_tf.data.tfds_source._unreachable", lambda urls: "")
    task = builtin_tasks("tfds")[name]
    with tfds.testing.mock_data(num_examples=3):
        for split, spec in task.splits.items():
            features = tfds.builder(spec.tfds_names[0]).info.features
            assert spec.column_of("uid") in (None, *features)
            columns = {**spec.columns, "uid": None}  # Made-up numbers may repeat,
            if not spec.has_labels or not task.kind.has_classes:
                columns["label"] = None  # and made-up scores are out of range.
            changed = spec.model_copy(update={"columns": columns})
            made_up = task.model_copy(update={"splits": {split: changed}})
            assert len(read_split(made_up, split, tmp_path)) == 3 * len(spec.tfds_names)


# --- settings ---


def test_one_setting_reads_all_built_in_tasks_from_tfds_and_a_task_may_differ():
    tree = {
        "tasks": {"cola": None, "rte": {"source": "files"}, "sst2": {"splits": {"test": None}}},
        "data": {"source": "tfds"},
    }
    tasks = build_experiment(tree, "x.yaml").tasks
    assert tasks["cola"].splits["dev"].tfds == "glue/cola"
    assert tasks["cola"].splits["dev"].split == "validation"
    assert tasks["rte"].splits["dev"].file == "RTE/dev.tsv"
    assert list(tasks["sst2"].splits) == ["train", "dev"]
    assert build_experiment({"tasks": ["cola"]}, "x").tasks["cola"].splits["dev"].tfds is None
    with pytest.raises(
        UserError, match=r"^x: data.source: should be 'files' or 'tfds', not 'tfsd'"
    ):
        build_experiment({"tasks": ["cola"], "data": {"source": "tfsd"}}, "x")


def test_an_override_changes_a_split_of_the_same_source_and_replaces_one_of_the_other():
    part = {"splits": {"train": {"split": "train[:1%]"}}}
    assert resolve_task("snli", {"source": "tfds", **part}).splits["train"].columns == {
        "sentence1": "premise",
        "sentence2": "hypothesis",
    }
    other = {"tfds": "glue/sst2", "split": "validation"}
    split = resolve_task("cola", {"splits": {"dev": other}}).splits["dev"]
    assert (split.file, split.columns, split.header) == (None, {}, True)


# --- the whole system ---


@pytest.mark.long
def test_training_on_a_prepared_folder_is_training_on_the_files(tmp_path):
    path = write_experiment(tmp_path, training={"epochs": 1})
    tree = yaml.safe_load(path.read_text())
    task = tree["tasks"]["mood"]
    tree["tasks"] = {"mood": task}
    path.write_text(yaml.safe_dump(tree))
    flags = ["train", f"--config={path}"]
    done = run(*flags, f"--workdir={tmp_path / 'files'}")
    assert done.returncode == 0, done.stderr

    splits = {}
    for split in ("train", "dev"):
        _, *lines = (tmp_path / f"data/mood_{split}.tsv").read_text().splitlines()
        cells = [line.split("\t") for line in lines]
        label_names = task["label_values"]
        splits[split] = [{"text": text, "label": label_names[value]} for text, value in cells]
        columns = {"sentence": "text"}
        task["splits"][split] = {"tfds": "moods:1.2.0", "split": split, "columns": columns}
    features = {"text": TEXT, "label": classes("good", "bad")}
    prepare(tmp_path / "tfds", "moods", features, splits, "1.2.0", disable_shuffling=True)
    path.write_text(yaml.safe_dump(tree))
    folder = f"--set=data.tfds_dir={tmp_path / 'tfds'}"
    done = run(*flags, folder, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr

    def dev_metrics(name):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        return [record["metrics"] for record in records if record["kind"] == "dev"]

    assert dev_metrics("run") == dev_metrics("files") != []
    shutil.move(tmp_path / "tfds", tmp_path / "moved")
    evaluate = ["evaluate", f"--workdir={tmp_path / 'run'}"]
    lost = run(*evaluate)
    assert lost.returncode == 1
    assert "TFDS knows no such data set" in error_line(lost)
    found = run(*evaluate, f"--tfds_dir={tmp_path / 'moved'}", f"--output={tmp_path / 'm.json'}")
    assert found.returncode == 0, found.stderr
    assert json.loads((tmp_path / "m.json").read_text())["metrics"] == dev_metrics("run")[0]


def test_a_data_set_that_cannot_be_had_ends_training_with_one_line(tmp_path):
    path = write_experiment(tmp_path)
    tree = yaml.safe_load(path.read_text())
    tree["tasks"] = {"cola": {"source": "tfds"}}
    path.write_text(yaml.safe_dump(tree))
    env = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    folder = f"--set=data.tfds_dir={tmp_path / 'tfds'}"
    done = run("train", f"--config={path}", f"--workdir={tmp_path / 'run'}", folder, env=env)
    assert done.returncode == 1
    message = error_line(done)
    assert message.startswith(
        "error: task 'cola', split 'train': TFDS glue/cola, split train: it is"
    )
    assert "its servers cannot be reached" in message
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
