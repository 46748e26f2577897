"""Checkpoints of Google's, Model Garden's and ours: read, and written as Hugging Face's."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml
from harness.runs import error_line, run
from harness.tasks import SPECIALS, VOCAB, write_encoder, write_experiment
from safetensors.numpy import load_file, save_file

from mtdnn_tf import pretrained
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import load_experiment
from mtdnn_tf.modeling import BertEncoder, encoder_of, padded_inputs
from mtdnn_tf.recipes.conversion import convert
from mtdnn_tf.runs.loading import load
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer
from mtdnn_tf.training.initial_weights import find_start

SENTENCES = [
    ("the clock is very neat .", "a harsh road was ruined ."),
    ("Sunny door", "not a sour song ."),
    ("the lamp", "and the hat , the boat and the unknown tower are warm ."),
]
SIZES = {
    "vocab_size": len(VOCAB),
    "hidden_size": 12,
    "num_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
}
GOOGLE_KEYS = {"num_layers": "num_hidden_layers"}


def write_vocab(folder):
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n")


def inputs():
    """Token ids, type ids and mask `[3, longest]` of the sentences."""
    ids, types, *_ = BertTokenizer(VOCAB).encode(*map(list, zip(*SENTENCES, strict=True)))
    return ids.to_tensor().numpy(), types.to_tensor().numpy(), tf.ones_like(ids).to_tensor().numpy()


def read(folder):
    """The encoder of a folder and the report of reading it."""
    encoder = BertEncoder(pretrained.load_config(folder))
    return encoder, pretrained.load_encoder_weights(encoder, folder)


def hidden_states(encoder):
    """Vectors of the real tokens, and of the examples."""
    ids, types, mask = inputs()
    out = encoder(padded_inputs(ids, types, mask=mask))
    return out["sequence"].numpy()[mask == 1], out["examples"].numpy()


def hidden_states_of_transformers(folder):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, info = transformers.BertModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ids, types, mask = (torch.tensor(a, dtype=torch.long) for a in inputs())
    with torch.no_grad():
        out = model.eval()(input_ids=ids, token_type_ids=types, attention_mask=mask)
    return out.last_hidden_state.numpy()[inputs()[2] == 1], out.pooler_output.numpy()


def assert_close(found, expected, atol=1e-5):
    for ours, theirs in zip(found, expected, strict=True):
        assert np.std(theirs) > 0.1
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


# --- Google's TF1 layout ---


def google_name(name):
    """A tensor's name in Google's releases, from that in transformers."""
    name = re.sub(r"layer\.(\d+)", r"layer_\1", name)
    name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    )
    name = re.sub(r"(_embeddings)\.weight$", r"\1", name)
    return "bert/" + re.sub(r"\.weight$", ".kernel", name).replace(".", "/")


def save_tf1(values, path):
    """Writes arrays as TF1 does: variables of a graph, `Saver`."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [
            tf.compat.v1.get_variable(name, initializer=value, use_resource=False)
            for name, value in values.items()
        ]
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(session, str(path), write_state=False)


