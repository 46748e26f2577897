"""Stopping on SIGTERM and Ctrl-C between two pieces of work, with the state saved.

The handlers are a process's, so a binary installs them; what works is told by a `Stop`.
"""

import contextlib
import signal
from collections.abc import Iterator, Sequence
from types import FrameType

# Signals that came; not empty means to save and leave.
Stop = Sequence[signal.Signals]


class Interrupted(Exception):
    """SIGTERM or Ctrl-C came, and the state was saved.

    Attributes:
        exit_code: What a shell expects of a process that a signal ended.
    """

    def __init__(self, came: signal.Signals, saved: str) -> None:
        super().__init__(f"{came.name}: {saved}; the same command goes on from there")
        self.exit_code = 128 + came


def leave_if_told(stop: Stop, saved: str) -> None:
    """Leaves where a signal came.

    Args:
        stop: Signals that came.
        saved: What is kept, and where.

    Raises:
        Interrupted: One did.
    """
    if stop:
        raise Interrupted(stop[0], saved)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[signal.Signals]]:
    """Collects SIGTERM and Ctrl-C instead of dying of them; a second Ctrl-C stops at once.

    Yields:
        A list that is empty until one comes.
    """
    came: list[signal.Signals] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(signal.Signals(number))
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Keeps the handlers over a native call that sets its own and does not let Python's run.

    Ctrl-C ends the process at once inside of it.
    """
    before = {s: signal.signal(s, signal.SIG_DFL) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
