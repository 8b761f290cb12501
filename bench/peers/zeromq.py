"""ZeroMQ: PUSH to PULL over TCP, by pyzmq, with everything its default."""

from __future__ import annotations

from .machine import missing_package, package_version
from .pair import Pair

NAME = "pyzmq"
PORT = 6005


class ZeroMq(Pair):
    """The peer that queues and batches in threads of its own, in C++."""

    def __init__(self) -> None:
        super().__init__(NAME, "peers.zmq_member", PORT)

    def missing(self) -> list[str]:
        """What is not installed here, with what to do about it."""
        return missing_package(NAME, module="zmq")

    def version(self) -> str:
        """Of the distribution."""
        return package_version("pyzmq")
