"""The demo's closing words, and its closing line of JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from .demo_book import Book, Faults, Process
from .demo_script import WINDOW_S, Act, Mark

_S = 1_000_000_000
_WARM_UP_NS = _S // 5
"""The first deliveries after the start are not part of the baseline."""


class Result(msgspec.Struct, kw_only=True):
    """The closing line; times in milliseconds. What did not happen is null or left out."""

    nodes: int
    driver: str
    sent: int
    delivered: int
    lost: int
    duplicated: int
    reordered: int
    gap_ms: dict[str, float | None]
    """By fault."""
    views: list[dict[str, Any]]
    """`k`, `members` and `at_ms` since the processes were started."""
    barriers: dict[str, int]
    crash_detected_ms: float | None
    rejoined_ms: float | None


class Findings:
    """Everything that is said at the end, worked out once."""

    def __init__(
        self,
        *,
        book: Book,
        marks: Sequence[Mark],
        names: Sequence[str],
        living: Sequence[Process],
        start_ns: int,
        go_ns: int,
        end_ns: int,
    ) -> None:
        self._book = book
        self._marks = {mark.act: mark for mark in marks}
        self._in_order = list(marks)
        self._names = names
        self._living = living
        self._start_ns = start_ns
        self._go_ns = go_ns
        self._end_ns = end_ns
        self.faults: Faults = book.faults(living)
        self.gaps = {
            act.value: self._gap(act)
            for act in (Act.DROP, Act.LINK_DOWN, Act.BLOCK, Act.UNBLOCK)
            if act in self._marks
        }
        self.baseline_ms = self._baseline()
        self.crash_ms, self.kill_gap_ms = self._crash()
        self.rejoined_ms = self._rejoined()

    # -------------------------------------------------------------------------------- figures

    def _after(self, act: Act) -> tuple[int, int]:
        """From an act to two seconds later, or to what is done next."""
        mark = self._marks[act]
        later = [other.at_ns for other in self._in_order if other.at_ns > mark.at_ns]
        return mark.at_ns, min([mark.at_ns + int(WINDOW_S * _S), self._end_ns, *later])

    def _gap(self, act: Act) -> float | None:
        gap = self._book.gap_ms(*self._after(act))
        return None if gap is None else round(gap, 1)

    def _baseline(self) -> float | None:
        """The longest gap before anything was done."""
        begin = self._go_ns + _WARM_UP_NS
        first = min([mark.at_ns for mark in self._in_order], default=self._end_ns)
        # A gap that was still open at the fault belongs to the fault.
        return self._book.gap_ms(begin, min(begin + int(WINDOW_S * _S), first - _WARM_UP_NS))

    def _crash(self) -> tuple[float | None, float | None]:
        kill = self._marks.get(Act.KILL)
        if kill is None:
            return None, None
        killed = len(self._names)
        survivors = [process for process in self._book.processes if process.node != killed]
        at_ns = self._book.installed_ns(survivors, kill.at_ns, without=killed)
        others = frozenset(process.node for process in survivors)
        gap = self._book.gap_ms(*self._after(Act.KILL), others)
        return None if at_ns is None else round((at_ns - kill.at_ns) / 1e6, 1), gap

    def _rejoined(self) -> float | None:
        restart = self._marks.get(Act.RESTART)
        if restart is None:
            return None
        count = len(self._names)
        at_ns = self._book.installed_ns(self._living, restart.at_ns, members=count)
        return None if at_ns is None else round((at_ns - restart.at_ns) / 1e6, 1)

    @property
    def good(self) -> bool:
        """Whether all that was sent arrived as it should, and whoever was killed is back."""
        came_back = Act.RESTART not in self._marks or self.rejoined_ms is not None
        return self.faults.none and came_back

    # ---------------------------------------------------------------------------------- words

    def captions(self) -> dict[Act, str]:
        """What came of each fault, in a few words."""
        found = {
            Act(act): f"longest gap in deliveries {_ms(gap)}" for act, gap in self.gaps.items()
        }
        if Act.KILL in self._marks:
            found[Act.KILL] = f"new view after {_ms(self.crash_ms)}"
        return found

    def result(self) -> Result:
        """The closing line."""
        released, broken = self._book.barriers()
        return Result(
            nodes=len(self._names),
            driver=self._book.carrier,
            sent=self._book.sent_total(),
            delivered=self._book.delivered_total(),
            lost=self.faults.lost,
            duplicated=self.faults.duplicated,
            reordered=self.faults.reordered,
            gap_ms=self.gaps,
            views=[
                {"k": k, "members": list(members), "at_ms": round((at - self._start_ns) / 1e6)}
                for (_, k), (members, at) in self._book.views().items()
                if at <= self._end_ns
            ],
            barriers={"released": released, "broken": broken},
            crash_detected_ms=self.crash_ms,
            rejoined_ms=self.rejoined_ms,
        )

    def title(self, nodes: int, rails: int, rate: float) -> str:
        """The title of the picture: what was played, and what came of it."""
        networks = "1 rail" if rails == 1 else f"{rails} rails"
        return (
            f"phalanx demo: {nodes} nodes, {networks}, {rate:g} messages/s each, "
            f"{self._book.carrier}\n{self._verdict()}"
        )

    def _verdict(self) -> str:
        if self.faults.none:
            return "Nothing was lost, duplicated or reordered among the members that stayed."
        lost, twice, late = self.faults.lost, self.faults.duplicated, self.faults.reordered
        return f"WRONG: {lost:,} messages were lost, {twice:,} duplicated, {late:,} reordered."

    def words(self) -> list[str]:
        """The summary, a sentence a line."""
        result = self.result()
        lines = [
            f"{result.nodes} nodes over {result.driver}: {result.sent:,} messages multicast, "
            f"{result.delivered:,} delivered and checked.",
            self._verdict(),
        ]
        lines += self._fault_words()
        lines.append(
            f"Barriers: {result.barriers['released']} released, "
            f"{result.barriers['broken']} broken. Views: {self._view_words()}."
        )
        lines += self._notes()
        return lines

    def _fault_words(self) -> list[str]:
        lines: list[str] = []
        baseline = _ms(self.baseline_ms)
        for act, gap in self.gaps.items():
            words = self._marks[Act(act)].words
            lines.append(f"{words}: longest gap {_ms(gap)} (without a fault {baseline}).")
        if Act.KILL in self._marks:
            lines.append(
                f"{self._marks[Act.KILL].words}: the others had a view without it after "
                f"{_ms(self.crash_ms)}; longest gap among them {_ms(self.kill_gap_ms)}."
            )
            lines += self._told_words()
        if Act.RESTART in self._marks:
            lines.append(
                f"{self._marks[Act.RESTART].words}: a member again, in everybody's view, after "
                f"{_ms(self.rejoined_ms)}, with the start of its process."
            )
        return lines

    def _told_words(self) -> list[str]:
        killed = len(self._names)
        told = [
            self._names[process.node - 1]
            for process in self._book.processes
            if process.latest is not None and process.latest.undelivered.get(killed)
        ]
        if not told:
            return []
        *others, last = sorted(set(told))
        who = f"{', '.join(others)} and {last}" if others else last
        their = "their" if others else "its"
        return [f"{who} learnt by name that {self._names[-1]} does not hold {their} last messages."]

    def _view_words(self) -> str:
        names: Mapping[int, str] = dict(enumerate(self._names, start=1))
        shown = [
            f"{k} ({', '.join(names[node] for node in members)})"
            for (_, k), (members, at) in self._book.views().items()
            if at <= self._end_ns
        ]
        return ", ".join(shown) or "none"

    def _notes(self) -> list[str]:
        return [
            f"{self._names[process.node - 1]} at {(at - self._start_ns) / _S:.2f} s: {note}"
            for process in self._book.processes
            for at, note in process.notes
            if at <= self._end_ns + _S
        ]


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f} ms"
