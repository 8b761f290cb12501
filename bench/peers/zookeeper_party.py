"""One member that meets the others at kazoo's double barrier, each time below a new path.

`python -m peers.zookeeper_party SERVER PATH NAME TASK` is started by `zookeeper.py`. A round is to
enter: to leave again at once may hang (kazoo 2.11), and takes as long once more.
"""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import time
from typing import Protocol

import msgspec

from .lines import Ready, Task, Times, hear, say, until_ns

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
    gc.freeze()  # as the members of phalanx do
    say(Ready())
    time.sleep(until_ns(hear("go")))
    taken_ns: list[int] = []
    for number in range(task.count):
        barrier = client.DoubleBarrier(f"{path}/{number}", task.nodes, identifier=name)
        began_ns = time.perf_counter_ns()
        barrier.enter()
        taken_ns.append(time.perf_counter_ns() - began_ns)
        if not barrier.participating:
            raise RuntimeError(f"round {number} was not entered")
    say(Times(ns=taken_ns))
    hear("end")
    client.stop()


if __name__ == "__main__":
    main()
