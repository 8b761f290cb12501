"""What the conformance suite needs of a place to run drivers in.

To put another driver under the suite, write one class with the methods of `Bench` (or use
`netns_bench.NetnsBench` with the driver's name), and subclass the cases:

    class TestMyDriver(LinkCases, FrameCases, RailCases, ProcessCases):
        @pytest.fixture(scope="class")
        @classmethod
        def bench(cls) -> Iterator[Bench]:
            with MyBench() as bench:
                yield bench

`ProcessCases` is for drivers that run in processes on real networks; a bench whose class leaves
it out need not offer `send_datagram`, `hold_port`, `kill` and `memory_bytes`.

A bench has hosts numbered from 1, each with one address on rail "a" and one on rail "b". It is
used by all cases of a class; `reset` runs after each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from phalanx.transport.config import SctpTuning
from phalanx.transport.drivers.base import (
    Driver,
    Input,
    Link,
    LinkLost,
    LinkUp,
    LocalEndpoint,
    PeerEndpoint,
    Received,
)

T = TypeVar("T")

RAILS = ("a", "b")
WAIT_S = 10.0
"""Deadline of whatever must happen; a case that measures has a bound of its own."""


@dataclass
class Log:
    """All inputs of one driver so far, with the time of each in monotonic nanoseconds."""

    inputs: list[Input] = field(default_factory=list[Input])
    times_ns: list[int] = field(default_factory=list[int])

    def of(self, kind: type[T]) -> list[T]:
        """The inputs of that class, in order."""
        return [one for one in self.inputs if isinstance(one, kind)]

    def frames(self, link: Link, stream: int | None = None) -> list[bytes]:
        """Frames received on a link (and stream), in order."""
        return [
            one.frame
            for one in self.of(Received)
            if one.link == link and stream in (None, one.stream)
        ]


class Host(Protocol):
    """One driver on one host. Its calls are those of `Driver`, and these."""

    @property
    def driver(self) -> Driver:
        """The driver; already open."""
        ...

    @property
    def peer(self) -> PeerEndpoint:
        """How others connect to it."""
        ...

    @property
    def log(self) -> Log:
        """What it has reported so far; grows only in `wait` and `collect`."""
        ...

    def collect(self, seconds: float) -> None:
        """Watch `fileno()` and poll for up to that long; return after the first inputs."""
        ...

    def now_ns(self) -> int:
        """The clock of `Log.times_ns`."""
        ...

    def read(self, on: bool) -> None:
        """Poll the driver whenever it is readable (the default), or not at all."""
        ...

    def stream(self, link: Link, *, count: int, every_ns: int, size: int) -> None:
        """Send `count` frames on FIFO, one each `every_ns`; the first 8 bytes are its number.

        Returns at once. A frame that is refused is sent again when the link is writable.
        """
        ...

    def sent(self) -> int:
        """How many frames of the current `stream` were accepted."""
        ...

    def memory_bytes(self) -> int:
        """Resident memory of the host's process."""
        ...

    def kill(self) -> None:
        """SIGKILL the process: nothing is sent, nothing is closed in order."""
        ...


class Bench(Protocol):
    """Hosts on two rails, and faults."""

    name: str
    """Of the driver, for messages."""

    def start(
        self,
        number: int,
        *,
        tuning: SctpTuning | None = None,
        absent: Sequence[str] = (),
    ) -> Host:
        """Make and open the driver of a host; rails in `absent` have no address there.

        Raises what `Driver.open` raises.
        """
        ...

    def endpoint(self, number: int) -> LocalEndpoint: ...

    def cut(self, number: int, rail: str) -> None:
        """Drop every packet of a host on a rail; nobody is told."""
        ...

    def link_down(self, number: int, rail: str) -> None:
        """Take the host's interface on that rail down; the host sees it."""
        ...

    def heal(self, number: int, rail: str) -> None:
        """Undo `cut` and `link_down`."""
        ...

    def send_datagram(self, source: int, target: int, payload: bytes) -> None:
        """Throw UDP at the encapsulation port of a host, from another one, on rail a."""
        ...

    def hold_port(self, number: int) -> None:
        """Have another process take the ports that a host's driver needs, until `reset`."""
        ...

    def reset(self) -> None:
        """End all hosts and heal all rails."""
        ...


def wait(host: Host, until: Callable[[Log], T | None], seconds: float = WAIT_S) -> T:
    """Collect inputs until the condition gives a true value; that value.

    Raises:
        AssertionError: it did not by the deadline; says what came instead.
    """
    deadline = host.now_ns() + int(seconds * 1e9)
    while True:
        found = until(host.log)
        if found:
            return found
        left = deadline - host.now_ns()
        if left <= 0:
            last = [repr(one)[:160] for one in host.log.inputs[-12:]]
            raise AssertionError(f"not within {seconds:g} s; the last inputs were {last}")
        host.collect(left / 1e9)


def wait_frames(host: Host, link: Link, count: int, seconds: float = WAIT_S) -> list[bytes]:
    """Wait until that many frames have come on a link; all of them."""
    wait(host, lambda log: len(log.frames(link)) >= count, seconds)
    return host.log.frames(link)


def link_up(host: Host, link: Link) -> LinkUp:
    """Wait until a link is up."""
    return wait(host, lambda log: next((u for u in log.of(LinkUp) if u.link == link), None))


def accepted(host: Host, number: int = 0) -> LinkUp:
    """Wait for the `number`-th link that the host has accepted."""

    def find(log: Log) -> LinkUp | None:
        found = [one for one in log.of(LinkUp) if one.accepted]
        return found[number] if len(found) > number else None

    return wait(host, find)


def lost(host: Host, link: int, seconds: float = 10.0) -> LinkLost:
    """Wait until a link is lost."""
    return wait(
        host, lambda log: next((x for x in log.of(LinkLost) if x.link == link), None), seconds
    )


def join(dialler: Host, listener: Host, number: int = 0) -> tuple[Link, Link]:
    """Connect two hosts; the link as each of them numbers it."""
    link = dialler.driver.connect(listener.peer)
    link_up(dialler, link)
    return link, accepted(listener, number).link
