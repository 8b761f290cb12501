"""Two hosts as network namespaces on two rails, and drivers of both in this one process.

A kernel socket stays in the namespace it was made in, so one process can hold both ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from phalanx.transport.config import PROFILES, SctpTuning
from phalanx.transport.drivers.base import (
    Driver,
    Input,
    Link,
    LinkLost,
    LinkUp,
    LocalEndpoint,
    PathNotice,
    PathState,
    PeerEndpoint,
    Received,
)
from phalanx.transport.drivers.kernel_sctp import KernelSctp

RAILS = ("a", "b")
NETWORKS = {
    "a": ipaddress.ip_network("10.71.0.0/24"),
    "b": ipaddress.ip_network("10.72.0.0/24"),
}
PORT = 5405
UDP_PORT = 9899
DEADLINE_S = 20.0
"""For things that take milliseconds on a machine and up to a second in the guest."""

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def sh(command: str) -> None:
    """Run a command line that must succeed."""
    result = subprocess.run(
        ["sh", "-ec", command],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def entered(namespace: str) -> Generator[None]:
    """What this thread opens inside belongs to that network namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(there)
        yield
    finally:
        _setns(home)
        os.close(there)
        os.close(home)


@dataclass
class Host:
    """One network namespace with an interface on each rail."""

    name: str
    number: int

    @property
    def addresses(self) -> dict[str, str]:
        return {"a": f"10.71.0.{self.number}", "b": f"10.72.0.{self.number}"}

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """What is opened inside belongs to this host."""
        return entered(self.name)

    def sh(self, command: str) -> None:
        """Run a command line on this host."""
        sh(f"ip netns exec {self.name} sh -ec '{command}'")

    def transmitted_bytes(self, rail: str) -> int:
        """What has left this host over a rail so far."""
        show = ["ip", "-n", self.name, "-j", "-s", "link", "show", f"rail-{rail}"]
        output = subprocess.run(show, check=True, capture_output=True, text=True).stdout
        count: int = json.loads(output)[0]["stats64"]["tx"]["bytes"]
        return count

    def endpoint(
        self, *, port: int = PORT, addresses: Mapping[str, str] | None = None
    ) -> LocalEndpoint:
        """This host as the place where a driver listens."""
        return LocalEndpoint(
            node=self.number,
            addresses=self.addresses if addresses is None else addresses,
            networks=NETWORKS,
            port=port,
            udp_port=UDP_PORT,
        )

    def peer(self, *, port: int = PORT, addresses: Mapping[str, str] | None = None) -> PeerEndpoint:
        """This host as others dial it."""
        return PeerEndpoint(
            node=self.number,
            addresses=self.addresses if addresses is None else addresses,
            port=port,
            udp_port=UDP_PORT,
        )


LEFT = Host("left", 1)
RIGHT = Host("right", 2)
HOSTS = (LEFT, RIGHT)
NOBODY = Host("nobody", 77)
"""A host that does not exist."""


def build() -> None:
    """Make both hosts and join them by one cable per rail."""
    lines = [f"ip netns add {host.name}; ip -n {host.name} link set lo up" for host in HOSTS]
    for rail in RAILS:
        lines.append(
            f"ip link add rail-{rail} netns left type veth peer name rail-{rail} netns right"
        )
        for host in HOSTS:
            address = f"{host.addresses[rail]}/24"
            lines.append(f"ip -n {host.name} addr add {address} dev rail-{rail}")
            lines.append(f"ip -n {host.name} link set rail-{rail} up")
    sh("; ".join(lines))


def cut_commands(rail: str) -> str:
    """Drop everything on a rail, silently and both ways."""
    return "; ".join(
        f"tc -n {host.name} qdisc replace dev rail-{rail} root netem loss 100%" for host in HOSTS
    )


def heal_commands() -> str:
    """Undo every cut and bring all links up."""
    lines = [
        f"tc -n {host.name} qdisc delete dev rail-{rail} root 2>/dev/null || true;"
        f"ip -n {host.name} link set rail-{rail} up"
        for host in HOSTS
        for rail in RAILS
    ]
    return "; ".join(lines)


