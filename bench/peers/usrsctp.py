"""usrsctp without phalanx: what the SCTP stack in user space can do, in C (`usrsctp_bench.c`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from .failure import BenchFailed
from .lines import Task
from .machine import compile_client, compiler
from .stage import Stage

NAME = "usrsctp in C"
_SOURCE = Path(__file__).with_name("usrsctp_bench.c")
_HEADER = "#include <usrsctp.h>\nint main(void) { return usrsctp_finish(); }\n"


class Usrsctp:
    """The ceiling: one association, one path, nothing around it."""

    name = NAME

    def __init__(self) -> None:
        self._client: Path | None = None

    def missing(self) -> list[str]:
        """What is not installed here, with what to do about it."""
        if compiler() is None:
            return ["there is no C compiler; install the Debian package gcc"]
        with contextlib.suppress(BenchFailed):
            compile_client(
                "libusrsctp", "-x", "c", "-", "-o", os.devnull, library="usrsctp", text=_HEADER
            )
            return []
        return ["libusrsctp cannot be compiled against; install the Debian package libusrsctp-dev"]

    def version(self) -> str:
        """The library does not say it."""
        return "of this system"

    @contextmanager
    def up(self, stage: Stage, nodes: int) -> Generator[None, None, None]:
        """There is nothing to start besides its members, but they are there compiled."""
        del nodes
        if self._client is None:
            client = stage.folder / "usrsctp_bench"
            compile_client(
                "the client of usrsctp",
                *("-Werror", str(_SOURCE), "-o", str(client)),
                library="usrsctp",
            )
            self._client = client
        yield

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """The first host connects and sends."""
        assert self._client is not None, "compiled before"
        sender, receiver = (
            stage.lab.address(stage.lab.rails[0], host) for host in stage.hosts(task.nodes)
        )
        numbers = (task.size_bytes, task.warm_up_ns, task.window_ns, task.life_s)
        return [
            [str(self._client), str(node), own, peer, *map(str, numbers)]
            for node, own, peer in ((1, sender, receiver), (2, receiver, sender))
        ]