def google_tensors(hugging_face):
    """Google's variables with the weights of a Hugging Face folder, and what comes beside them."""
    tensors = {
        google_name(name): value.T
        if name.endswith("weight") and "_embeddings" not in name
        else value
        for name, value in load_file(hugging_face / "model.safetensors").items()
    }
    assert tensors["bert/encoder/layer_1/intermediate/dense/kernel"].shape == (16, 32)
    kernel = "bert/pooler/dense/kernel"
    return tensors | {
        f"{kernel}/adam_m": np.zeros_like(tensors[kernel]),
        f"{kernel}/adam_v": np.zeros_like(tensors[kernel]),
        "cls/predictions/output_bias": np.zeros(len(VOCAB), np.float32),
        "cls/seq_relationship/output_weights": np.zeros((2, 16), np.float32),
        "global_step": np.array(7, np.int64),
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A Hugging Face folder, and one of Google's with the same weights."""
    root = tmp_path_factory.mktemp("both")
    theirs, google = write_encoder(root / "hf", layers=2), root / "uncased_L-2_H-16_A-2"
    write_vocab(google)
    config = json.loads((theirs / "config.json").read_text())
    del config["model_type"], config["layer_norm_eps"]
    (google / "bert_config.json").write_text(json.dumps(config))
    save_tf1(google_tensors(theirs), google / "bert_model.ckpt")
    return theirs, google


@pytest.fixture
def google(both, tmp_path):
    """A folder of Google's that a test may spoil."""
    return shutil.copytree(both[1], tmp_path / both[1].name)


def test_googles_weights_are_those_of_the_hugging_face_folder(both):
    (theirs, _), (ours, report) = map(read, both)
    for one, other in zip(theirs.weights, ours.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert_close(hidden_states(ours), hidden_states(theirs), atol=0)
    assert "bert/encoder/layer_0/attention/self/query/kernel" in report.loaded
    assert len(report.loaded) == len(ours.weights)
    assert not report.missing + report.unexpected
    assert set(report.unused) == {
        "bert/pooler/dense/kernel/adam_m",
        "bert/pooler/dense/kernel/adam_v",
        "cls/predictions/output_bias",
        "cls/seq_relationship/output_weights",
        "global_step",
    }


def test_googles_missing_pooler_is_reported_and_a_foreign_head_is_unexpected(both, google):
    tensors = google_tensors(both[0])
    values = {name: value for name, value in tensors.items() if not name.startswith("bert/pooler")}
    save_tf1(values | {"output_weights": np.zeros((3, 16), np.float32)}, google / "bert_model.ckpt")
    _, report = read(google)
    assert set(report.missing) == {"bert/pooler/dense/kernel", "bert/pooler/dense/bias"}
    assert pretrained.find_pooling(google) == ("mean", "the weights, which have no pooler")
    assert report.unexpected == ("output_weights",)


def test_the_latest_of_several_checkpoints_is_read(both, google):
    values = google_tensors(both[0])
    name = "bert/embeddings/LayerNorm/beta"
    save_tf1(values | {name: np.full(16, 5, np.float32)}, google / "model.ckpt-20")
    with pytest.raises(UserError, match=r"several checkpoints \(bert_model.ckpt, model.ckpt-20\)"):
        read(google)
    (google / "checkpoint").write_text('model_checkpoint_path: "/long/gone/model.ckpt-20"\n')
    encoder, _ = read(google)
    np.testing.assert_array_equal(encoder.embeddings.norm.beta, np.full(16, 5))


# --- Model Garden's layout ---

KINDS = ["encoder: bert_v2", "model: bert", "pretrainer: bert_v2", "pretrainer: bert", "classifier"]


def model_garden_encoder(kind, **changes):
    """Model Garden's own encoder with random weights, and its configuration."""
    encoders = pytest.importorskip("official.nlp.configs.encoders")
    config = encoders.EncoderConfig(type=kind)
    config.override({kind: SIZES | changes})
    encoder = encoders.build_encoder(config)
    ids, types, mask = inputs()
    named = {"input_word_ids": ids, "input_mask": mask, "input_type_ids": types}
    encoder({name: tf.constant(value) for name, value in named.items()})
    rng = np.random.default_rng(1)
    encoder.set_weights([rng.normal(0, 0.3, w.shape) for w in encoder.get_weights()])
    out = encoder({name: tf.constant(value) for name, value in named.items()})
    states = out["sequence_output"].numpy()[mask == 1], out["pooled_output"].numpy()
    return encoder, config, states


def checkpoint_items(encoder, saved):
    """What Model Garden's trainers and converters pass to `tf.train.Checkpoint`."""
    models = pytest.importorskip("official.nlp.modeling.models")
    if saved in ("encoder", "model"):
        return {saved: encoder}
    if saved == "classifier":
        model = models.BertClassifier(encoder, num_classes=2)
        return {"model": model}
    import tf_keras

    model = models.BertPretrainerV2(encoder, mlm_activation="gelu")
    positions = tf.zeros((1, 2), tf.int32)
    ids = tf.ones((1, 4), tf.int32)
    words = {"input_word_ids": ids, "input_mask": ids, "input_type_ids": ids}
    model(words | {"masked_lm_positions": positions})
    optimizer = tf_keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    return {"model": model, "optimizer": optimizer, **model.checkpoint_items}


def write_model_garden(folder, saved, kind, **changes):
    """Writes a folder with Model Garden's own code; returns the hidden states of its encoder."""
    write_vocab(folder)
    encoder, config, states = model_garden_encoder(kind, **changes)
    tf.train.Checkpoint(**checkpoint_items(encoder, saved)).save(str(folder / "ckpt"))
    tree = {"task": {"model": {"encoder": config.as_dict()}, "train_data": {"seq_length": 40}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    return states


@pytest.fixture(scope="module")
def garden_and_states(tmp_path_factory):
    """A folder of Model Garden's, and the hidden states of its encoder."""
    folder = tmp_path_factory.mktemp("garden") / "bert_uncased"
    return folder, write_model_garden(folder, "model", "bert")


@pytest.fixture
def garden(garden_and_states, tmp_path):
    """A folder of Model Garden's that a test may spoil."""
    return shutil.copytree(garden_and_states[0], tmp_path / "bert_uncased")


@pytest.mark.parametrize("case", KINDS)
def test_hidden_states_are_model_gardens(case, tmp_path):
    saved, _, kind = case.partition(": ")
    states = write_model_garden(tmp_path / "bert", saved, kind or "bert")
    encoder, report = read(tmp_path / "bert")
    assert_close(hidden_states(encoder), states)
    assert not report.missing
    assert len(report.loaded) == len(encoder.weights)
    assert all(
        re.search(r"save_counter|masked_lm|optimizer|OBJECT_GRAPH", n) for n in report.unused
    )
    head = {name.rpartition("/")[2] for name in report.unexpected}
    assert head == ({"kernel", "bias"} if saved == "classifier" else set())


def test_model_gardens_sizes_may_stand_in_a_bert_config(garden_and_states, garden):
    expected = pretrained.load_config(garden)
    (garden / "params.yaml").unlink()
    sizes = {GOOGLE_KEYS.get(key, key): value for key, value in SIZES.items()}
    (garden / "bert_config.json").write_text(json.dumps(sizes | {"hidden_act": "gelu"}))
    encoder, _ = read(garden)
    assert encoder.config == expected
    assert encoder.config.hidden_act == "gelu_new"  # Model Garden's gelu is the tanh form.
    assert_close(hidden_states(encoder), garden_and_states[1])


@pytest.mark.parametrize("nested", [("encoder",), ("model", "encoder"), ()])
def test_the_yaml_may_be_of_an_encoder_or_a_model(garden, nested):
    expected = pretrained.load_config(garden)
    tree = {"type": "bert", "bert": SIZES}
    for key in reversed(nested):
        tree = {key: tree}
    (garden / "params.yaml").unlink()
    (garden / "bert_base.yaml").write_text(yaml.safe_dump(tree))
    assert pretrained.load_config(garden) == expected
    (garden / "other.yaml").write_text("a: 1")
    with pytest.raises(UserError, match=r"one other .yaml file .*bert_base.yaml, other.yaml"):
        pretrained.load_config(garden)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "albert"}, "type is 'albert'; expected 'bert' or 'bert_v2'"),
        ({"bert": SIZES | {"norm_first": True}}, "norm_first is true"),
        ({"bert": SIZES | {"embedding_size": 4}}, "embedding_size is 4"),
        ({"bert": SIZES | {"hidden_activation": "swish"}}, "hidden_activation: .*'gelu'"),
        ({"bert": {"vocab_size": 3}}, "lacks hidden_size, num_layers, num_attention_heads"),
        ({"bert": 3}, "expected a mapping, found 3"),
    ],
)
def test_an_encoder_that_is_no_plain_bert_is_refused(garden, change, message):
    tree = {"encoder": {"type": "bert", "bert": SIZES} | change}
    (garden / "params.yaml").write_text(yaml.safe_dump(tree))
    assert re.search(message, told(pretrained.load_config, garden))


