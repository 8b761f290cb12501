"""One member that meets the others at a barrier made of Redis commands.

`python -m peers.redis_party ADDRESS PORT TAG TASK` is started by `redis_server.py`. Whoever counts
last pushes a token for each of the others, who wait for theirs: the way that needs fewest commands.
"""

from __future__ import annotations

import gc
import importlib
import sys
import time
from typing import Protocol

import msgspec

from .lines import Ready, Task, Times, hear, say, until_ns

_WAIT_S = 20


class Client(Protocol):
    """The part of redis-py that is used; the types it comes with are those of all its faces."""

    def ping(self) -> object: ...
    def incr(self, name: str) -> int: ...
    def rpush(self, name: str, *values: int) -> object: ...
    def blpop(self, keys: list[str], timeout: int) -> object | None: ...
    def close(self) -> None: ...


def meet(client: Client, key: str, nodes: int) -> None:
    """One round.

    Raises:
        TimeoutError: somebody did not come.
    """
    if client.incr(key) == nodes:
        client.rpush(f"{key}:go", *[1] * (nodes - 1))
    elif client.blpop([f"{key}:go"], timeout=_WAIT_S) is None:
        raise TimeoutError(f"nobody released {key} within {_WAIT_S} s")


def main() -> None:
    """The whole life of the process."""
    address, port, tag, text = sys.argv[1:5]
    task = msgspec.json.decode(text, type=Task)
    client: Client = importlib.import_module("redis").Redis(address, int(port))
    client.ping()
    gc.freeze()  # as the members of phalanx do
    say(Ready())
    time.sleep(until_ns(hear("go")))
    taken_ns: list[int] = []
    for number in range(task.count):
        began_ns = time.perf_counter_ns()
        meet(client, f"{tag}:{number}", task.nodes)
        taken_ns.append(time.perf_counter_ns() - began_ns)
    say(Times(ns=taken_ns))
    hear("end")
    client.close()


if __name__ == "__main__":
    main()
