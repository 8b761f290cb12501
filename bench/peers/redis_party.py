"""One member that meets the others at a barrier made of Redis commands.

`python -m peers.redis_party ADDRESS PORT TAG TASK` is started by `redis_server.py`. Whoever counts
last pushes a token for each of the others, who wait for theirs: the way that needs fewest commands.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Protocol

import msgspec

from .lines import Task
from .rounds import live

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

    def round_of(number: int) -> Callable[[], None]:
        return functools.partial(meet, client, f"{tag}:{number}", task.nodes)

    live(task.count, round_of)
    client.close()


if __name__ == "__main__":
    main()
