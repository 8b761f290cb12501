"""`phalanx check`: the histories of one run, judged by the checkers of all guarantees."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from phalanx.transport.testing.evidence import Evidence
from phalanx.transport.testing.guarantees import Finding, judge
from phalanx.transport.testing.history_files import HistoryUnusable, load

EXIT_BROKEN = 1
EXIT_UNUSABLE = 2
SHOWN_MAX = 5
"""Breaches of each guarantee that are told; of the others there is the number."""
WIDE_COLUMNS = 100
_STYLES = {"held": "green", "broken": "red", "nothing to check": "yellow"}


def run(places: Sequence[Path], *, quiet: bool) -> int:
    """Judge the histories in these files and folders; returns the exit status.

    It is 0 if every guarantee that was put to the test held, 1 if one is broken, and 2 if the
    files cannot be judged.
    """
    try:
        evidence = load(places)
        if not evidence.histories:
            raise HistoryUnusable("in none of these histories is a view: there is nothing to check")
    except HistoryUnusable as error:
        print(f"phalanx check: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    findings = judge(evidence, quiet=quiet)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE_COLUMNS)
    console.print(_table(findings))
    for line in (*words(evidence), *breaches(findings)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return EXIT_BROKEN if any(finding.breaches for finding in findings) else 0


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(title_justify="left")
    table.add_column("", justify="right")
    table.add_column("guarantee")
    table.add_column("verdict")
    table.add_column("checked", justify="right")
    table.add_column("of what")
    for finding in findings:
        style = _STYLES[finding.verdict]
        table.add_row(
            str(finding.guarantee.number),
            finding.guarantee.name,
            f"[{style}]{finding.verdict}[/{style}]",
            f"{finding.checked:,}",
            finding.guarantee.what,
        )
    return table


def words(evidence: Evidence) -> list[str]:
    """What was read, and what could not be looked at in it."""
    members = sorted(evidence.by_member)
    nodes = {member.node for member in members}
    first = min(stay.installed.at_ns for h in evidence.histories for stay in h.stays)
    lines = [
        f"{len(members)} starts of {len(nodes)} nodes, {len(evidence.sent):,} messages sent, "
        f"{(evidence.end_ns - first) / 1e9:.1f} s from the first view to the end"
    ]
    if not evidence.one_clock:
        lines.append(
            "The times are of different clocks: that only one view was acted in (8), that nobody "
            "was released too early (9), and rails (13) are checked as far as that goes without."
        )
    unknown = {m for h in evidence.histories for stay in h.stays for m in stay.members}
    absent = sorted(unknown - evidence.by_member.keys())
    if absent:
        named = ", ".join(f"node {node}, start {incarnation}" for node, incarnation in absent)
        lines.append(
            f"There is no history of {named}: what it sent counts as never sent, and what it was "
            "given is not known."
        )
    return lines


def breaches(findings: Sequence[Finding]) -> list[str]:
    """The first breaches of each guarantee that is broken."""
    lines: list[str] = []
    for finding in findings:
        if finding.breaches:
            count = len(finding.breaches)
            times = "1 breach" if count == 1 else f"{count:,} breaches"
            lines.append(f"{finding.guarantee.number} {finding.guarantee.name}: {times}")
            lines += [f"  {breach}" for breach in finding.breaches[:SHOWN_MAX]]
            if count > SHOWN_MAX:
                lines.append(f"  and {count - SHOWN_MAX:,} more")
    return lines
