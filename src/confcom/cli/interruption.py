"""What Ctrl-C and SIGTERM do to the commands that change a cluster."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from confcom.addon.journal import Journal

JOURNAL = "confcom.journal"
"""Where click's contexts keep how far the command's change has come."""

P = ParamSpec("P")
R = TypeVar("R")


def tells_interruptions(command: Callable[P, R]) -> Callable[P, R]:
    """SIGTERM interrupts as Ctrl-C does, and either ends in an error that says what was changed."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        from confcom.addon.journal import ChangeInterruptedError, interrupted

        with _sigterm_interrupts():
            try:
                return command(*args, **kwargs)
            except (KeyboardInterrupt, click.Abort) as error:  # at a question, or before or after the change
                journal: Journal | None = click.get_current_context().meta.get(JOURNAL)
                if journal is None:
                    raise ChangeInterruptedError.before_anything() from error
                raise interrupted(journal, None) from error

    return wrapped


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
