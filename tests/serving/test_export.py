"""The exported model: loaded as the model server loads it, it answers as the model in memory."""

import contextlib
import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
from functools import cache
from itertools import product
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
import yaml
from google.protobuf import text_format
from harness.runs import error_line, peak_of, run
from harness.tasks import add_answers, write_encoder, write_experiment
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

import mtdnn_tf
from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import encoder_of, padded_inputs
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.serving.config.messages import BatchingParameters
from mtdnn_tf.serving.config.server_config import batching_parameters
from mtdnn_tf.serving.export import saved_model
from mtdnn_tf.serving.export.model_card import model_card
from mtdnn_tf.serving.export.saved_model import export
from mtdnn_tf.serving.export.signatures import _strings, _traced, mixed_answers, without_padding
from mtdnn_tf.serving.export.warmup import WARMUP_FILE
from mtdnn_tf.serving.json_tensor import read_request
from mtdnn_tf.serving.local import servable
from mtdnn_tf.serving.local.servable import Servable, read_tensor
from mtdnn_tf.serving.status import ServingError
from mtdnn_tf.serving.versions import versions
from mtdnn_tf.tasks.names import check_fields
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer

TEXTS = (
    "The lamp is bright.",
    "",
    "Überraschend schöne Gärten, naïve cafés – ½ Straße!",
    "東京の庭は明るい。",
    "A 👩‍👩‍👧 in the garden 🎉",
    "so " * 10_000,
    "[SEP] is not a separator [CLS]",
    "a\u200bb \x00\x07 c\u00ad d",
)
PAIRS = tuple(zip(TEXTS, TEXTS[3:] + TEXTS[:3], strict=True))


@pytest.fixture(scope="module")
def workdir(minilm_dir, tmp_path_factory):
    """A run with a task of every kind, and one that is predicted with another's head."""
    folder = tmp_path_factory.mktemp("export")
    path = write_experiment(
        folder, batch={"rows": 4, "length": 96}, training={"epochs": 1, "learning_rate": 0.01}
    )
    vocab = BertTokenizer.from_file(minilm_dir / "vocab.txt").vocab
    write_encoder(folder / "encoder", vocab=vocab, unused=6)
    (folder / "encoder" / "LICENSE.txt").write_text("Do what you like.")
    add_answers(path)
    tree = yaml.safe_load(path.read_text())
    tree["tasks"]["read"] = tree["tasks"]["same"] | {
        "head": "san",
        "labels": ["no", "yes", "so"],
        "metrics": ["accuracy"],
    }
    tree["tasks"]["check"] = {
        "kind": "pair_classification",
        "fields": ["one", "other"],
        "predict_with": "same",
        "splits": {},
    }
    path.write_text(yaml.safe_dump(tree))
    done = run("train", f"--config={path}", f"--workdir={folder / 'run'}")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def exporting(workdir, tmp_path_factory):
    """The command that exports, and the folder of the model's versions."""
    folder = tmp_path_factory.mktemp("saved_models") / "tiny"
    done = run("export", f"--workdir={workdir}", f"--export_dir={folder}", "--version=1")
    assert done.returncode == 0, done.stderr
    return done, folder


@pytest.fixture(scope="module")
def exported(exporting):
    return exporting[1] / "1"


@pytest.fixture(scope="module")
def loaded(workdir):
    return mtdnn_tf.load(workdir)


@pytest.fixture(scope="module")
def server(exported):
    return Servable(exported)


def ask(server, signature, **inputs):
    kinds = {
        key: tf.as_dtype(info.dtype) for key, info in server.signatures[signature].inputs.items()
    }
    return server.run(
        signature,
        {key: np.array(value, kinds[key].as_numpy_dtype) for key, value in inputs.items()},
    )


def examples_of(task, count=None):
    return list(TEXTS[:count] if len(task.fields) == 1 else PAIRS[:count])


def columns_of(task, examples):
    rows = [(example,) if isinstance(example, str) else example for example in examples]
    return {name: [row[i].encode() for row in rows] for i, name in enumerate(task.fields)}


