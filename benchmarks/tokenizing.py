"""How fast a file becomes a token store, and how much memory that takes.

    python benchmarks/tokenizing.py --rows=5000000

Makes a file of sentences of 5 to 40 made-up words, drawn from a vocabulary of 2,000 (a TSV, CSV, JSON
lines or Parquet file), and tokenises it with the vocabulary of all-MiniLM-L6-v2. Printed are the rows a
second, the peak of memory of the process, and how many cores were busy. `--package` names another
checkout, whose code then does the same.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import flags

from mtdnn_tf.binaries import cli

SCRIPT = """
import json, resource, sys, time
from pathlib import Path
from mtdnn_tf.data.store import open_store
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer
from mtdnn_tf.tasks import resolve_task

path, vocab, cache = map(Path, sys.argv[1:])
tokenizer = BertTokenizer.from_file(vocab, lower_case=True, max_length=128)
task = resolve_task("made", {
    "kind": "single_classification", "fields": ["text"], "labels": ["0", "1"],
    "metrics": ["accuracy"], "splits": {"train": {"file": path.name}},
})
start = time.monotonic()
store = open_store(task, "train", path.parent, tokenizer, cache)
seconds, used = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "rows": len(store), "seconds": seconds, "gib": used.ru_maxrss / 2**20,
    "cores": (used.ru_utime + used.ru_stime) / seconds,
}))
"""


def _define_flags() -> None:
    flags.DEFINE_integer("rows", 1_000_000, "Rows of the file.", lower_bound=1)
    flags.DEFINE_enum("format", "tsv", ["tsv", "csv", "jsonl", "parquet"], "Of the file.")
    cli.define_path("package", ".", "The checkout whose code is measured.")


def make_file(path: Path, rows: int) -> None:
    """Writes sentences with labels; the same for the same number of rows."""
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(2000)]

    def drawn(count: int) -> list[tuple[str, int]]:
        return [(" ".join(rng.choices(words, k=rng.randint(5, 40))), n % 2) for n in range(count)]

    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        schema = pa.schema({"text": pa.string(), "label": pa.int64()})
        with parquet.ParquetWriter(path, schema) as writer:
            for start in range(0, rows, 100_000):
                texts, labels = zip(*drawn(min(100_000, rows - start)), strict=True)
                writer.write_table(pa.table({"text": texts, "label": labels}, schema))
        return
    separator = "," if path.suffix == ".csv" else "\t"
    with path.open("w", encoding="utf-8") as file:
        if path.suffix != ".jsonl":
            file.write(f"text{separator}label\n")
        for _ in range(rows):
            ((text, label),) = drawn(1)
            line = f"{text}{separator}{label}"
            if path.suffix == ".jsonl":
                line = json.dumps({"text": text, "label": label})
            file.write(line + "\n")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    from mtdnn_tf.pretrained import resolve

    vocab = resolve("all-MiniLM-L6-v2") / "vocab.txt"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"made.{values.format}"
        make_file(path, values.rows)
        done = subprocess.run(
            [sys.executable, "-P", "-c", SCRIPT, path, vocab, Path(folder) / "cache"],
            env=os.environ | {"PYTHONPATH": str(Path(values.package).resolve())},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        size = path.stat().st_size
    found = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{values.format}, {found['rows']:,} rows, {size / 2**20:,.0f} MiB: {found['seconds']:.0f} s, "
        f"{found['rows'] / found['seconds']:,.0f} rows/s, {found['gib']:.2f} GiB at most, "
        f"{found['cores']:.1f} cores busy"
    )
    return 0


if __name__ == "__main__":
    cli.run(_main, _define_flags, __doc__ or "")