@contextlib.contextmanager
def background_shell() -> Generator[Callable[[str], None]]:
    """Runs command lines without stopping the caller, which measures gaps meanwhile."""
    with subprocess.Popen(["sh", "-e"], stdin=subprocess.PIPE, text=True) as process:
        stdin = process.stdin
        assert stdin is not None, "stdin is a pipe"

        def run(command: str) -> None:
            stdin.write(f"{command}\n")
            stdin.flush()

        yield run
        stdin.close()
        assert process.wait(DEADLINE_S) == 0, "a command of the background shell failed"


def demolish() -> None:
    """Remove both hosts with all they have."""
    sh("; ".join(f"ip netns delete {host.name}" for host in HOSTS))


@dataclass
class End:
    """One driver on one host, with everything that it has reported."""

    host: Host
    driver: Driver
    seen: list[Input] = field(default_factory=list[Input])

    def connect(self, peer: PeerEndpoint) -> Link:
        with self.host.entered():
            return self.driver.connect(peer)

    def poll(self) -> list[Input]:
        inputs = self.driver.poll()
        self.seen.extend(inputs)
        return inputs

    def frames(self, stream: int | None = None) -> list[bytes]:
        """Frames received so far, in order."""
        return [
            item.frame
            for item in self.seen
            if isinstance(item, Received) and stream in (None, item.stream)
        ]

    def ups(self) -> list[LinkUp]:
        return [item for item in self.seen if isinstance(item, LinkUp)]

    def losses(self) -> list[LinkLost]:
        return [item for item in self.seen if isinstance(item, LinkLost)]

    def paths_said(self, state: PathState) -> set[str]:
        """Rails that a notice has called so."""
        return {notice.rail for notice in self.path_notices() if notice.state is state}

    def path_notices(self) -> list[PathNotice]:
        return [item for item in self.seen if isinstance(item, PathNotice)]


def kernel_end(
    host: Host,
    *,
    tuning: SctpTuning = PROFILES["lan"].sctp,
    encapsulation_port: int = 0,
    port: int = PORT,
    addresses: Mapping[str, str] | None = None,
) -> End:
    """An open kernel driver on a host."""
    driver = KernelSctp(
        host.endpoint(port=port, addresses=addresses),
        tuning,
        encapsulation_port=encapsulation_port,
    )
    with host.entered():
        driver.open()
    return End(host, driver)


def pump(
    ends: Sequence[End],
    until: Callable[[], bool],
    *,
    what: str,
    limit_s: float = DEADLINE_S,
    tick_ms: float | None = None,
) -> None:
    """Serve drivers until something is true; fail, saying what was awaited, at the limit.

    `tick_ms` is for conditions that no input announces: they are looked at this often.
    """
    poller = select.poll()
    by_descriptor = {end.driver.fileno(): end for end in ends}
    for descriptor in by_descriptor:
        poller.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + limit_s
    while not until():
        wait_ms = (deadline - time.monotonic()) * 1000
        assert wait_ms > 0, f"no {what} within {limit_s:g} s; seen: {[end.seen for end in ends]}"
        for descriptor, _ in poller.poll(min(wait_ms, tick_ms or wait_ms)):
            by_descriptor[descriptor].poll()


def join(left: End, right: End) -> tuple[int, int]:
    """Connect left to right over both rails; return the link's number at each."""
    link = left.connect(right.host.peer())
    pump([left, right], lambda: bool(left.ups() and right.ups()), what="association")
    wait_for_paths(left, link, "ab", right)
    back = right.ups()[-1].link
    wait_for_paths(right, back, "ab", left)
    return link, back


def wait_for_paths(end: End, link: Link, rails: str, *others: End) -> None:
    """Wait until exactly these rails lead to the peer, in the kernel's eyes."""

    def there() -> bool:
        usable = {item.rail for item in end.driver.paths(link) if item.state is not PathState.DOWN}
        return usable == set(rails)

    pump([end, *others], there, what=f"paths {rails}", tick_ms=20)


def wait_readable(ends: Sequence[End], seconds: float) -> None:
    """Wait until one of the drivers has something to give, or the time is over."""
    poller = select.poll()
    for end in ends:
        poller.register(end.driver.fileno(), select.POLLIN)
    poller.poll(seconds * 1000)