def assert_answers(found, predictions, prefix=""):
    """The answers of a signature are those that `predict` gives."""
    found = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
    if predictions[0].label is None:
        scores = [prediction.score for prediction in predictions]
        np.testing.assert_allclose(found["score"], scores, atol=1e-5)
        return
    classes = len(predictions[0].probabilities)
    chances = [list(prediction.probabilities.values()) for prediction in predictions]
    np.testing.assert_allclose(found["probabilities"][:, :classes], chances, atol=1e-5)
    names = [list(prediction.probabilities) for prediction in predictions]
    assert found["labels"][:, :classes].astype("U").tolist() == names
    assert found["label"].astype("U").tolist() == [p.label for p in predictions]
    assert [row[i] for row, i in zip(names, found["class_id"], strict=True)] == [
        prediction.label for prediction in predictions
    ]


TASKS = ("mood", "same", "near", "answers", "read", "check")


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("size", [1, 3, len(TEXTS)])
def test_a_tasks_signature_answers_as_the_model_in_memory(name, size, server, loaded):
    task = loaded.tasks[name]
    examples = examples_of(task, size)
    found = ask(server, name, **columns_of(task, examples))
    assert_answers(found, loaded.predict(name, examples))


@pytest.mark.parametrize("name", TASKS)
def test_token_ids_give_the_same_whatever_stands_in_the_padding(name, server, loaded):
    task = loaded.tasks[name]
    examples = examples_of(task)
    columns = columns_of(task, examples).values()
    ids, *_ = loaded.tokenizer.encode(*(list(column) for column in columns))
    predictions = loaded.predict(name, examples)
    for padding in (0, loaded.tokenizer.cls_id):  # A batching server pads with the first element.
        padded = ids.to_tensor(default_value=padding).numpy()
        assert_answers(ask(server, f"{name}_tokens", token_ids=padded), predictions)


def test_rows_of_all_tasks_are_answered_in_one_batch(server, loaded):
    rows = [(name, e) for name in TASKS for e in examples_of(loaded.tasks[name])]
    random.Random(0).shuffle(rows)
    pairs = [(e, "not looked at") if isinstance(e, str) else e for _, e in rows]
    found = ask(
        server,
        "serving_default",
        task=[name for name, _ in rows],
        sentence1=[a.encode() for a, _ in pairs],
        sentence2=[b.encode() for _, b in pairs],
    )
    for name in TASKS:
        here = [i for i, row in enumerate(rows) if row[0] == name]
        own = {key: value[here] for key, value in found.items()}
        predictions = loaded.predict(name, [rows[i][1] for i in here])
        assert_answers(own, predictions)
        if predictions[0].label is None:
            assert set(own["label"]) == {b""}
        else:
            np.testing.assert_allclose(own["score"], own["probabilities"].max(axis=1))


@pytest.mark.parametrize(("signature", "count"), [("all_single", 1), ("all_pair", 2)])
def test_every_fitting_task_answers_for_the_same_texts(signature, count, server, loaded):
    texts = list(TEXTS) if count == 1 else list(PAIRS)
    columns = [texts] if count == 1 else zip(*texts, strict=True)
    inputs = {
        f"sentence{i}": [text.encode() for text in column] for i, column in enumerate(columns, 1)
    }
    found = ask(server, signature, **inputs)
    asked = [t.name for t in loaded.experiment.heads if len(t.fields) == count]
    assert {key.split("_")[0] for key in found} == set(asked)
    for name in asked:
        assert_answers(found, loaded.predict(name, texts), f"{name}_")


def test_rows_of_tasks_without_labels_have_a_score_alone(loaded):
    heads = [loaded.tasks["near"], loaded.tasks["answers"]]
    logits = {"near": tf.constant([[1.0], [2.0]]), "answers": tf.constant([[3.0], [4.0]])}
    for chosen in (heads, heads[1:]):
        found = mixed_answers(chosen, logits, tf.constant([0, len(chosen) - 1], tf.int64))
        assert set(found) == {"score"}
        assert found["score"].numpy().tolist() == [1.0 if len(chosen) == 2 else 3.0, 4.0]


