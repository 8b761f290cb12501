"""What the programs of this folder do alike: check, build, measure, tell, and clean up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from phalanx.barrier.demo_plot import Figure, check_path, draw
from phalanx.transport.errors import EnvironmentTrouble, PhalanxError
from phalanx.transport.testing.lab import ensure_privileges

from .figures import Verdict
from .json_lines import in_lines
from .machine import Machine, this_machine
from .stage import Stage, System, open_stage

EXIT_MISSED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
"""The first also if a run failed."""


class Report(Protocol):
    """What has been measured; a dataclass that becomes the JSON object."""

    @property
    def sound(self) -> bool:
        """Whether the figures mean what they say."""
        ...

    @property
    def verdicts(self) -> Sequence[Verdict]:
        """Ratios and limits."""
        ...

    def tables(self) -> Sequence[RenderableType]:
        """For people."""
        ...

    def figure(self) -> Figure:
        """The bar chart.

        Raises:
            PlotUnavailable: there is no matplotlib.
        """
        ...


class Steps:
    """Progress on standard error: a bar on a terminal, elsewhere a line a step."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True)
        self._task = self._bar.add_task("building hosts and rails", total=total)
        self._begun = 0

    def __enter__(self) -> Steps:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def begin(self, words: str) -> None:
        """The step before is done, and this one begins."""
        self._bar.update(self._task, completed=self._begun, description=words)
        self._begun += 1
        if not self._console.is_terminal:
            print(words, file=sys.stderr, flush=True)


Work = Callable[[Stage, Steps, Machine], Report]


def carry_out(
    name: str,
    work: Work,
    systems: Sequence[System],
    *,
    hosts: int,
    steps: int,
    json: bool,
    plot: Path | None,
    offload: bool = True,
    whole: Path | None = None,
) -> int:
    """The whole program behind its arguments; returns the exit status.

    `whole` is a file for the whole report, as one object. The status is 0 if everything was
    measured and keeps to its limits, 1 if not, and 2 if something is missing on this machine.
    Without privileges the program is started again where it has them.
    """
    machine = this_machine()
    try:
        if plot is not None:
            check_path(plot)
        missing = [f"{system.name}: {words}" for system in systems for words in system.missing()]
        if missing:
            raise EnvironmentTrouble("\n".join(missing))
        ensure_privileges()
    except PhalanxError as error:
        return _complain(name, error, EXIT_USAGE)
    try:
        with Steps(steps) as progress, open_stage(hosts, offload=offload) as stage:
            report = work(stage, progress, machine)
        if plot is not None:
            draw(plot, report.figure())
    except KeyboardInterrupt:
        print(f"{name}: interrupted; hosts, rails and processes are removed", file=sys.stderr)
        return EXIT_INTERRUPTED
    except PhalanxError as error:
        return _complain(name, error, EXIT_MISSED)
    if whole is not None:
        whole.write_bytes(msgspec.json.encode(report))
    if json:
        for line in in_lines(report):
            print(line)
    else:
        console = Console()
        for table in report.tables():
            console.print(table)
    good = report.sound and all(verdict.passed is not False for verdict in report.verdicts)
    return 0 if good else EXIT_MISSED


def _complain(name: str, error: PhalanxError, status: int) -> int:
    for line in str(error).splitlines():
        print(f"{name}: {line}", file=sys.stderr)
    return status


def numbers(text: str, option: str, least: int, most: int) -> list[int]:
    """The numbers of an option, with commas between.

    Raises:
        typer.BadParameter: one is no number or out of range.
    """
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: give numbers with commas between", param_hint=option
        ) from None
    for number in found:
        if not least <= number <= most:
            raise typer.BadParameter(f"{number}: use {least} to {most}", param_hint=option)
    return found
