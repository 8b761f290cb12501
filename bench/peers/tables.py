"""Results for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from .figures import Latency, Throughput, Verdict
from .machine import Machine

_STYLES = {True: ("yes", "green"), False: ("NO", "bold red"), None: ("", "")}


def latency_table(title: str, latencies: Sequence[Latency]) -> Table:
    """One row for each system and number of nodes."""
    table = make_table(title, "nodes", "system", "p50 µs", "range of p50", "p99 µs")
    for row in latencies:
        low, high = row.p50_range_us
        cells = (f"{row.p50_us:,.0f}", f"{low:,.0f}-{high:,.0f}", f"{row.p99_us:,.0f}")
        table.add_row(str(row.nodes), row.system, *cells)
    return table


def throughput_table(title: str, throughputs: Sequence[Throughput]) -> Table:
    """One row for each system and size."""
    checks = ("one order", "gaps", "all came")
    table = make_table(title, "bytes", "system", "per s", "range", "MB/s", *checks)
    for row in throughputs:
        low, high = row.per_s_range
        cells = (f"{row.per_s:,.0f}", f"{low:,.0f}-{high:,.0f}", f"{row.mb_per_s:,.1f}")
        table.add_row(
            f"{row.size_bytes:,}",
            row.system,
            *cells,
            _answer(row.same_order),
            _count(row.gaps),
            _answer(row.complete),
        )
    return table


def goodput_table(title: str, rows: Sequence[Throughput]) -> Table:
    """One row for each rate of loss, if anything is lost, size and system."""
    lossy = any(row.loss_percent for row in rows)
    columns = ("bytes", "system", "MB/s", "per s", "range", "gaps", "all came")
    table = make_table(title, *["lost"] * lossy, *columns)
    for row in rows:
        low, high = row.per_s_range
        table.add_row(
            *[f"{row.loss_percent:g} %"] * lossy,
            f"{row.size_bytes:,}",
            row.system,
            f"{row.mb_per_s:,.1f}",
            f"{row.per_s:,.0f}",
            f"{low:,.0f}-{high:,.0f}",
            _count(row.gaps),
            _answer(row.complete),
        )
    return table


def judged(verdicts: Sequence[Verdict]) -> list[Table]:
    """Ratios, and whether they keep to their limits; no table if nothing was compared."""
    if not verdicts:
        return []
    table = make_table("Ratios", "what", "ratio", "limit", "kept")
    for verdict in verdicts:
        limit = "" if verdict.limit is None else f"{verdict.sense} {verdict.limit:g}"
        table.add_row(verdict.what, f"{verdict.value:.3f}", limit, _answer(verdict.passed))
    return [table]


def made_on(machine: Machine, versions: Mapping[str, str]) -> str:
    """The line below the tables."""
    what = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{what}; {machine.cores} cores of {machine.processor}, Linux {machine.kernel}, "
        f"Python {machine.python}, load before {machine.load_before:g}"
    )


def make_table(title: str, *columns: str) -> Table:
    """Narrow enough for 80 columns."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in columns:
        words = column in ("system", "what")
        table.add_column(column, justify="left" if words else "right", no_wrap=not words)
    return table


def _count(gaps: int) -> Text:
    return Text(f"{gaps}", style="" if gaps == 0 else "bold red")


def _answer(passed: bool | None) -> Text:
    words, style = _STYLES[passed]
    return Text(words, style=style)