def test_vectors_are_those_of_the_encoder(server, loaded):
    found = ask(server, "encode", sentence1=[text.encode() for text in TEXTS])
    ids = loaded.tokenizer.encode(list(TEXTS))[0]
    encoded = encoder_of(loaded.model)(padded_inputs(ids.to_tensor().numpy()), training=False)
    sequence = encoded["sequence"].numpy()
    np.testing.assert_allclose(found["cls"], sequence[:, 0], atol=1e-5)
    np.testing.assert_allclose(found["pooled"], encoded["examples"], atol=1e-5)
    for row, length in enumerate(ids.row_lengths().numpy()):
        np.testing.assert_allclose(found["mean"][row], sequence[row, :length].mean(0), atol=1e-5)


def rows_of(signature, loaded, count):
    """Inputs of any signature, `count` rows of texts of all kinds."""
    chosen = [n % len(TEXTS) for n in range(count)]
    if signature == "serving_default":
        names = [(*TASKS,)[n % len(TASKS)] for n in range(count)]
        return {
            "task": [name.encode() for name in names],
            "sentence1": [PAIRS[n][0].encode() for n in chosen],
            "sentence2": [PAIRS[n][1].encode() for n in chosen],
        }
    if signature in ("all_single", "all_pair", "encode"):
        fields = ("sentence1", "sentence2") if signature == "all_pair" else ("sentence1",)
        return {name: [PAIRS[n][i].encode() for n in chosen] for i, name in enumerate(fields)}
    task = loaded.tasks[signature.removesuffix("_tokens")]
    examples = [examples_of(task)[n] for n in chosen]
    columns = columns_of(task, examples)
    if not signature.endswith("_tokens"):
        return columns
    return {
        "token_ids": loaded.tokenizer.encode(*map(list, columns.values()))[0].to_tensor().numpy()
    }


def test_a_row_is_answered_alike_alone_and_among_any_number_of_others(server, loaded):
    """Less than eight rows, and eight and more, are attended to in other ways."""
    for name in server.signatures:
        whole = rows_of(name, loaded, 9)
        expected = ask(server, name, **whole)
        for start, count in ((0, 1), (4, 1), (8, 1), (2, 7), (1, 8)):
            found = ask(server, name, **{k: v[start : start + count] for k, v in whole.items()})
            for key, value in found.items():
                among = expected[key][start : start + count]
                if value.dtype.kind == "f":
                    np.testing.assert_allclose(value, among, atol=1e-5, err_msg=f"{name} {key}")
                else:
                    assert value.tolist() == among.tolist()


def test_a_batch_of_nothing_has_no_answers(server):
    for name, signature in server.signatures.items():
        inputs = {
            key: np.zeros(
                [0] * len(tensor.tensor_shape.dim), tf.as_dtype(tensor.dtype).as_numpy_dtype
            )
            for key, tensor in signature.inputs.items()
        }
        assert {len(value) for value in ask(server, name, **inputs).values()} == {0}


def test_the_batch_is_dimension_0_everywhere(server):
    for name, signature in server.signatures.items():
        for tensor in (*signature.inputs.values(), *signature.outputs.values()):
            assert tensor.tensor_shape.dim[0].size == -1, (name, tensor)


def test_requests_that_cannot_be_answered_are_told_and_the_next_one_is_answered(server, loaded):
    with pytest.raises(ServingError, match="task: expected one of answers, check, "):
        ask(server, "serving_default", task=["mod"], sentence1=["a"], sentence2=[""])
    with pytest.raises(ServingError, match=r"expected \[SEP\], id 102, in each"):
        ask(server, "mood_tokens", token_ids=[[101, 7, 102], [101, 7, 7]])
    unused = loaded.tokenizer.vocab_size  # The first row of the table that no piece has.
    for ids in ([101, -1, 102], [101, unused, 102], [101, 10**6, 102]):
        with pytest.raises(ServingError, match="token_ids: expected ids of the vocabulary"):
            ask(server, "mood_tokens", token_ids=[ids])
    for columns in ((1, 3, 3), (3, 1, 3), (3, 3, 1)):
        texts = (["mood"], ["a"], [""])
        inputs = [value * count for value, count in zip(texts, columns, strict=True)]
        with pytest.raises(ServingError, match="expected as many of each"):
            ask(server, "serving_default", task=inputs[0], sentence1=inputs[1], sentence2=inputs[2])
    with pytest.raises(ServingError, match="expected 64 tokens a row at most"):
        ask(server, "mood_tokens", token_ids=[[101, *[7] * 70, 102]])
    assert ask(server, "mood", sentence=["a"])["label"].shape == (1,)


