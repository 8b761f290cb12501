"""usrsctp without phalanx: what the SCTP stack in user space can do, in C (`usrsctp_bench.c`)."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

from .client import Client
from .lines import Task
from .stage import Stage

NAME = "usrsctp in C"


class Usrsctp:
    """The ceiling: one association, one path, nothing around it."""

    name = NAME

    def __init__(self) -> None:
        self._client = Client(
            peer="usrsctp",
            source="usrsctp_bench.c",
            library="usrsctp",
            probe="#include <usrsctp.h>\nint main(void) { return usrsctp_finish(); }\n",
        )

    def missing(self) -> list[str]:
        """What is not installed here, with what to do about it."""
        return self._client.missing()

    def version(self) -> str:
        """The library does not say it."""
        return "of this system"

    def up(self, stage: Stage, nodes: int) -> AbstractContextManager[object]:
        """There is nothing to start besides its members, but they are there compiled."""
        del nodes
        self._client.compiled(stage)
        return contextlib.nullcontext()

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """The first host connects and sends."""
        sender, receiver = (
            stage.lab.address(stage.lab.rails[0], host) for host in stage.hosts(task.nodes)
        )
        client = self._client.compiled(stage)
        numbers = (task.size_bytes, task.warm_up_ns, task.window_ns, task.life_s)
        return [
            [client, str(node), own, peer, *map(str, numbers)]
            for node, own, peer in ((1, sender, receiver), (2, receiver, sender))
        ]
