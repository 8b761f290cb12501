"""The thirteen guarantees of the design, each with its checkers, and what they found in a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import barrier_checkers, channel_checkers, checkers, path_checkers
from .checkers import Checker
from .evidence import Evidence, History
from .history import Read
from .lives import Lives, evidence_of

Count = Callable[[Evidence], int]
"""How often a run put a guarantee to the test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """One guarantee, and who checks it."""

    number: int
    name: str
    checkers: tuple[Checker, ...]
    quiet: tuple[Checker, ...] = ()
    """What holds as well once faults and traffic have stopped for long enough."""
    counts: Count
    what: str
    """What is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of one guarantee in one run."""

    guarantee: Guarantee
    checked: int
    """How often it was put to the test."""
    breaches: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """In a word or three."""
        if self.breaches:
            return "broken"
        return "held" if self.checked else "nothing to check"


def _deliveries(evidence: Evidence) -> int:
    return sum(
        len(got.messages) for h in evidence.histories for stay in h.stays for _, got in stay.got
    )


def _receipts(evidence: Evidence) -> int:
    """Messages whose sender was told what became of them."""
    found = 0
    for history in evidence.histories:
        settled: Counter[tuple[int, int]] = Counter()
        for stay in history.stays:
            for told in stay.told:
                settled[told.to, told.lane] = max(settled[told.to, told.lane], told.number)
        found += sum(
            sending.number <= settled[sending.to, sending.lane] and not sending.refused
            for sending in history.sent
        )
    return found


def _together(evidence: Evidence) -> int:
    """Changes of view that at least two histories went through together."""
    went = Counter(
        (stay.view, stay.next)
        for history in evidence.histories
        for stay in history.stays
        if stay.next is not None
    )
    return sum(times > 1 for times in went.values())


def _ordered(evidence: Evidence) -> int:
    """Positions of the agreed order that at least two histories tell of."""
    entries: Counter[object] = Counter()
    for history in evidence.histories:
        for got in history.ordered:
            entries.update((got.view, got.first + more) for more in range(len(got.messages)))
        for _, record in history.channels:
            if isinstance(record, Read):
                era, k, first = record.first.era, record.first.k, record.first.index
                places = range(first, first + len(record.messages))
                entries.update((record.channel, era, k, place) for place in places)
        entries.update(
            (returned.name, returned.position)
            for _, returned in history.returns.values()
            if returned.position is not None
        )
    return sum(times > 1 for times in entries.values())


def _safe(evidence: Evidence) -> int:
    """Entries that were read, and whose publishers had asked for safe delivery."""
    found = 0
    for history in evidence.histories:
        for _, record in history.channels:
            messages = record.messages if isinstance(record, Read) else ()
            sent = (evidence.sent.get(message) for message in messages)
            found += sum(sending is not None and sending.safe for sending in sent)
    return found


def _views(evidence: Evidence) -> int:
    return len({stay.view for history in evidence.histories for stay in history.stays})


def _releases(evidence: Evidence) -> int:
    return sum(
        returned.verdict == "released"
        for history in evidence.histories
        for _, returned in history.returns.values()
    )


def _outcomes(evidence: Evidence) -> int:
    """Generations of which at least two histories tell the outcome."""
    told = Counter(
        (returned.name, returned.generation)
        for history in evidence.histories
        for _, returned in history.returns.values()
        if returned.generation is not None and returned.verdict != "unknown"
    )
    return sum(times > 1 for times in told.values())


def _calls(evidence: Evidence) -> int:
    """Calls that had a deadline."""
    return sum(
        sum(arrived.deadline_ns is not None for _, arrived in history.arrivals.values())
        + len(history.calls)
        for history in evidence.histories
    )


def _rails(evidence: Evidence) -> int:
    return sum(_rails_lost(history) for history in evidence.histories)


