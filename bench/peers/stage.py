"""Where everything is measured: the hosts and rails of one lab, and a folder for files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from phalanx.barrier.demo_signals import ignore_signals, stoppable
from phalanx.transport.testing.lab import Lab

from .crew import Crew
from .lines import DRAIN_S, Delivered, Ready, Run, Sent, Task, Times, Trace
from .machine import busy_s

RAILS = ("a", "b")
START_S = 60.0
"""So long the members may take to come together."""
_HEAD_START_NS = 50_000_000
"""From saying when to begin to beginning, so that nobody hears it late."""
_SPARE_S = 10.0
"""From giving up to having said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Hosts that are up."""

    lab: Lab
    folder: Path

    def hosts(self, nodes: int) -> Sequence[str]:
        """The first hosts; the node id of the first is 1."""
        return self.lab.hosts[:nodes]


class System(Protocol):
    """phalanx, or one of its peers."""

    @property
    def name(self) -> str:
        """As on the command line."""
        ...

    def missing(self) -> list[str]:
        """What is not installed here, each with what to do about it."""
        ...

    def version(self) -> str:
        """What was measured."""
        ...

    def up(self, stage: Stage, nodes: int) -> AbstractContextManager[object]:
        """Servers and daemons on the first hosts, ready within the context."""
        ...

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """The command of each host's member for one run."""
        ...


class Mortal(System, Protocol):
    """A system of which a host may die."""

    notices_s: float
    """Longer than it takes to notice that, so that gaps are looked for so long."""

    def kill(self, host: str) -> None:
        """End at once what runs on a host beside its member."""
        ...


@contextmanager
def open_stage(hosts: int, *, offload: bool = True) -> Generator[Stage, None, None]:
    """Hosts and rails, removed at the end whatever happens.

    Without `offload` what is one for the kernel goes packet by packet, and each may be lost alone.

    The first Ctrl-C or SIGTERM ends what runs, and the next ones are ignored: what is being
    removed then is removed to the end.

    Raises:
        Interrupted: by such a signal.
    """
    with (
        stoppable(),
        tempfile.TemporaryDirectory(prefix="phalanx-bench-") as folder,
        Lab(hosts, RAILS, offload=offload) as lab,
    ):
        try:
            yield Stage(lab=lab, folder=Path(folder))
        finally:
            ignore_signals()


@contextmanager
def _gathered(
    stage: Stage, system: System, task: Task, loss_percent: float = 0.0
) -> Generator[Crew, None, None]:
    """All members, told when to begin; they leave at the end if all has gone well.

    So many of the packets that come to each member but the first are lost meanwhile.
    """
    with Crew(stage.lab) as crew:
        commands = system.commands(stage, task)
        for host, argv in zip(stage.hosts(task.nodes), commands, strict=True):
            crew.start(host, argv)
        crew.gather(Ready, START_S)
        with _lossy(stage, task.nodes, loss_percent):
            crew.tell(f"go {time.monotonic_ns() + _HEAD_START_NS}")
            yield crew
        crew.dismiss()


@contextmanager
def _lossy(stage: Stage, nodes: int, percent: float) -> Generator[None, None, None]:
    try:
        if percent:
            for host in stage.hosts(nodes)[1:]:
                for rail in stage.lab.rails:
                    stage.lab.loss(rail, host, percent, "in")
        yield
    finally:
        if percent:
            stage.lab.heal_all()


def run_rounds(stage: Stage, system: System, task: Task) -> Run[Times]:
    """One run of a barrier or a round trip; what each member has measured.

    Raises:
        BenchFailed: it did not come to its end.
    """
    with _gathered(stage, system, task) as crew:
        before_s = busy_s()
        return Run(crew.gather(Times, task.limit_s), busy_s() - before_s)


class Strike(Protocol):
    """What breaks."""

    def __call__(self, stage: Stage, system: Mortal, crew: Crew, nodes: int) -> None: ...


def run_pace(
    stage: Stage, system: Mortal, task: Task, strike: Strike, after_s: float
) -> tuple[int, int, list[Trace]]:
    """One run of messages at a pace, in which something breaks after so many seconds.

    Returns when it was broken, how many messages were sent, and what came at each member that was
    heard to the end.

    Raises:
        BenchFailed: it did not come to its end.
    """
    try:
        with _gathered(stage, system, task) as crew:
            time.sleep(after_s + _HEAD_START_NS / 1e9)  # so much of the pace is to be undisturbed
            at_ns = time.monotonic_ns()
            strike(stage, system, crew, task.nodes)
            sent = crew.gather(Sent, task.limit_s)
            crew.tell(f"drain {sent[0].sent}")
            return at_ns, sent[0].sent, crew.gather(Trace, DRAIN_S + _SPARE_S)
    finally:
        stage.lab.heal_all()


def run_flood(
    stage: Stage, system: System, task: Task, *, loss_percent: float = 0.0
) -> Run[Delivered]:
    """One run of members sending flat out; what each of them was delivered.

    So many of the packets that come to each member but the first are lost, at random.

    Raises:
        BenchFailed: it did not come to its end.
    """
    with _gathered(stage, system, task, loss_percent) as crew:
        before_s = busy_s()
        sent = crew.gather(Sent, task.limit_s)
        crew.tell(" ".join(["drain", *(str(member.sent) for member in sent)]))
        return Run(crew.gather(Delivered, DRAIN_S + _SPARE_S), busy_s() - before_s)
