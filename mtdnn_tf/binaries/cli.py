"""What the binaries share: absl flags, and mistakes of the user told in one line."""

import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from itertools import pairwise
from logging import WARNING, Formatter, LogRecord
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app, flags, logging

from mtdnn_tf.distribution.signals import Interrupted
from mtdnn_tf.errors import UserError
from mtdnn_tf.files import local_path

if TYPE_CHECKING:
    import tensorflow as tf

PACKAGE = Path(__file__).parents[1]
flags.disclaim_key_flags()  # What is defined here belongs to the binary that asks for it.


def run(
    main: Callable[[flags.FlagValues, list[str]], int | None],
    define_flags: Callable[[], None],
    usage: str,
) -> None:
    """Parses the flags and runs a binary.

    Args:
        main: Takes the parsed flags and the arguments that are not flags; returns the exit code.
        define_flags: Defines the binary's flags on `absl.flags.FLAGS`.
        usage: What `--help` prints first.
    """
    define_flags()
    flags.DEFINE_bool("traceback", False, "Show where in the code an error came from.")
    flags.DEFINE_list("plugins", [], "Modules that add kinds of tasks, heads, metrics, samplers.")
    ours = flags.FLAGS.get_key_flags_for_module(main.__module__)
    for flag in (*ours, flags.FLAGS["plugins"], flags.FLAGS["traceback"]):
        # A console command is another main module, whose flags `--help` lists.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    if isinstance(sys.stdout, io.TextIOWrapper):  # A terminal may lack some of the characters.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.modules["__main__"].__doc__ = usage
    # TensorFlow's native code reports a missing GPU as an error; real ones come as exceptions too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def guarded(arguments: list[str]) -> int | None:
        try:
            if flags.FLAGS.plugins:
                from mtdnn_tf.experiment.plugins import import_plugins

                import_plugins(flags.FLAGS.plugins)
            return main(flags.FLAGS, arguments[1:])
        except Interrupted as interrupted:
            print(interrupted, file=sys.stderr)
            return interrupted.exit_code
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except BrokenPipeError:
            # The reader of our output has gone, as with `| head`.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (UserError, OSError) as error:
            if flags.FLAGS.traceback:
                traceback.print_exc()
            print(f"error: {error}", file=sys.stderr)
            return 1

    logging.use_absl_handler()
    logging.get_absl_handler().addFilter(_is_ours_or_a_warning)
    logging.get_absl_handler().setFormatter(Formatter("%(message)s"))
    app.run(guarded, flags_parser=_parse)


def take_memory_from_the_system() -> None:
    """Before TensorFlow is imported: no pool of oneDNN's own, which keeps the most it ever held.

    For processes that load one model after another.
    """
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")


def _parse(arguments: list[str]) -> list[str]:
    """Parses the flags; a wrong one is told in a line, where absl has several."""
    try:
        _check_flagfiles(arguments)
        others = flags.FLAGS(arguments)
        for name in flags.FLAGS:
            _check_not_empty(flags.FLAGS[name])
        return others
    except flags.Error as error:
        print(f"error: {' '.join(str(error).split())} (--help lists the flags)", file=sys.stderr)
        sys.exit(1)


def _check_flagfiles(arguments: list[str]) -> None:
    """Refuses a --flagfile without a value, which absl takes for a file without flags."""
    for flag, value in pairwise([*arguments, ""]):
        if flag == "--":
            return
        if re.fullmatch("--?flagfile=" if value else "--?flagfile=?", flag):
            raise flags.IllegalFlagValueError("--flagfile: expected a value, found none")


def _check_not_empty(flag: flags.Flag) -> None:
    """Refuses a flag without a value, as a variable of the shell gives that is not set."""
    values = flag.value if isinstance(flag.value, list) else [flag.value]
    if flag.present and (not values or "" in values):
        raise flags.IllegalFlagValueError(f"--{flag.name}: expected a value, found none")


def _is_ours_or_a_warning(record: LogRecord) -> bool:
    return record.levelno >= WARNING or Path(record.pathname).is_relative_to(PACKAGE)