@given(
    st.lists(st.lists(st.integers(0, 4), max_size=6), min_size=1, max_size=5),
    st.integers(0, 9),
)
def test_rows_end_with_their_last_separator(rows, padding):
    rows = [[1, *row, 9] for row in rows]
    padding = 0 if padding == 9 else padding
    longest = max(map(len, rows))
    padded = [[*row, *[padding] * (longest - len(row))] for row in rows]
    ids, types = without_padding(tf.constant(padded, tf.int32), 9, 99)
    assert ids.to_list() == rows
    assert types.to_list() == [[0] * len(row) for row in rows]


def test_the_weights_are_stored_once(exported, loaded):
    parameters = 4 * sum(int(np.prod(weight.shape)) for weight in loaded.model.weights)
    assert stored(exported) == pytest.approx(parameters, rel=0.01)


def test_the_functions_share_what_splits_texts(exported):
    """It is saved for one text, for two, and for rows of both; not for each function again."""
    saved = SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for of in graph.library.function for node in of.node_def)]
    splitting = [node for node in nodes if "FastWordpiece" in node.op]
    assert len(splitting) == 1 + 2 + 2


def test_a_warm_up_file_that_is_cut_off_is_told(exported, server, tmp_path):
    path = tmp_path / WARMUP_FILE
    path.parent.mkdir()
    path.write_bytes((exported / WARMUP_FILE).read_bytes()[:-5])
    with pytest.raises(UserError, match=f"cannot warm up with {path}: "):
        server.warm_up(tmp_path)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"no message")
    with pytest.raises(UserError, match=f"cannot warm up with {path}: "):
        server.warm_up(tmp_path)


@pytest.mark.parametrize(
    ("dtype", "shape", "values"),
    [("string", [2**31], {"string_val": [b"a"]}), ("int32", [2**31], {"int_val": [1]}),
     ("string", [2], {"string_val": [b"a", b"b", b"c"]}), ("int32", [3], {"tensor_content": b"1"}),
     ("resource", [1], {}), ("variant", [], {})],
)  # fmt: skip
def test_a_tensor_without_the_values_it_says_it_has_is_refused(dtype, shape, values):
    proto = tf.TensorShape(shape).as_proto()
    tensor = TensorProto(dtype=tf.as_dtype(dtype).as_datatype_enum, tensor_shape=proto, **values)
    with pytest.raises(ServingError, match="x: ") as caught:
        read_tensor("x", tensor)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


REQUEST_BYTES, TIMES = 60_000, 300  # A short text comes to some tokens, one of these to vectors.


