"""One member that meets the others at kazoo's double barrier, each time below a new path.

`python -m peers.zookeeper_party SERVER PATH NAME TASK` is started by `zookeeper.py`. A round is to
enter: to leave again at once may hang (kazoo 2.11), and takes as long once more.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from typing import Protocol

import msgspec

from .lines import Task
from .rounds import live

_CONNECT_S = 20.0


class DoubleBarrier(Protocol):
    """The part of it that is used."""

    participating: bool

    def enter(self) -> None: ...


class Client(Protocol):
    """The part of kazoo that is used, which comes without types."""

    def start(self, timeout: float) -> None: ...
    def stop(self) -> None: ...
    def ensure_path(self, path: str) -> object: ...
    def DoubleBarrier(self, path: str, count: int, identifier: str) -> DoubleBarrier: ...


def main() -> None:
    """The whole life of the process."""
    server, path, name, text = sys.argv[1:5]
    task = msgspec.json.decode(text, type=Task)
    logging.disable(logging.CRITICAL)
    client: Client = importlib.import_module("kazoo.client").KazooClient(
        hosts=server, timeout=_CONNECT_S
    )
    client.start(_CONNECT_S)
    client.ensure_path(path)

    def round_of(number: int) -> Callable[[], None]:
        barrier = client.DoubleBarrier(f"{path}/{number}", task.nodes, identifier=name)

        def enter() -> None:
            barrier.enter()
            if not barrier.participating:
                raise RuntimeError(f"round {number} was not entered")

        return enter

    live(task.count, round_of)
    client.stop()


if __name__ == "__main__":
    main()
