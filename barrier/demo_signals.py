"""Programs that build hosts and rails end in good order when they are asked to."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asks to stop. Event loops let this kind of exception through."""


@contextmanager
def stoppable() -> Generator[None, None, None]:
    """Within it, the first Ctrl-C or SIGTERM raises `Interrupted` and the next ones are ignored.

    What is being removed then is removed to the end.
    """

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        ignore_signals()
        raise Interrupted

    before = {each: signal.signal(each, stop) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def ignore_signals() -> None:
    """From here on, until the end of `stoppable`: what was built is removed to the end."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
