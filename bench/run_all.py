"""Measure everything, and write the figures into docs/performance.md (`make bench`).

    python bench/run_all.py
    python bench/run_all.py --only order,link --runs 3

Each program runs with all its peers, which are to be installed (see docs/performance.md). What it
has measured is kept as JSON below .build/bench, drawn into docs/, and written between the marks
in docs/performance.md, with the command that does it again. It takes about two hours.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from peers.barrier_result import BarrierReport
from peers.failover_result import FailoverReport
from peers.link_result import LinkReport
from peers.multicast_result import MulticastReport
from peers.order_result import OrderReport
from peers.program import EXIT_INTERRUPTED, EXIT_MISSED, EXIT_USAGE
from peers.scale_result import ScaleReport

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A program, and what it is to measure."""

    name: str
    title: str
    report: type[Any]
    arguments: tuple[str, ...] = ()
    runs: bool = True
    """It can be told how often."""

    def command(self, runs: int | None) -> list[str]:
        """Behind the interpreter, without what tells it where to put the result."""
        more = ["--runs", str(runs)] if runs is not None and self.runs else []
        return [f"bench/{self.name}.py", *self.arguments, *more]


JOBS = (
    Job(
        name="barrier",
        title="A barrier",
        report=BarrierReport,
        arguments=(
            *("--nodes", "2,4,8,16", "--rounds", "1000", "--background", "50"),
            *("--peer", "corosync", "--peer", "redis", "--peer", "zookeeper"),
            *("--peer", "openmpi", "--peer", "udp"),
        ),
    ),
    Job(
        name="order",
        title="Agreed order",
        report=OrderReport,
        arguments=("--peer", "corosync", "--fan-out", "--sizes", "64,1024,16384,65536,1047552"),
    ),
    Job(name="multicast", title="Multicast", report=MulticastReport, arguments=("--peer", "norm")),
    Job(
        name="link",
        title="One to one",
        report=LinkReport,
        arguments=("--peer", "pyzmq", "--peer", "tcp", "--peer", "usrsctp"),
    ),
    Job(
        name="failover",
        title="Failures",
        report=FailoverReport,
        arguments=("--peer", "corosync"),
    ),
    Job(name="scale", title="As the cluster grows", report=ScaleReport, runs=False),
)


def in_markdown(table: Table) -> str:
    """A table of the terminal as one of a page."""
    columns = [[_plain(cell) for cell in column.cells] for column in table.columns]
    heads = [_plain(column.header) for column in table.columns]
    lines = [f"**{table.title}**", "", _row(heads)]
    lines.append(_row(["--:" if column.justify == "right" else "---" for column in table.columns]))
    lines += [_row(cells) for cells in zip(*columns, strict=True)]
    return "\n".join([*lines, ""])


def _plain(cell: object) -> str:
    return (cell.plain if isinstance(cell, Text) else str(cell)).replace("|", "\\|")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def section(job: Job, text: str, command: str, picture: str) -> str:
    """What the page says of one program's result."""
    report = msgspec.json.decode(text, type=job.report)
    *tables, made_on = report.tables()
    parts = [f"### {job.title}, as measured\n", f"`{command}`\n"]
    parts += [in_markdown(table) for table in tables]
    parts += [f"![{job.title}]({picture})\n", f"{made_on}. {date.today().isoformat()}.\n"]
    return "\n".join(parts)


def replaced(page: str, sections: Sequence[str]) -> str:
    """The page with these between its marks.

    Raises:
        ValueError: the page has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no place for figures: {BEGIN!r} and {END!r} in this order")
    return "\n".join([before + begin, *sections, end + after]) if sections else page


def main(
    only: Annotated[
        str, typer.Option(help="Programs, with commas between; the others stay as they were.")
    ] = "",
    runs: Annotated[
        int | None, typer.Option(min=1, max=100, help="Instead of each program's own number.")
    ] = None,
    results: Annotated[Path, typer.Option(file_okay=False, help="Where results are kept.")] = (
        ROOT / ".build" / "bench"
    ),
    page: Annotated[Path, typer.Option(dir_okay=False, help="What is rewritten.")] = PAGE,
) -> None:
    """Run the programs, and write what they have measured into the page.

    The exit status is that of the programs: the worst of them.
    """
    wanted = only.split(",") if only else [job.name for job in JOBS]
    unknown = sorted(set(wanted) - {job.name for job in JOBS})
    if unknown:
        names = ", ".join(job.name for job in JOBS)
        raise typer.BadParameter(f"{unknown[0]!r}: use some of {names}", param_hint="--only")
    try:
        replaced(page.read_text(encoding="utf-8"), [""])
    except (OSError, ValueError) as error:  # before two hours of measuring, and not after them
        raise typer.BadParameter(str(error), param_hint="--page") from None
    results.mkdir(parents=True, exist_ok=True)
    worst = 0
    for job in JOBS:
        if job.name not in wanted:
            continue
        picture = page.parent / f"bench-{job.name}.png"
        whole = results / f"{job.name}.json"
        whole.unlink(missing_ok=True)
        argv = [*job.command(runs), "--report", str(whole), "--plot", str(picture)]
        typer.echo(f"{job.title}: {' '.join(argv)}", err=True)
        done = subprocess.run([sys.executable, *argv], cwd=ROOT, check=False)
        worst = max(worst, done.returncode)
        if done.returncode not in (0, EXIT_MISSED) or not whole.exists():
            if done.returncode in (EXIT_USAGE, EXIT_INTERRUPTED):
                raise typer.Exit(done.returncode)
            continue  # It has said why; the figures of before stay.
        command = f".venv/bin/python {' '.join(job.command(runs))}"
        made = section(job, whole.read_text(encoding="utf-8"), command, picture.name)
        (results / f"{job.name}.md").write_text(made, encoding="utf-8")
    made = [results / f"{job.name}.md" for job in JOBS]
    sections = [part.read_text(encoding="utf-8") for part in made if part.exists()]
    page.write_text(replaced(page.read_text(encoding="utf-8"), sections), encoding="utf-8")
    raise typer.Exit(worst)


if __name__ == "__main__":
    typer.run(main)