def _rails_lost(history: History) -> int:
    """How often a path went down and another one to that peer remained."""
    down: dict[int, set[str]] = {}
    lost_ns: dict[int, list[int]] = {}
    for _, path in history.paths:
        lost, times = down.setdefault(path.peer, set()), lost_ns.setdefault(path.peer, [])
        if path.state == "up":
            lost.discard(path.rail)
            continue
        lost.add(path.rail)
        if len(lost) >= len(history.rails):
            # Not a rail was lost, but the peer: the others were told just before.
            while times and times[-1] > path.at_ns - history.lease_ns:
                times.pop()
        elif path.state == "down":
            times.append(path.at_ns)
    return sum(map(len, lost_ns.values()))


GUARANTEES: tuple[Guarantee, ...] = (
    Guarantee(
        number=1,
        name="integrity",
        checkers=(checkers.identity, checkers.integrity, channel_checkers.channel_entries),
        counts=_deliveries,
        what="deliveries",
    ),
    Guarantee(
        number=2, name="FIFO", checkers=(checkers.fifo,), counts=_deliveries, what="deliveries"
    ),
    Guarantee(
        number=3,
        name="guaranteed delivery",
        checkers=(checkers.guaranteed_delivery,),
        quiet=checkers.QUIET,
        counts=_receipts,
        what="receipts",
    ),
    Guarantee(
        number=4,
        name="view synchrony",
        checkers=(checkers.view_synchrony,),
        counts=_together,
        what="changes of view of several together",
    ),
    Guarantee(
        number=5,
        name="one stream",
        checkers=(checkers.one_stream,),
        counts=_deliveries,
        what="deliveries",
    ),
    Guarantee(
        number=6,
        name="agreed order",
        checkers=(
            checkers.agreed_order,
            checkers.barrier_order,
            channel_checkers.channel_order,
            channel_checkers.channel_state,
        ),
        quiet=channel_checkers.CHANNELS_QUIET,
        counts=_ordered,
        what="positions that several saw",
    ),
    Guarantee(
        number=7,
        name="safe delivery",
        checkers=(channel_checkers.safe_delivery,),
        counts=_safe,
        what="safe deliveries",
    ),
    Guarantee(
        number=8,
        name="one primary",
        checkers=(checkers.one_primary, checkers.continuity, checkers.never_silent),
        counts=_views,
        what="views",
    ),
    Guarantee(
        number=9,
        name="barrier safety",
        checkers=(barrier_checkers.barrier_safety,),
        counts=_releases,
        what="releases",
    ),
    Guarantee(
        number=10,
        name="barrier cut",
        checkers=(barrier_checkers.barrier_cut,),
        counts=_releases,
        what="releases",
    ),
    Guarantee(
        number=11,
        name="barrier uniformity",
        checkers=(
            barrier_checkers.barrier_uniformity,
            barrier_checkers.barrier_payloads,
            barrier_checkers.barrier_tokens,
        ),
        counts=_outcomes,
        what="outcomes that several saw",
    ),
    Guarantee(
        number=12,
        name="no hang",
        checkers=(barrier_checkers.no_hang,),
        counts=_calls,
        what="calls with a deadline",
    ),
    Guarantee(
        number=13,
        name="path transparency",
        checkers=(path_checkers.last_rail_lost,),
        counts=_rails,
        what="rails lost while another remained",
    ),
)
"""In the order of the design."""


def judge(lives: Lives, *, quiet: bool = False) -> list[Finding]:
    """Run all checkers over one run.

    Args:
        quiet: the run had become quiet before it ended: everything sent had arrived, and every
            sender was told so.
    """
    evidence = evidence_of(lives)
    return [
        Finding(
            guarantee=guarantee,
            checked=guarantee.counts(evidence),
            breaches=tuple(
                breach
                for checker in (*guarantee.checkers, *(guarantee.quiet if quiet else ()))
                for breach in checker(evidence)
            ),
        )
        for guarantee in GUARANTEES
    ]


def complain(findings: Sequence[Finding], *, each: int = 5) -> str:
    """The first breaches of each guarantee, a line each; empty if all held."""
    return "\n".join(
        f"{finding.guarantee.number} {finding.guarantee.name}: {breach}"
        for finding in findings
        for breach in finding.breaches[:each]
    )
