"""Token stores on disk: a task's split, tokenised once, as flat memory-mapped arrays."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from mtdnn_tf.data.sources import Rows, content_hash, read_split
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.data.tokenizer import BertTokenizer, Encode
from mtdnn_tf.errors import UserError
from mtdnn_tf.tasks.spec import OnBadRow, TaskSpec

FORMAT = 2  # Part of the key: raise it when what is stored, or how text is read, changes.
_CHUNK = 4096


def tokenize_rows(task: TaskSpec, rows: Rows, encode: Encode) -> TokenStore:
    """Tokenises rows in memory.

    Args:
        task: The task.
        rows: Its rows.
        encode: `BertTokenizer.encode`, or the same as a graph.
    """
    ids, types, lengths = [], [], [np.zeros(1, np.int64)]
    columns = [rows.texts[field] for field in task.fields]
    for start in range(0, len(rows.uids), _CHUNK):
        chunk = (tf.constant(c[start : start + _CHUNK], tf.string) for c in columns)
        token_ids, type_ids = encode(*chunk)
        ids.append(token_ids.flat_values.numpy())
        types.append(type_ids.flat_values.numpy())
        lengths.append(token_ids.row_lengths().numpy())
    return TokenStore(
        token_ids=np.concatenate(ids) if ids else np.empty(0, np.int32),
        type_ids=np.concatenate(types) if types else np.empty(0, np.int32),
        offsets=np.cumsum(np.concatenate(lengths)),
        labels=rows.labels,
        uids=np.asarray(rows.uids, np.str_),
        groups=rows.groups,
        skipped=rows.skipped,
        remark=rows.remark,
    )


def open_store(
    task: TaskSpec,
    split: str,
    data_dir: Path,
    tokenizer: BertTokenizer,
    cache_dir: Path,
    on_bad_row: OnBadRow = "error",
    tfds_dir: Path | None = None,
) -> TokenStore:
    """Opens the store of a split, made first if its source, spec or vocabulary is new.

    Raises:
        UserError: The source is bad (see `read_split`), or the cache cannot be written.
    """
    content = content_hash(task, split, data_dir, tfds_dir)
    reading = _reading(task, split, on_bad_row)
    key = _hash(reading | {"tokenizer": tokenizer.fingerprint}, content)
    folder = cache_dir / f"{task.name}-{split}-{key[:16]}"
    if folder.is_dir():
        store = _read(folder)
        if store.skipped:
            logging.warning("%s/%s: %d bad rows left out", task.name, split, store.skipped)
    else:
        rows = read_split(task, split, data_dir, on_bad_row, tfds_dir)
        store = tokenize_rows(task, rows, tokenizer.encode)
        logging.info("%s/%s: tokenized %d examples into %s", task.name, split, len(store), folder)
        try:
            _write(store, key, folder)
        except OSError as error:
            raise UserError(f"cannot write the token store {folder}: {error.strerror}") from error
        store = _read(folder)
    if store.remark:
        logging.info("%s/%s: %s", task.name, split, store.remark)
    return replace(store, source=_hash(reading, content), content=content.hex())


def default_cache_dir() -> Path:
    """`$MTDNN_CACHE_DIR`, else `~/.cache/mtdnn_tf` (or below `$XDG_CACHE_HOME`)."""
    if own := os.environ.get("MTDNN_CACHE_DIR"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mtdnn_tf"


def _reading(task: TaskSpec, split: str, on_bad_row: OnBadRow) -> dict[str, Any]:
    """What the rows of a split depend on besides the content of its files."""
    spec = task.splits[split]
    return {
        "format": FORMAT,
        "kind": task.kind,
        "fields": task.fields,
        "labels": task.labels,
        "label_values": task.label_values,
        "score_range": task.score_range,
        "incomplete_groups": task.ranking_settings.incomplete_groups if task.is_ranking else None,
        "split": spec.model_dump(exclude={"file", "tfds", "optional"}),
        "is_jsonl": spec.is_jsonl,
        "on_bad_row": on_bad_row,
    }


def _hash(parts: dict[str, Any], content: bytes) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode() + content).hexdigest()


def _write(store: TokenStore, key: str, folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for name in ("token_ids", "type_ids", "offsets", "uids", "labels", "groups"):
            array = getattr(store, name)
            if array is not None:
                np.save(partial / f"{name}.npy", array, allow_pickle=False)
        meta = {"key": key, "skipped": store.skipped, "remark": store.remark}
        (partial / "meta.json").write_text(json.dumps(meta))
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # Else another process was first; its store is the same.
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read(folder: Path) -> TokenStore:
    def array(name: str) -> np.ndarray:
        return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    try:
        meta = json.loads((folder / "meta.json").read_text())
        return TokenStore(
            token_ids=array("token_ids"),
            type_ids=array("type_ids"),
            offsets=array("offsets"),
            labels=array("labels") if (folder / "labels.npy").exists() else None,
            uids=array("uids"),
            groups=array("groups") if (folder / "groups.npy").exists() else None,
            key=meta["key"],
            skipped=meta["skipped"],
            remark=meta["remark"],
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"the token store {folder} is damaged ({error}); remove it, and it is made again"
        ) from error
