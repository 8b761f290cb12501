"""Programs that build hosts and rails end in good order when they are asked to."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_unfinished: list[bool] = []
"""For each `finished` that is open now, whether a signal has come meanwhile."""


class Interrupted(KeyboardInterrupt):
    """A signal asks to stop. Event loops let this kind of exception through."""


@contextmanager
def stoppable() -> Generator[None, None, None]:
    """Within it, the first Ctrl-C or SIGTERM raises `Interrupted` and the next ones are ignored.

    What is being removed then is removed to the end.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        ignore_signals()
        if _unfinished:
            _unfinished[-1] = True
        else:
            raise Interrupted

    before = {each: signal.signal(each, stop) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def finished() -> Generator[None, None, None]:
    """What is begun within it is finished before `Interrupted` is raised.

    A process that was started and not yet written down would never be ended.
    """
    _unfinished.append(False)
    try:
        yield
    finally:
        asked_to_stop = _unfinished.pop()
    if asked_to_stop:
        raise Interrupted


def ignore_signals() -> None:
    """From here on, until the end of `stoppable`: what was built is removed to the end."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