def test_an_unwanted_pooler_is_unused(both, garden):
    for folder in (*both, garden):
        report = pretrained.load_encoder_weights(
            BertEncoder(pretrained.load_config(folder), "mean"), folder
        )
        assert len([name for name in report.unused if name.endswith(("kernel", "weight"))]) == 1
        assert not report.unexpected
        assert pretrained.find_pooling(folder) == (
            "cls_pooler",
            "the weights, which have a pooler",
        )


# --- Mistakes, in both layouts ---


def told(function, *arguments):
    """The one line that is said of a mistake."""
    with pytest.raises(UserError) as error:
        function(*arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture(params=["google", "garden"])
def tf_folder(request):
    return request.getfixturevalue(request.param)


def change_sizes(folder, **changes):
    """Changes sizes in a folder's configuration."""
    if (path := folder / "bert_config.json").is_file():
        values = json.loads(path.read_text())
        values |= {GOOGLE_KEYS.get(key, key): value for key, value in changes.items()}
        path.write_text(json.dumps(values))
    else:
        tree = yaml.safe_load((folder / "params.yaml").read_text())
        tree["task"]["model"]["encoder"]["bert"] |= changes
        (folder / "params.yaml").write_text(yaml.safe_dump(tree))


def test_a_complete_folder_is_resolved(tf_folder):
    assert pretrained.resolve(str(tf_folder)) == tf_folder
    assert pretrained.read_tokenizer(tf_folder).vocab == tuple(VOCAB)


def test_another_size_names_the_tensor_and_both_shapes(tf_folder):
    change_sizes(tf_folder, intermediate_size=28)
    message = told(read, tf_folder)
    assert str(tf_folder) in message
    shapes = r"\[16, 32\]; expected \[16, 28\]|\[12, 20\]; expected \[12, 28\]"
    assert re.search(rf"tensor '.*intermediate.*kernel' has shape ({shapes}) \(", message)


def test_heads_of_another_size_are_seen_in_model_gardens_shapes(garden):
    change_sizes(garden, num_attention_heads=2)
    message = told(read, garden)
    assert "query_dense/kernel' has shape [12, 4, 3]; expected [12, 2, 6] (params.yaml)" in message


def test_missing_tensors_are_listed_and_nothing_is_copied(tf_folder):
    change_sizes(tf_folder, num_layers=4)
    encoder = BertEncoder(pretrained.load_config(tf_folder))
    encoder.build()
    before = encoder.get_weights()
    message = told(pretrained.load_encoder_weights, encoder, tf_folder)
    assert re.search(r"the weights lack \S*layer\S*[23567]/\S+query\S*/kernel, .* more$", message)
    for old, new in zip(before, encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("missing", ["config", "index", "data", "vocab"])
def test_a_missing_file_is_named(tf_folder, missing):
    pattern = {"config": "[bp]*.[jy]*", "index": "*.index", "data": "*.data-*", "vocab": "vocab*"}
    (path,) = tf_folder.glob(pattern[missing])
    path.unlink()
    message = told(pretrained.resolve, str(tf_folder))
    assert str(tf_folder) in message
    expected = "bert_model.ckpt.index" if missing == "index" else path.name
    assert expected in message


@pytest.mark.parametrize("kept", [0, 0.1, 0.5])
def test_a_cut_data_file_is_told(tf_folder, kept):
    (path,) = tf_folder.glob("*.data-*")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    message = told(read, tf_folder)
    assert "can't be read" in message
    assert "broken or cut off" in message
    assert str(tf_folder) in message


@pytest.mark.parametrize("content", [b"", b"junk" * 50])
def test_a_broken_index_is_told(tf_folder, content):
    (path,) = tf_folder.glob("*.index")
    path.write_bytes(content)
    assert f"{path}: not a readable checkpoint" in told(pretrained.resolve, str(tf_folder))


def test_another_number_of_word_pieces_is_told(tf_folder):
    with (tf_folder / "vocab.txt").open("a") as file:
        file.write("more\n")
    message = told(pretrained.read_tokenizer, tf_folder)
    expected = (
        rf"{len(VOCAB) + 1} word pieces; expected vocab_size {len(VOCAB)} \((bert_config|params)"
    )
    assert re.search(expected, message)


def test_checkpoints_of_something_else_are_told(google, garden):
    save_tf1({"resnet/kernel": np.zeros(3, np.float32)}, google / "bert_model.ckpt")
    assert "no variable begins with bert/" in told(read, google)
    (garden / "ckpt-1.index").unlink()
    tf.train.Checkpoint(step=tf.Variable(1)).write(str(garden / "ckpt-1"))
    assert "holds no BertEncoder or BertEncoderV2" in told(read, garden)


def test_an_unknown_layout_names_the_three_that_are_known(tmp_path):
    (tmp_path / "weights.h5").write_bytes(b"")
    for function in (lambda path: pretrained.resolve(str(path)), pretrained.load_config):
        message = told(function, tmp_path)
        assert str(tmp_path) in message
        for part in (
            "Hugging Face (config.json",
            "TF1 releases (bert_config.json",
            "Model Garden (",
        ):
            assert part in message


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("uncased_L-2", None, True),
        ("multi_cased_L-2", None, False),
        ("uncased_L-2", False, False),
        ("chinese_L-2", True, True),
    ],
)
def test_lower_case_is_said_by_a_file_or_by_the_folders_name(
    google, tmp_path, name, said, expected
):
    folder = google.rename(tmp_path / name)
    if said is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": said}))
    assert pretrained.read_tokenizer(folder).settings["lower_case"] is expected