class _PathParser(flags.ArgumentParser):
    """Reads a local path."""

    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        return local_path(argument)


class _PathsParser(flags.ListParser):
    """Reads local paths with commas between."""

    def parse(self, argument: str | list[str]) -> list[str]:
        return [local_path(path) for path in super().parse(argument)]


def define_path(name: str, default: str | None, meaning: str, *, required: bool = False) -> None:
    """Defines a flag whose value is a local file or folder.

    Args:
        name: Name of the flag.
        default: Its value where it is not given.
        meaning: What `--help` says of it.
        required: Whether it has to be given.
    """
    flags.DEFINE(_PathParser(), name, default, meaning, required=required)


def define_paths(
    name: str, default: list[str] | None, meaning: str, *, required: bool = False
) -> None:
    """Defines a flag whose value is a list of local files or folders; see `define_path`."""
    serializer = flags.CsvListSerializer(",")
    flags.DEFINE(_PathsParser(), name, default, meaning, serializer=serializer, required=required)


def path_of(argument: str) -> str:
    """A local path that stands in an argument.

    Raises:
        UserError: See `local_path`.
    """
    try:
        return local_path(argument)
    except ValueError as error:
        raise UserError(f"{argument!r}: {error}") from error


def define_strategy_flags(*, workers: bool = True) -> None:
    """Defines the flags that `strategy_of` reads.

    Args:
        workers: Whether the binary can run as several processes.
    """
    names = ["auto", "one_device", "mirrored", "multi_worker_mirrored", "tpu"]
    if not workers:
        names.remove("multi_worker_mirrored")
    flags.DEFINE_enum("strategy", "auto", names, "How the work is distributed over devices.")
    flags.DEFINE_list("devices", [], "Devices of this process: GPU:0,GPU:1 or CPU:0,CPU:1.")
    flags.DEFINE_string("tpu", None, "Name of the TPU; by default $TPU_NAME, else local.")
    if workers:
        flags.DEFINE_bool("slurm", False, "Take the workers from Slurm's variables.")


def define_input_flags() -> None:
    """Defines the flags that `mtdnn_tf.data.inputs.input_file` reads."""
    define_path("input", None, "The file of texts, or - for stdin.", required=True)
    flags.DEFINE_string("format", None, "Of the input: tsv, csv, ...; by default by its suffix.")
    flags.DEFINE_enum(
        "quoting", None, ["none", "csv"], "Of a table's cells; by default csv of a CSV file alone."
    )
    names = ["auto", "true", "false"]
    flags.DEFINE_enum("header", "auto", names, "Whether a table's first row names its columns.")
    flags.DEFINE_list(
        "columns",
        [],
        "Columns of other names than the task's fields: sentence=review,uid=number; "
        "uid= numbers the rows.",
    )


def define_precision_flag() -> None:
    """Defines --precision: what a trained model computes in."""
    names = ["float32", "mixed_bfloat16", "mixed_float16"]
    flags.DEFINE_enum("precision", None, names, "What to compute in; by default as in training.")


def strategy_of(values: flags.FlagValues) -> "tf.distribute.Strategy":
    """Builds the strategy that the flags ask for; nothing of TensorFlow may have run before.

    Raises:
        UserError: Its devices are not there, or what describes the workers is wrong.
    """
    from mtdnn_tf.distribution.strategy import build_strategy

    workers = "slurm" in values
    slurm = workers and values.slurm
    return build_strategy(values.strategy, values.devices, values.tpu, slurm, workers)


def check_workdir_or_dry_run(values: flags.FlagValues) -> None:
    """Refuses a binary's flags unless there is a --workdir or a --dry_run.

    Raises:
        UserError: There are both or none.
    """
    if (values.workdir is None) != values.dry_run:
        raise UserError(
            "--workdir is needed, and with --dry_run nothing is written: give one of them"
        )


def no_arguments(arguments: list[str]) -> None:
    """Refuses arguments that are not flags.

    Raises:
        UserError: There are some.
    """
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}; settings are given as --flag=value")