@pytest.mark.parametrize(
    ("signature", "instances"),
    [
        ("mood", ["a"] * (REQUEST_BYTES // 5)),
        ("mood", ["a"] * (REQUEST_BYTES // 6) + ["so " * (REQUEST_BYTES // 18)]),
        ("read", [{"a": "", "b": ""}] * (REQUEST_BYTES // 20)),
        ("mood_tokens", [[102]] * (REQUEST_BYTES // 7)),
        ("mood_tokens", [[102] * (REQUEST_BYTES // 5)]),
        ("mood_tokens", [[]] * (REQUEST_BYTES // 4)),
    ],
)
def test_a_request_takes_memory_by_its_own_size(signature, instances, server):
    body = json.dumps({"signature_name": signature, "instances": instances}).encode()

    def answer():
        with contextlib.suppress(ServingError):
            name, inputs, _ = read_request(body, lambda name: server.signatures[name].inputs)
            server.run(name, inputs)

    server.run("encode", {"sentence1": np.array([b"a"], object)})
    assert peak_of(answer) < TIMES * len(body)


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ([200_000_000], [1]),
        ([1000, 200_000], [1] * 200_000),
        ([0, 200_000_000], []),
        ([0, 2**40], []),
    ],
)
def test_a_tensor_takes_memory_by_its_own_size(shape, values, server):
    proto = tf.TensorShape(shape).as_proto()
    tensor = TensorProto(dtype=tf.int32.as_datatype_enum, tensor_shape=proto, int_val=values)

    def answer():
        with contextlib.suppress(ServingError):
            server.run("mood_tokens", {"token_ids": read_tensor("token_ids", tensor)})

    assert peak_of(answer) < 60 << 20


def test_rows_that_are_run_apart_are_answered_as_together(server, monkeypatch):
    inputs = {"sentence1": np.array([text.encode() for text in TEXTS * 3], object)}
    together = server.run("all_single", inputs)
    monkeypatch.setattr(servable, "MOST_ROWS", 7)
    apart = server.run("all_single", inputs)
    assert apart.keys() == together.keys()
    for name, values in together.items():
        np.testing.assert_array_equal(apart[name].shape, values.shape)
        if values.dtype == object:
            np.testing.assert_array_equal(apart[name], values)
        else:
            np.testing.assert_allclose(apart[name], values, atol=1e-5)


@pytest.fixture(scope="module")
def variants(workdir, tmp_path_factory):
    """The same run exported otherwise, by the flags."""
    folder = tmp_path_factory.mktemp("variants") / "tiny"
    flags = {
        "frozen": ["--freeze"],
        "bfloat16": ["--precision=bfloat16"],
        "bfloat16, frozen": ["--precision=bfloat16", "--freeze"],
        "int8": ["--precision=int8"],
    }
    for how in flags.values():
        done = run("export", f"--workdir={workdir}", f"--export_dir={folder}", *how)
        assert done.returncode == 0, done.stderr
    return {name: folder / str(number) for number, name in enumerate(flags, start=1)}


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("frozen", 1e-5), ("bfloat16", 0.03), ("bfloat16, frozen", 0.03), ("int8", 0.05)],
)
def test_a_variant_gives_the_numbers_of_the_model(name, tolerance, variants, server, loaded):
    variant = Servable(variants[name])
    for task, count in product(loaded.tasks.values(), (1, 7, 8)):
        inputs = columns_of(task, examples_of(task, count))
        found, expected = (ask(model, task.name, **inputs) for model in (variant, server))
        assert found.keys() == expected.keys()
        for key in {"probabilities", "score"} & found.keys():
            # A score has no bounds: its error is relative to what the scores reach.
            scale = max(1, np.abs(expected[key]).max())
            np.testing.assert_allclose(found[key] / scale, expected[key] / scale, atol=tolerance)
    variant.close()


def stored(folder):
    return sum(path.stat().st_size for path in (folder / "variables").iterdir())


def tensor_bytes(folder):
    reader = tf.train.load_checkpoint(str(folder / "variables/variables"))
    types = reader.get_variable_to_dtype_map()
    return sum(
        int(np.prod(shape)) * types[name].size
        for name, shape in reader.get_variable_to_shape_map().items()
        if types[name] != tf.string
    )


@pytest.mark.long
def test_a_variant_is_as_small_as_it_says_and_constants_are_stored_once(variants, exported, loaded):
    encoder = encoder_of(loaded.model)
    of_encoder = 4 * sum(int(np.prod(weight.shape)) for weight in encoder.weights)
    tables = 4 * sum(int(np.prod(weight.shape)) for weight in encoder.embeddings.weights)
    whole = stored(exported)
    assert whole - stored(variants["bfloat16"]) == pytest.approx(of_encoder / 2, rel=0.02)
    kernels = sum(int(np.prod(w.shape)) for w in encoder.weights if w.path.endswith("kernel"))
    columns = sum(w.shape[1] for w in encoder.weights if w.path.endswith("kernel"))
    saved = tensor_bytes(variants["bfloat16"]) - tensor_bytes(variants["int8"])
    assert saved == kernels - 4 * columns  # A byte an entry less, a scale a column more.
    frozen = of_encoder - tables
    assert frozen <= whole - stored(variants["frozen"]) <= 2 * frozen  # With the variables' names.
    content = (variants["frozen"] / "saved_model.pb").read_bytes()
    for weight in encoder.weights:
        if weight.path.endswith("kernel"):
            assert content.count(weight.numpy().tobytes()) == 1  # Twenty signatures, one copy.


UNKNOWN_OPS = """
import sys
from functools import cache
from itertools import product
import tensorflow
from tensorflow.python.framework import op_def_registry
print(*[name for name in sys.argv[1:] if op_def_registry.get(name) is None])
"""


@pytest.mark.long
def test_ops_are_those_of_tensorflow_and_tensorflow_text_and_token_ids_need_no_text(exported):
    content = (exported / "saved_model.pb").read_bytes()
    graph = SavedModel.FromString(content).meta_graphs[0]
    functions = {f.signature.name: f.node_def for f in graph.graph_def.library.function}
    all_ops = {node.op for nodes in functions.values() for node in nodes}
    assert not [op for op in all_ops if "Xla" in op]
    for function in graph.graph_def.library.function:
        assert not function.attr["_XlaMustCompile"].b

    def ops_of(name):
        ops, seen, waiting = [], set(), [name]
        while waiting:
            function = waiting.pop()
            if function in seen:
                continue
            seen.add(function)
            for node in functions[function]:
                (waiting if node.op in functions else ops).append(node.op)
                for value in node.attr.values():
                    called = [value.func, *value.list.func]
                    waiting += [f.name for f in called if f.name]
        return set(ops)

    nodes = {node.name: node for node in graph.graph_def.node}
    by_signature = {}
    for name, signature in graph.signature_def.items():
        if not name.startswith("__"):
            output = next(iter(signature.outputs.values())).name.split(":")[0]
            by_signature[name] = ops_of(nodes[output].attr["f"].func.name)
    asked = sorted(set().union(*by_signature.values()))
    command = [sys.executable, "-c", UNKNOWN_OPS, *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    unknown = set(done.stdout.split())
    assert unknown == {"FastWordpieceTokenizeWithOffsets", "NormalizeUTF8"}  # tensorflow_text's.
    for name, ops in by_signature.items():
        assert not ops & unknown if name.endswith("_tokens") else ops & unknown, name


def test_every_record_of_the_warm_up_runs(exported, server):
    records = tf.data.TFRecordDataset(str(exported / WARMUP_FILE)).as_numpy_iterator()
    ran = []
    for record in records:
        request = PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "tiny"
        inputs = {key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()}
        found = ask(server, request.model_spec.signature_name, **inputs)
        ran.append((request.model_spec.signature_name, len(next(iter(found.values())))))
    names = list(server.signatures)
    assert sorted(ran) == sorted((name, size) for name in names for size in (1, 32))


def test_task_specs_labels_and_a_card_are_beside_the_model(workdir, exported, loaded):
    specs = json.loads((exported / "assets/tasks.json").read_text())
    assert specs == {name: task.model_dump(mode="json") for name, task in loaded.tasks.items()}
    labels = json.loads((exported / "assets/labels.json").read_text())
    assert labels["check"] == labels["same"] == list(loaded.tasks["same"].labels)
    card = (exported / "MODEL_CARD.md").read_text()
    assert "| `mood` | `sentence` | bad, good |" in card
    assert "| `check` | `one`, `other` | no, yes |" in card
    assert "| `near` | `a`, `b` | a score from 0 to 5 |" in card
    assert "/v1/models/tiny:predict" in card
    assert "| mood dev | 32 | accuracy |" in card
    assert "The encoder's is in `ENCODER_LICENSE.txt`." in card
    for name in ("model.safetensors", "vocab.txt", "config.json"):
        digest = hashlib.sha256((workdir.parent / "encoder" / name).read_bytes()).hexdigest()
        assert f"| `{name}` | `{digest}` |" in card
    assert (exported / "ENCODER_LICENSE.txt").read_text() == "Do what you like."


@pytest.mark.long
def test_saved_model_cli_shows_names_as_a_person_expects_them(exported):
    command = [
        Path(sys.executable).with_name("saved_model_cli"),
        "show",
        "--dir",
        exported,
        "--tag_set",
        "serve",
    ]
    printed = subprocess.run(
        [*command, "--tag_set", "serve", "--signature_def", "near"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = re.findall(r"(?:in|out)puts\['(\w+)'\]", printed)
    assert names == ["a", "b", "score"]
    assert printed.count("shape: (-1)") == 3


load_once = cache(mtdnn_tf.load)


@pytest.fixture
def quick_save(monkeypatch):
    """Writes a file in place of a model, and loads a run once: both take seconds."""

    def save(loaded, folder, name, **how):
        folder.mkdir()
        (folder / "saved_model.pb").write_text(name)

    monkeypatch.setattr(saved_model, "_save", save)
    monkeypatch.setattr(saved_model, "load", load_once)


def test_versions_follow_each_other_and_none_is_overwritten(workdir, tmp_path, quick_save):
    folder = tmp_path / "tiny"
    assert [export(workdir, folder).name for _ in range(2)] == ["1", "2"]
    assert export(workdir, folder, version=7) == folder / "7"
    assert export(workdir, folder) == folder / "8"
    with pytest.raises(UserError, match=r"tiny/7 is there already; choose another --version"):
        export(workdir, folder, version=7)
    assert versions(folder) == [1, 2, 7, 8]
    assert {path.name for path in folder.iterdir()} == {"1", "2", "7", "8"}


def test_8_bits_and_constants_do_not_go_together(workdir, tmp_path):
    with pytest.raises(UserError, match="--precision=int8 and --freeze: expected one of them"):
        export(workdir, tmp_path / "tiny", precision="int8", freeze=True)


def test_the_command_exports_and_tells_where(exporting, workdir):
    done, folder = exporting
    assert done.stdout.startswith(f"exported to {folder / '1'};")
    assert tf.io.gfile.exists(str(folder / "1/saved_model.pb"))
    again = run("export", f"--workdir={workdir}", f"--export_dir={folder}", "--version=1")
    assert again.returncode == 1
    assert error_line(again).startswith(f"error: {folder / '1'} is there already")


def test_a_half_written_model_is_never_a_version(workdir, tmp_path, quick_save, monkeypatch):
    seen = []
    write = saved_model._save

    def save(loaded, folder, name, **how):
        write(loaded, folder, name, **how)
        seen.extend(versions(folder.parent))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saved_model, "_save", save)
    with pytest.raises(UserError, match=r"cannot write in .*tiny: No space left on device"):
        export(workdir, tmp_path / "tiny")
    assert seen == []
    assert list((tmp_path / "tiny").iterdir()) == []


def test_a_run_without_a_checkpoint_and_a_folder_that_is_none_are_told(workdir, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(workdir, bare, ignore=shutil.ignore_patterns("best"))
    for folder, message in (
        (bare, f"no checkpoint in {bare}/checkpoints/best"),
        (tmp_path, "is not a run directory"),
    ):
        done = run("export", f"--workdir={folder}", f"--export_dir={tmp_path / 'models'}")
        assert done.returncode == 1
        assert message in error_line(done)
        assert not (tmp_path / "models").exists()


def test_the_card_has_the_figures_of_what_is_exported_alone(workdir, tmp_path, quick_save):
    best = export(workdir, tmp_path / "tiny", precision="bfloat16")
    last = export(workdir, tmp_path / "tiny", checkpoint="last")
    assert (
        "computed in float32; here\nit computes in bfloat16."
        in (best / "MODEL_CARD.md").read_text()
    )
    card = (last / "MODEL_CARD.md").read_text()
    assert "Not measured for this checkpoint" in card
    assert "| mood dev |" not in card


def test_the_card_is_of_the_weights_however_the_run_went_on(workdir, tmp_path, quick_save):
    run_copy = tmp_path / "run"
    shutil.copytree(workdir, run_copy)
    metrics = RunDirectory(run_copy).metrics
    (record,) = metrics.read("dev")
    better = {"mood": {"dev": {"accuracy": 0.999}}}
    metrics.append(record | {"step": 10**6, "epoch": 2, "mean": 1.0, "metrics": better})
    for of_before in (False, True):
        if of_before:
            next((run_copy / "checkpoints/best").glob("ckpt-*.json")).unlink()
        card = (export(run_copy, tmp_path / "tiny") / "MODEL_CARD.md").read_text()
        assert f"After epoch 1, step {record['step']}:" in card
        assert f"| accuracy | {100 * record['metrics']['mood']['dev']['accuracy']:.1f} |" in card
        assert "99.9" not in card
    metrics.path.unlink()
    card = (export(run_copy, tmp_path / "tiny") / "MODEL_CARD.md").read_text()
    assert "Not measured for this checkpoint: see `mtdnn-evaluate --checkpoint=best`" in card


@pytest.mark.parametrize("version", [None, 1])
def test_two_exports_at_once_take_two_versions(version, workdir, tmp_path, monkeypatch):
    """Of the same --version one is refused in a line."""
    folder = tmp_path / "tiny"

    def save(loaded, partial, name, **how):
        partial.mkdir()
        (folder / "1").mkdir()
        (folder / "1" / "saved_model.pb").touch()  # The other one was quicker.

    monkeypatch.setattr(saved_model, "_save", save)
    if version is None:
        assert export(workdir, folder) == folder / "2"
        assert "Version 2 of a model" in (folder / "2/MODEL_CARD.md").read_text()
    else:
        with pytest.raises(UserError, match="tiny/1 is there already; choose another --version"):
            export(workdir, folder, version)
        assert [p.name for p in (folder / "1").iterdir()] == ["saved_model.pb"]
    assert versions(folder) == ([1, 2] if version is None else [1])
    assert not list(folder.glob(".partial*"))


@pytest.mark.parametrize("name", ["a[1]", r"a\b", "a*", "a?"])
def test_a_folder_that_no_server_can_load_from_is_refused(name, workdir, tmp_path):
    (character,) = set(name) - set("a1]b")
    with pytest.raises(UserError, match="for a pattern") as caught:
        export(workdir, tmp_path / name / "tiny")
    assert f"takes '{character}' in a path" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_files_beside_the_model_say_what_it_is(workdir, tmp_path, quick_save):
    folder = export(workdir, tmp_path / "tiny", precision="int8")
    card = (folder / "MODEL_CARD.md").read_text()
    assert "here\nit computes in bfloat16, and its matrices but for the embeddings are" in card
    data = json.loads((workdir / "data.json").read_text())
    for split, of_split in data.items():
        counts = [of_split[key] for key in ("examples", "cut", "median_length", "longest")]
        assert f"| {split} | {' | '.join(map(str, counts))} | `{of_split['key']}` |" in card
    assert "`all_single` and `all_pair` (every fitting task" in card
    written = (folder / "batching_params.pbtxt").read_text()
    assert text_format.Parse(written, BatchingParameters()) == batching_parameters()


def test_a_card_names_the_signatures_that_there_are(workdir):
    model = mtdnn_tf.load(workdir)
    pairs = {n: task for n, task in model.experiment.tasks.items() if len(task.fields) == 2}
    model.experiment = model.experiment.model_copy(update={"tasks": pairs})
    card = model_card(RunDirectory(workdir), model, "tiny", 1, "best", "float32")
    assert "`all_pair` (every fitting task" in card
    assert "all_single" not in card


def test_a_field_keeps_its_name_in_the_exported_model(tmp_path):
    pairs = [("1a", "Text"), ("a/b", "a"), ("a.b", "a-c"), ("name", "inputs"), ("args", "match")]
    signatures = {}
    for number, fields in enumerate(pairs):
        check_fields(fields)
        function = _traced(lambda *texts: {"label": texts[0]}, _strings(*fields))
        signatures[f"task{number}"] = function
    tf.saved_model.save(tf.Module(), str(tmp_path), signatures=signatures)
    found = Servable(tmp_path).signatures
    for number, fields in enumerate(pairs):
        assert set(found[f"task{number}"].inputs) == set(fields)


def test_a_card_has_the_commit_of_the_hub_or_nothing_where_a_run_does_not_know(
    workdir, loaded, tmp_path
):
    run = shutil.copytree(workdir, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    directory = RunDirectory(run)

    def card():
        return model_card(directory, loaded, "tiny", 1, "best", "float32")

    source = json.loads(directory.source_file.read_text()) | {"commit": "0123abc"}
    directory.source_file.write_text(json.dumps(source))
    assert "whose encoder is of commit `0123abc` of the hub" in card()
    directory.source_file.unlink()  # As in a run of an older version.
    assert "of the hub" not in card()
    assert "| file of the encoder |" not in card()
