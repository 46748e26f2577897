"""The experiment that ours is measured on; no TensorFlow is imported here."""

from typing import Any

import numpy as np

from benchmarking.workload import Workload
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.validation.fields import validated

PRECISIONS = {"fp32": "float32", "bf16": "mixed_bfloat16"}
EPOCHS = 50


def build_experiment(
    tasks: int, row_length: int, rows: int, precision: str = "float32", epochs: int = EPOCHS
) -> Experiment:
    """An experiment of classification tasks `task0`, `task1`, ..., trained by AdamW."""
    return validated(
        Experiment,
        {
            "tasks": {f"task{number}": _task(f"task{number}") for number in range(tasks)},
            "data": {"max_length": row_length},
            "batch": {"rows": rows},
            "training": {
                "epochs": epochs,
                "optimizer": "adamw",
                "precision": precision,
                "deterministic": False,
            },
        },
        "benchmark",
    )


def _task(name: str) -> dict[str, Any]:
    split = {"file": "none.tsv", "columns": {"text": 0, "label": 1}}
    return {
        "name": name,
        "kind": "single_classification",
        "fields": ["text"],
        "labels": ["0", "1"],
        "metrics": ["accuracy"],
        "splits": {"train": split},
    }


def rows_of(workload: Workload, settings: dict[str, Any]) -> int:
    """Rows of a packed batch: those asked for, or as many as hold about `examples`."""
    slots = settings["examples"] * workload.lengths.mean()
    return settings.get("rows") or max(1, round(slots / workload.max_length))


def stores_of(workload: Workload, tasks: int) -> dict[str, TokenStore]:
    """The examples divided among the tasks."""
    whole = TokenStore(
        token_ids=workload.token_ids,
        type_ids=workload.type_ids,
        offsets=workload.offsets,
        labels=workload.labels.astype(np.float32),
        uids=np.arange(len(workload)).astype(np.str_),
    )
    return {
        f"task{number}": whole.subset(np.arange(number, len(whole), tasks))
        for number in range(tasks)
    }
