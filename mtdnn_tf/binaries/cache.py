"""Says what is in the cache of token stores, and clears it.

    mtdnn-cache
    mtdnn-cache --clear --older_than_days=30

A store that is removed is made again when a run needs it.
"""

import shutil
import time
from contextlib import suppress
from pathlib import Path

from absl import flags

from mtdnn_tf.binaries import cli
from mtdnn_tf.data.cache import default_cache_dir, entries


def _define_flags() -> None:
    cli.define_path("cache_dir", None, "The cache; by default that of a run without one.")
    flags.DEFINE_bool("clear", False, "Remove what is listed.")
    flags.DEFINE_float("older_than_days", 0.0, "List stores made before so many days.", 0.0)


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    from rich.console import Console
    from rich.table import Table

    folder = Path(values.cache_dir) if values.cache_dir else default_cache_dir()
    before = time.time() - 86400 * values.older_than_days
    found = [entry for entry in entries(folder) if entry.made <= before]
    table = Table(title=f"{folder}: {len(found)} token stores")
    for column, side in (("split", "left"), ("made", "left"), ("MiB", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for entry in found:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.made))
        table.add_row(entry.name, made, f"{entry.bytes / 2**20:,.1f}")
    table.add_section()
    total = f"{sum(entry.bytes for entry in found) / 2**20:,.1f}"
    table.add_row("removed" if values.clear else "in all", "", total)
    if values.clear:
        for entry in found:
            with suppress(FileNotFoundError):  # Another process removes the same.
                shutil.rmtree(entry.folder)
    Console().print(table)
    return 0


def main() -> None:
    """Entry point."""
    cli.run(_main, _define_flags, __doc__ or "")


if __name__ == "__main__":
    main()
