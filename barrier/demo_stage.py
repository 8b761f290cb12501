"""Where the demo plays: hosts and rails of a lab, or the loopback interface as the last resort."""

from __future__ import annotations

import importlib
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from phalanx.transport.drivers import kernel_sctp
from phalanx.transport.drivers.sctp_socket import SctpSocket
from phalanx.transport.errors import DriverUnavailable
from phalanx.transport.testing.lab import Lab
from phalanx.transport.testing.loopback import cluster_file

from ..transport.config import MULTICAST
from ..transport.testing.lab_state import HOST_NAMES
from .demo_leftovers import own_tag

RAIL_NAMES = "abcdefgh"


def check_driver(name: str) -> None:
    """Find out before anything is built whether this machine has what is to carry the traffic.

    Raises:
        DriverUnavailable: it has not; the message says what to do.
    """
    if name == MULTICAST:
        return  # UDP is everywhere
    if name == "kernel_sctp" or (name == "auto" and kernel_sctp.available()):
        SctpSocket.open(socket.AF_INET).close()
        return
    try:
        importlib.import_module("phalanx._native._usrsctp")
    except ImportError as error:
        raise DriverUnavailable(
            f"the extension for user_sctp is not built ({error}); install libusrsctp-dev and "
            "build phalanx again"
        ) from error


class Stage(Protocol):
    """Hosts on rails; a context manager that removes everything at its end."""

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes; the id of the first is 1."""
        ...

    @property
    def rails(self) -> tuple[str, ...]:
        """Names of the rails."""
        ...

    @property
    def breakable(self) -> bool:
        """Whether rails can be broken."""
        ...

    def __enter__(self) -> Stage: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def configure(self, path: Path, driver: str, traffic: Mapping[str, bool]) -> None:
        """Write the cluster file."""
        ...

    def spawn(self, name: str, argv: Sequence[str], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a process on a host, with pipes as standard input and output."""
        ...

    def drop(self, rail: str, name: str) -> None:
        """Lose every packet silently."""
        ...

    def cut(self, rail: str, name: str) -> None:
        """Pull the cable."""
        ...

    def heal(self, rail: str, name: str) -> None:
        """Undo either."""
        ...

    def block(self, names: Sequence[str]) -> None:
        """Let no SCTP through between these; with none, it passes again."""
        ...


class LabStage:
    """One network namespace a host, one bridge a rail."""

    breakable = True

    def __init__(self, nodes: int, rails: int) -> None:
        self._lab = Lab(nodes, tuple(RAIL_NAMES[:rails]), own_tag())

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts."""
        return self._lab.hosts

    @property
    def rails(self) -> tuple[str, ...]:
        """The rails."""
        return self._lab.rails

    def __enter__(self) -> LabStage:
        self._lab.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lab.down()

    def configure(self, path: Path, driver: str, traffic: Mapping[str, bool]) -> None:
        """The lab knows the addresses."""
        self._lab.cluster_toml(path, name="demo", driver=driver, traffic=traffic)

    def spawn(self, name: str, argv: Sequence[str], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
        """A process in the host's namespace."""
        pipe = subprocess.PIPE
        return self._lab.spawn(name, argv, stdin=pipe, stdout=pipe, stderr=stderr)

    def drop(self, rail: str, name: str) -> None:
        """By the packet filter."""
        self._lab.drop(rail, name)

    def cut(self, rail: str, name: str) -> None:
        """At the switch, so that the host sees its carrier vanish."""
        self._lab.cut(rail, name, how="link")

    def heal(self, rail: str, name: str) -> None:
        """As before."""
        self._lab.heal(rail, name)

    def block(self, names: Sequence[str]) -> None:
        """By the packet filter."""
        self._lab.block_sctp(*names)


class LoopbackStage:
    """All nodes on 127.0.0.1, each with ports of its own; there is no cable to cut."""

    breakable = False
    rails = ("a",)

    def __init__(self, nodes: int) -> None:
        self.names = tuple(HOST_NAMES[:nodes])
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> LoopbackStage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        running = [child for child in self._children if child.poll() is None]
        for child in running:
            child.terminate()
        deadline = time.monotonic() + 2.0
        for child in running:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def configure(self, path: Path, driver: str, traffic: Mapping[str, bool]) -> None:
        """Ports that are free now."""
        cluster_file(path, self.names, cluster="demo", driver=driver, traffic=traffic)

    def spawn(self, name: str, argv: Sequence[str], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
        """An ordinary process; Ctrl-C in the terminal is left to the demo."""
        del name  # Every host is this machine.
        pipe = subprocess.PIPE
        child = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=stderr, start_new_session=True
        )
        self._children.append(child)
        return child

    # A plan for what is not `breakable` asks for none of these.

    def drop(self, rail: str, name: str) -> None:
        """There is no rail to break."""
        raise NotImplementedError(f"rail {rail} of {name} cannot be broken on loopback")

    cut = heal = drop

    def block(self, names: Sequence[str]) -> None:
        """There is no filter either."""
        raise NotImplementedError(f"SCTP between {names} cannot be blocked on loopback")
