"""ZeroMQ: PUSH to PULL over TCP, by pyzmq, with everything its default. Members in Python."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from contextlib import AbstractContextManager

import msgspec

from .lines import Task
from .machine import package_version
from .stage import Stage

PORT = 6005


class ZeroMq:
    """The peer that queues and batches in threads of its own, in C++."""

    name = "pyzmq"

    def missing(self) -> list[str]:
        """What is not installed here, with what to do about it."""
        if importlib.util.find_spec("zmq") is not None:
            return []
        return [
            "the Python package pyzmq is missing; install it from the package index: "
            f"{sys.executable} -m pip install pyzmq"
        ]

    def version(self) -> str:
        """Of the distribution."""
        return package_version("pyzmq")

    def up(self, stage: Stage, nodes: int) -> AbstractContextManager[object]:
        """There is nothing to start besides its members."""
        del stage, nodes
        return contextlib.nullcontext()

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """The second host listens, the first one connects and sends."""
        return members("peers.zmq_member", stage, task, PORT)


def members(module: str, stage: Stage, task: Task, port: int) -> list[list[str]]:
    """The two ends of a connection, as programs in Python: both are told where the receiver is."""
    _, receiver = stage.hosts(task.nodes)
    address = stage.lab.address(stage.lab.rails[0], receiver)
    text = msgspec.json.encode(task).decode()
    return [
        [sys.executable, "-P", "-m", module, address, str(port), str(node), text]
        for node in range(1, task.nodes + 1)
    ]
