"""ZeroMQ: PUSH to PULL over TCP, by pyzmq, with everything its default."""

from __future__ import annotations

import importlib.util
import sys

from .machine import package_version
from .pair import Pair

NAME = "pyzmq"
PORT = 6005


class ZeroMq(Pair):
    """The peer that queues and batches in threads of its own, in C++."""

    def __init__(self) -> None:
        super().__init__(NAME, "peers.zmq_member", PORT)

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
