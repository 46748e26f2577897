"""Named tensors of a Hugging Face folder, read without running anything in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtdnn_tf.errors import UserError
from mtdnn_tf.pretrained.config_file import read_json

SAFE, PICKLED = ("model.safetensors", "model.safetensors.index.json"), "pytorch_model.bin"
WEIGHTS = (*SAFE, PICKLED)


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Reads all weights of a folder.

    Args:
        folder: Holds `model.safetensors`, its sharded form with `model.safetensors.index.json`, or
            `pytorch_model.bin` (read with torch's `weights_only`, where torch is installed).

    Returns:
        Tensors by name; floating ones are float32.

    Raises:
        UserError: No weights, or a file that can't be read.
    """
    tensors: dict[str, np.ndarray] = {}
    for path in weight_files(folder):
        if path.suffix == ".bin":
            tensors |= _read_torch(path)
        elif path.suffix == ".safetensors":
            tensors |= _read_safetensors(path)
    return tensors


def tensor_names(folder: Path) -> set[str]:
    """Names of all tensors of a folder; of safetensors only the heads of the files are read.

    Raises:
        UserError: As `read_tensors`.
    """
    names: set[str] = set()
    for path in weight_files(folder):
        if path.suffix == ".bin":
            names |= _read_torch(path).keys()
        elif path.suffix == ".safetensors":
            names |= _safetensors_names(path)
    return names


def weight_files(folder: Path) -> list[Path]:
    """The files with a folder's weights, with the index of shards.

    Raises:
        UserError: There are none, or the index is broken.
    """
    single, index, pickled = (folder / name for name in WEIGHTS)
    if single.is_file():
        return [single]
    if index.is_file():
        return [index, *_shards(index)]
    if pickled.is_file():
        return [pickled]
    raise UserError(f"{folder}: no model.safetensors or pytorch_model.bin")


def _shards(index: Path) -> list[Path]:
    """The shard files that an index lists."""
    values = read_json(index).get("weight_map")
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise UserError(f"{index}: not an index of shards: expected weight_map, tensor to file")
    names = sorted(set(values.values()))
    for name in names:
        if Path(name).name != name:
            raise UserError(f"{index}: shard {name!r} is not a file of this folder")
        if not (index.parent / name).is_file():
            raise UserError(f"{index}: there is no {name}, which it names")
    return [index.parent / name for name in names]


def _safetensors_names(path: Path) -> set[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return set(file.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads one safetensors file; bfloat16 and float16 become float32."""
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    return {name: _to_numpy(path, name, entry) for name, entry in entries}


def _to_numpy(path: Path, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    """One entry of a safetensors file as an array."""
    dtype, data, shape = entry["dtype"], entry["data"], entry["shape"]
    if dtype == "BF16":  # The upper half of a float32.
        wide = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        return wide.view(np.float32).reshape(shape)
    dtypes = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2"}
    dtypes |= {"I8": "i1", "U8": "u1", "BOOL": "?"}
    if dtype not in dtypes:
        raise UserError(
            f"{path}: tensor {name!r} is of type {dtype}; expected one of F32, F16, BF16"
        )
    array = np.frombuffer(data, dtypes[dtype]).reshape(shape)
    return array.astype(np.float32) if dtype.startswith("F") else array


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    """Reads a PyTorch file; `weights_only` refuses pickles that could run code."""
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: reading pytorch_model.bin needs torch (pip install torch); "
            "model.safetensors does not"
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {
            name: (value.float() if value.is_floating_point() else value).numpy()
            for name, value in state.items()
        }
    except Exception as error:  # torch raises pickle, zip, runtime and attribute errors here.
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a readable file of PyTorch weights ({reason})") from None