def test_bert_config_says_it_before_the_folders_name(google):
    path = google / "bert_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_lower_case": False}))
    found = pretrained.read_tokenizer(google)
    assert not found.settings["lower_case"]
    assert "lower_case: false, from bert_config.json" in found.notes


def test_a_folder_that_does_not_say_asks_for_the_setting(tf_folder, tmp_path):
    folder = tf_folder.rename(tmp_path / "chinese_L-2")
    letters = [chr(0x4E00 + n) for n in range(len(VOCAB) - len(SPECIALS))]
    (folder / "vocab.txt").write_text("\n".join([*SPECIALS, *letters]) + "\n")
    path = write_experiment(tmp_path / "experiment")
    pretrained_is = f"encoder.pretrained={folder}"
    silent = load_experiment(path, [pretrained_is])
    assert "set encoder.lower_case" in told(find_start, silent)
    said = load_experiment(path, [pretrained_is, "encoder.lower_case=false"])
    assert not find_start(said).tokenizer.lower_case


# --- Written as Hugging Face's ---


def assert_same_ids(folder):
    """transformers' tokenizer of a folder gives the ids of ours."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertTokenizerFast.from_pretrained(folder)
    ids, _, mask = inputs()
    for pair, row, real in zip(SENTENCES, ids, mask, strict=True):
        assert theirs(*pair)["input_ids"] == row[real == 1].tolist()


@pytest.mark.parametrize("kind", ["google", "garden"])
def test_transformers_loads_what_was_converted(kind, request, tmp_path):
    folder, output = request.getfixturevalue(kind), tmp_path / "new" / "output"
    done = convert(str(folder), output)
    encoder, _ = read(folder)
    assert_close(hidden_states_of_transformers(output), hidden_states(encoder))
    assert_same_ids(output)
    assert set(done.written) == set(load_file(output / "model.safetensors"))
    assert {path.name for path in output.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer_config.json",
        "vocab.txt",
    }
    assert list(output.parent.iterdir()) == [output]


def test_there_and_back_every_tensor_is_bit_equal(both, tmp_path):
    convert(str(both[0]), tmp_path / "output")
    before, after = (load_file(f / "model.safetensors") for f in (both[0], tmp_path / "output"))
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
        assert after[name].dtype == value.dtype
    configs = [json.loads((f / "config.json").read_text()) for f in (both[0], tmp_path / "output")]
    assert configs[0].items() <= configs[1].items()


@pytest.mark.long
def test_the_encoder_of_a_run_is_converted(garden, tmp_path):
    from mtdnn_tf.training.loop import train

    path = write_experiment(tmp_path, encoder={"pretrained": str(garden)})
    settings = ["training.deterministic=false", "training.epochs=1", "data.max_length=24"]
    run = tmp_path / "run"
    train(load_experiment(path, settings), run)
    convert(str(run), tmp_path / "output")
    expected = hidden_states(encoder_of(load(run).model))
    assert_close(hidden_states_of_transformers(tmp_path / "output"), expected)
    untrained = hidden_states(read(garden)[0])
    assert np.abs(untrained[0] - expected[0]).max() > 1e-3
    assert_same_ids(tmp_path / "output")
    message = told(convert, str(run), tmp_path / "other", False)
    assert "was trained with lower_case True" in message


def test_a_pooler_that_is_not_there_is_not_made_up(both, tmp_path):
    folder = shutil.copytree(both[0], tmp_path / "no_pooler")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith("pooler")}
    save_file(kept, folder / "model.safetensors")
    done = convert(str(folder), tmp_path / "output")
    assert set(done.written) == set(kept) == set(load_file(tmp_path / "output/model.safetensors"))


def test_what_a_tokenizer_does_is_converted(both, tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = shutil.copytree(both[0], tmp_path / "accents")
    vocab = [*VOCAB[:-2], "schön", "schon"]
    (folder / "vocab.txt").unlink()
    theirs = transformers.BertTokenizer(
        {piece: n for n, piece in enumerate(vocab)}, strip_accents=False
    )
    theirs.save_pretrained(folder)
    convert(str(folder), tmp_path / "output")
    again = transformers.BertTokenizerFast.from_pretrained(tmp_path / "output")
    ids = [vocab.index("schön"), vocab.index("schon")]
    assert again("Schön schon", add_special_tokens=False)["input_ids"] == ids


def test_a_conversion_that_fails_leaves_nothing(both, google, tmp_path):
    change_sizes(google, intermediate_size=28)
    told(convert, str(google), tmp_path / "new" / "output")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    assert "cannot write" in told(convert, str(both[1]), tmp_path / "file" / "output")


def test_the_command_converts_once(both, tmp_path):
    flags = [f"--input={both[1]}", f"--output={tmp_path / 'output'}"]
    first, second = (run("convert", *flags) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "39 tensors written" in first.stdout
    assert "left out as no part of the encoder: bert/pooler/dense/kernel/adam_m" in first.stdout
    assert second.returncode == 1
    expected = f"error: the output {tmp_path / 'output'} exists; choose another --output"
    assert error_line(second).startswith(expected)
    assert (tmp_path / "output/model.safetensors").is_file()
