"""What the binaries share: absl flags, and mistakes of the user told in one line."""

import os
import signal
import sys
from collections.abc import Callable
from logging import WARNING, Formatter, LogRecord
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app, flags, logging

from mtdnn_tf.errors import UserError
from mtdnn_tf.training.signals import Interrupted

if TYPE_CHECKING:
    import tensorflow as tf

PACKAGE = Path(__file__).parent


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
    sys.modules["__main__"].__doc__ = usage
    # TensorFlow's native code reports a missing GPU as an error; real ones come as exceptions too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def guarded(arguments: list[str]) -> int | None:
        try:
            return main(flags.FLAGS, arguments[1:])
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except Interrupted as interrupted:
            print(interrupted, file=sys.stderr)
            return interrupted.exit_code
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except BrokenPipeError:
            # The reader of our output has gone, as with `| head`.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except OSError as error:
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
        return flags.FLAGS(arguments)
    except flags.Error as error:
        print(f"error: {' '.join(str(error).split())} (--help lists the flags)", file=sys.stderr)
        sys.exit(1)


def _is_ours_or_a_warning(record: LogRecord) -> bool:
    return record.levelno >= WARNING or Path(record.pathname).is_relative_to(PACKAGE)


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


def define_precision_flag() -> None:
    """Defines --precision: what a trained model computes in."""
    names = ["float32", "mixed_bfloat16", "mixed_float16"]
    flags.DEFINE_enum("precision", None, names, "What to compute in; by default as in training.")


def strategy_of(values: flags.FlagValues) -> "tf.distribute.Strategy":
    """Builds the strategy that the flags ask for; nothing of TensorFlow may have run before.

    Raises:
        UserError: Its devices are not there, or what describes the workers is wrong.
    """
    from mtdnn_tf.training.strategy import build_strategy

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
