"""All that the processes of the demo have reported, and what follows from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .demo_reports import SLOT_NS, BarrierSeen, Deliveries, PathMoved, PathSeen, Report, ViewSeen

SLOTS_A_SECOND = 1_000_000_000 // SLOT_NS


@dataclass(slots=True)
class Process:
    """What one process has reported."""

    node: int
    latest: Report | None = None
    deliveries: list[Deliveries] = field(default_factory=list[Deliveries])
    views: list[ViewSeen] = field(default_factory=list[ViewSeen])
    moves: list[PathMoved] = field(default_factory=list[PathMoved])
    barriers: list[BarrierSeen] = field(default_factory=list[BarrierSeen])
    notes: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    sent: dict[int, int] = field(default_factory=dict[int, int])
    """By incarnation: the number of the last message."""

    @property
    def paths(self) -> list[PathSeen]:
        """How it reaches its peers now."""
        return self.latest.paths if self.latest is not None else []

    @property
    def view(self) -> ViewSeen | None:
        """The view in which it is."""
        return self.views[-1] if self.views else None

    def received(self) -> dict[tuple[int, int], int]:
        """The last number by sender and incarnation."""
        streams = self.latest.streams if self.latest is not None else []
        return {(stream.sender, stream.incarnation): stream.last for stream in streams}


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Messages that did not arrive as they should have, in all processes together."""

    lost: int
    duplicated: int
    reordered: int

    @property
    def none(self) -> bool:
        """Whether everything was as it should be."""
        return not (self.lost or self.duplicated or self.reordered)


class Book:
    """The processes in the order of their start; a restarted node has several."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.carrier = ""

    def begin(self, node: int) -> Process:
        """A process is being started."""
        process = Process(node)
        self.processes.append(process)
        return process

    def add(self, process: Process, report: Report) -> None:
        """Take down one report."""
        process.latest = report
        process.deliveries += report.deliveries
        process.views += report.views
        process.moves += report.moves
        process.barriers += report.barriers
        process.notes += [(report.at_ns, note) for note in report.notes]
        process.sent[report.incarnation] = report.sent
        self.carrier = report.carrier or self.carrier

    # ---------------------------------------------------------------------------------- views

    def views(self) -> dict[tuple[int, int], tuple[tuple[int, ...], int]]:
        """By (era, k): the node ids, and when the first member had it installed."""
        found: dict[tuple[int, int], tuple[tuple[int, ...], int]] = {}
        for process in self.processes:
            for view in process.views:
                nodes = tuple(node for node, _ in view.members)
                before = found.get((view.era, view.k))
                at_ns = view.at_ns if before is None else min(before[1], view.at_ns)
                found[view.era, view.k] = (nodes, at_ns)
        return dict(sorted(found.items()))

    @staticmethod
    def installed_ns(
        processes: Iterable[Process], after_ns: int, *, without: int = 0, members: int = 0
    ) -> int | None:
        """When the last of these had a view without one node, or of so many; None if not all."""
        times: list[int] = []
        for process in processes:
            for view in process.views:
                nodes = {node for node, _ in view.members}
                if view.at_ns >= after_ns and without not in nodes and len(nodes) >= members:
                    times.append(view.at_ns)
                    break
            else:
                return None
        return max(times, default=None)

    # ------------------------------------------------------------------------------- messages

    def sent_total(self) -> int:
        """Messages multicast; of a process that was killed, as far as anybody knows."""
        last: dict[tuple[int, int], int] = defaultdict(int)
        for process in self.processes:
            for incarnation, number in process.sent.items():
                last[process.node, incarnation] = max(last[process.node, incarnation], number)
            for stream, number in process.received().items():
                last[stream] = max(last[stream], number)
        return sum(last.values())

    def delivered_total(self) -> int:
        """Deliveries at all processes."""
        return sum(item.count for process in self.processes for item in process.deliveries)

    def complete(self, living: Iterable[Process]) -> bool:
        """Whether all have stopped sending and have all that was sent."""
        processes = list(living)
        quiet = all(process.latest is not None and process.latest.quiet for process in processes)
        return quiet and not any(missing for _, missing in self._tails(processes))

    def _tails(self, living: list[Process]) -> Iterator[tuple[Process, int]]:
        """How many of the last messages of each living sender each living process lacks."""
        for sender in living:
            if sender.latest is None:
                continue
            key = (sender.node, sender.latest.incarnation)
            for receiver in living:
                yield receiver, max(0, sender.latest.sent - receiver.received().get(key, 0))

    def _disagreements(self, living: list[Process]) -> int:
        """Messages of processes that have ended which some survivors have and others lack."""
        incarnations = {(p.node, p.latest.incarnation) for p in living if p.latest is not None}
        last: dict[tuple[int, int], list[int]] = defaultdict(list)
        for process in living:
            for stream, number in process.received().items():
                if stream not in incarnations:
                    last[stream].append(number)
        return sum(max(numbers) - number for numbers in last.values() for number in numbers)

    def faults(self, living: Iterable[Process]) -> Faults:
        """What every process found wrong, and what was missing at the end among those living."""
        processes = list(living)
        reports = [process.latest for process in self.processes if process.latest is not None]
        missing = sum(missing for _, missing in self._tails(processes))
        missing += self._disagreements(processes)
        return Faults(
            lost=missing + sum(report.lost for report in reports),
            duplicated=sum(report.duplicated for report in reports),
            reordered=sum(report.reordered for report in reports),
        )

    # ----------------------------------------------------------------------------------- gaps

    def gap_ms(self, from_ns: int, to_ns: int, nodes: frozenset[int] | None = None) -> float | None:
        """The longest time between two deliveries of one sender at one receiver.

        It overlaps the time between the two arguments. With `nodes`, only senders and receivers
        among these count. None if nothing was delivered.
        """
        longest = -1
        for process in self.processes:
            if nodes is not None and process.node not in nodes:
                continue
            for item in process.deliveries:
                end_ns = (item.slot + 1) * SLOT_NS
                begin_ns = item.slot * SLOT_NS - item.gap_us * 1000
                counts = nodes is None or item.sender in nodes
                if counts and end_ns > from_ns and begin_ns < to_ns:
                    longest = max(longest, item.gap_us)
        return None if longest < 0 else longest / 1000

    @staticmethod
    def recent(process: Process) -> tuple[float, float]:
        """Deliveries a second and the longest gap in milliseconds, in the last second."""
        if process.latest is None or not process.deliveries:
            return 0.0, 0.0
        since = process.latest.at_ns // SLOT_NS - SLOTS_A_SECOND
        count, longest = 0, 0
        for item in reversed(process.deliveries):
            # A report lists its slots in order of time, so everything before is older.
            if item.slot < since:
                break
            count += item.count
            longest = max(longest, item.gap_us)
        return float(count), longest / 1000

    # ------------------------------------------------------------------------------- barriers

    def barriers(self) -> tuple[int, int]:
        """Generations that were released, and those that were broken.

        A broken generation breaks for every party alike, so the most that one process saw count.
        """
        released = {
            outcome.generation
            for process in self.processes
            for outcome in process.barriers
            if not outcome.why
        }
        broken = [sum(bool(b.why) for b in process.barriers) for process in self.processes]
        return len(released), max(broken, default=0)
