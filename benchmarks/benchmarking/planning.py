"""Plans an epoch of made-up lengths in a process of its own, and builds its first batch.

    python -m benchmarking.planning EXAMPLES

Prints a line of JSON: `seconds` of planning, `first_batch` (seconds until it is there, after that),
and `peak_bytes`.
"""

import json
import resource
import sys
import time

import numpy as np

from benchmarking.experiment import build_experiment
from benchmarking.workload import made_up_lengths
from mtdnn_tf.data.plan import TrainingPlan
from mtdnn_tf.data.token_store import TokenStore

ROW_LENGTH, ROWS = 128, 8


def main(examples: int) -> None:
    """Plans an epoch of so many examples, as `mtdnn-train` does."""
    offsets = np.concatenate([[0], np.cumsum(made_up_lengths(examples, ROW_LENGTH))])
    experiment = build_experiment(1, ROW_LENGTH, ROWS, epochs=1)
    # The store of a real run is on disk; what is in memory there is the plan.
    zeros = np.broadcast_to(np.int32(0), [int(offsets[-1])])
    store = TokenStore(
        token_ids=zeros,
        type_ids=zeros,
        offsets=offsets,
        labels=np.zeros(examples, np.float32),
        uids=np.broadcast_to("0", [examples]),
    )
    start = time.perf_counter()
    plan = TrainingPlan(experiment, {"task0": store})
    planned = time.perf_counter()
    next(plan.batches(0))
    record = {
        "seconds": planned - start,
        "first_batch": time.perf_counter() - planned,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main(int(sys.argv[1]))
