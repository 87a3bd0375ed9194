"""Handling of Ctrl-C and SIGTERM in the commands that change a cluster."""

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
    from confcom.addon.operations.apply.journal import Journal

JOURNAL = "confcom.journal"
"""Key of the command's `Journal` in the meta of click's contexts."""

P = ParamSpec("P")
R = TypeVar("R")


def reports_interruption(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command so that Ctrl-C and SIGTERM end in an error that says what was changed."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        from confcom.addon.operations.apply.journal import ChangeInterruptedError, interrupted

        with _sigterm_as_keyboard_interrupt():
            try:
                return command(*args, **kwargs)
            except (KeyboardInterrupt, click.Abort) as error:  # at a confirmation, or before or after the change
                journal: Journal | None = click.get_current_context().meta.get(JOURNAL)
                if journal is None:
                    raise ChangeInterruptedError.before_anything() from error
                raise interrupted(journal, None) from error

    return wrapped


@contextlib.contextmanager
def _sigterm_as_keyboard_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set signal handlers
        return
    previous = signal.signal(signal.SIGTERM, _raise_keyboard_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _raise_keyboard_interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
