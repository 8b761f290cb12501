"""What every public call checks first: where it is called from, and its time-out."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from .config import ClusterConfig, NodeConfig
from .errors import UsageError

FOREVER_S: Final = 1e9
"""What a longer time-out, or an infinite one, is taken for: 31 years."""


class _Process:
    """Which of a line of forked processes this is: asked at every call, without the kernel."""

    forks = 0

    def forked(self) -> None:
        """This is a child."""
        self.forks += 1


PROCESS: Final = _Process()
os.register_at_fork(after_in_child=PROCESS.forked)


class Home:
    """The event loop and the process that a cluster belongs to."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop or asyncio.get_running_loop()
        self._forks = PROCESS.forks

    @property
    def is_here(self) -> bool:
        """Whether this is the process, and not a forked child of it."""
        return PROCESS.forks == self._forks

    def check(self) -> None:
        """Refuse a call from elsewhere: what it waits for would never wake it.

        Raises:
            UsageError: another event loop runs here, or none, or this is a forked child.
        """
        self.check_process()
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not self.loop:
            raise UsageError(
                "a Cluster belongs to the event loop in which it was joined; from another thread "
                "use phalanx.transport.blocking.attach(cluster), or hand the call over by "
                "asyncio.run_coroutine_threadsafe(call, that_loop)"
            )

    def check_process(self) -> None:
        """Refuse a call from a forked child, which has neither the loop's thread nor the sockets.

        Raises:
            UsageError: this is one.
        """
        if not self.is_here:
            raise UsageError("a Cluster does not survive fork(); join in the child process")


def node_of(config: ClusterConfig, key: str | int) -> NodeConfig:
    """The node that a caller means, by its id or its name.

    Raises:
        UsageError: no such node is configured.
    """
    try:
        return config.node(key)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from None


def seconds(timeout: object, default: float) -> float:
    """A time-out as a number; None means the default, and what is negative is over already.

    Raises:
        UsageError: it is no number.
    """
    if timeout is None:
        return default
    # Of a union `isinstance` would have to be made one in each call.
    if not isinstance(timeout, (int, float)) or not (timeout < 0 or timeout >= 0):
        raise UsageError(f"a timeout is 0 or more seconds, or None, not {timeout!r}")
    return max(0.0, min(timeout, FOREVER_S))
