"""The arithmetic of a result: percentiles, medians over runs, ratios and verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .lines import Delivered, Run, Times

WARM_UP_SHARE = 0.1
"""Of each member's rounds, the first ones, which do not count."""
US = 1000.0

OWN = "phalanx"
"""The system whose figures are judged; its name may say more behind a comma."""

Sense = Literal["at most", "at least"]


def is_own(system: str) -> bool:
    """Whether it is phalanx, in one way or another."""
    return system.partition(",")[0] == OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long one thing took; medians over the runs."""

    system: str
    nodes: int
    rounds: int
    runs: int
    p50_us: float
    p99_us: float
    p50_range_us: tuple[float, float]
    """The p50 of the fastest and of the slowest run."""
    cpu_s_per_million: float | None = None
    """Processor time of the whole machine for a million of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Members sending flat out; medians over the runs."""

    system: str
    nodes: int
    size_bytes: int
    runs: int
    window_s: float
    per_s: float
    """Deliveries a second at the slowest node, all senders together."""
    per_s_range: tuple[float, float]
    mb_per_s: float
    """10^6 bytes of payload a second at that node."""
    same_order: bool
    """In every run the sequence of (sender, payload) had one hash at all nodes."""
    gaps: int
    """Messages that did not follow their sender's last one, in all runs and at all nodes."""
    complete: bool
    """In every run everything sent was delivered at every node in the end."""
    loss_percent: float = 0.0
    """Of the packets that came to each receiver, at random."""
    cpu_s_per_million: float | None = None
    """Processor time of the whole machine for a million deliveries at a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A ratio, and whether it keeps to its limit."""

    what: str
    value: float
    limit: float | None
    """None: nothing is asked of it."""
    sense: Sense
    passed: bool | None
    """None where nothing is asked."""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least that share of all values do not exceed (nearest rank)."""
    assert values, "a run that measured nothing has failed before"
    assert 0 < share <= 1, "a share of nothing has no value"
    rank = -int(-share * len(values) // 1)  # rounded up
    return sorted(values)[min(len(values), max(1, rank)) - 1]


def warmed_up(values: Sequence[int]) -> Sequence[int]:
    """Without the first rounds."""
    return values[int(len(values) * WARM_UP_SHARE) :]


def _per_million(runs: Sequence[Sequence[object]], counts: Sequence[int]) -> float | None:
    costs = [
        run.cpu_s / count * 1e6
        for run, count in zip(runs, counts, strict=True)
        if isinstance(run, Run) and run.cpu_s is not None and count
    ]
    return round(statistics.median(costs), 2) if costs else None


def latency(system: str, nodes: int, rounds: int, runs: Sequence[Sequence[Times]]) -> Latency:
    """Of runs, each with the times of its members: percentiles over members and rounds."""
    pooled = [[ns for times in run for ns in warmed_up(times.ns)] for run in runs]
    middles = [percentile(values, 0.50) / US for values in pooled]
    return Latency(
        system=system,
        nodes=nodes,
        rounds=rounds,
        runs=len(runs),
        p50_us=round(statistics.median(middles), 1),
        p99_us=round(statistics.median(percentile(v, 0.99) / US for v in pooled), 1),
        p50_range_us=(round(min(middles), 1), round(max(middles), 1)),
        cpu_s_per_million=_per_million(runs, [rounds] * len(runs)),
    )


def throughput(
    system: str,
    nodes: int,
    size_bytes: int,
    window_ns: int,
    runs: Sequence[Sequence[Delivered]],
    *,
    loss_percent: float = 0.0,
) -> Throughput:
    """Of runs, each with what was delivered at its members."""
    rates = [min(member.delivered for member in run) / (window_ns / 1e9) for run in runs]
    middle = statistics.median(rates)
    members = [member for run in runs for member in run]
    return Throughput(
        system=system,
        nodes=nodes,
        size_bytes=size_bytes,
        runs=len(runs),
        window_s=window_ns / 1e9,
        per_s=round(middle, 1),
        per_s_range=(round(min(rates), 1), round(max(rates), 1)),
        mb_per_s=round(middle * size_bytes / 1e6, 2),
        same_order=all(len({(m.hash, m.total) for m in run}) == 1 for run in runs),
        gaps=sum(member.gaps for member in members),
        complete=all(member.complete for member in members),
        loss_percent=loss_percent,
        cpu_s_per_million=_per_million(runs, [min(m.total for m in run) for run in runs]),
    )


def ratio(
    what: str, value: float, other: float, limit: float | None = None, sense: Sense = "at most"
) -> Verdict:
    """`value` / `other`, to three digits behind the point; judged as it is shown."""
    assert other > 0, "what was measured took time, or delivered something"
    shown = round(value / other, 3)
    passed = None
    if limit is not None:
        passed = shown <= limit if sense == "at most" else shown >= limit
    return Verdict(what=what, value=shown, limit=limit, sense=sense, passed=passed)


def absolute(what: str, value: float, limit: float) -> Verdict:
    """A value that is no ratio, and may be so large at most."""
    return Verdict(what=what, value=value, limit=limit, sense="at most", passed=value <= limit)


def flowed_mb_per_s(run: Sequence[Times]) -> float:
    """What all members together received from the others, in 10^6 bytes a second."""
    return sum(t.received_bytes / (t.elapsed_ns / 1e9) for t in run if t.elapsed_ns) / 1e6
