"""What is shown while the demo runs: a table on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TextIO, TypeAlias

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .demo_book import Book, Process
from .demo_crew import Crew
from .demo_reports import PathSeen

REFRESH_S = 0.25
_LAST_LINES = 8
_LAST_LINES_TIGHT = 3
WIDE_COLUMNS = 100
"""On less the table is written with fewer words, so that no row takes two lines."""
_TABLE_LINES = 5
"""Of a table besides its rows: title, headings and borders."""
Cells: TypeAlias = Sequence[str | Text]
"""Of one row, behind the name of the node."""
_MARKS = {"suspect": "?", "down": "!"}
_STYLES = {"up": "green", "suspect": "yellow", "down": "red"}


class Show(Protocol):
    """Tells the user what happens."""

    def __enter__(self) -> Show: ...
    def __exit__(self, *_: object) -> None: ...

    def say(self, line: str) -> None:
        """Something has happened."""
        ...

    def refresh(self, crew: Crew) -> None:
        """Called a few times a second."""
        ...


class Lines:
    """One line for each thing that happens."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._start = time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, line: str) -> None:
        """At once, with the time."""
        print(f"{time.monotonic() - self._start:6.2f} s  {line}", file=self._file, flush=True)

    def refresh(self, crew: Crew) -> None:
        """Lines need none."""


class LiveTable:
    """A table that is redrawn, with the last things that happened."""

    def __init__(self, console: Console, names: Sequence[str], title: str) -> None:
        self._names = names
        self._title = title
        self._console = console
        self._start = time.monotonic()
        self._said: list[str] = []
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Shown beside the table with the next refresh."""
        self._said.append(f"{time.monotonic() - self._start:6.2f} s  {line}")

    def refresh(self, crew: Crew) -> None:
        """Draw anew."""
        processes = {name: hand.process for name, hand in crew.hands.items()}
        shown = compose(self._console, self._title, self._names, processes, self._said)
        self._live.update(shown, refresh=True)


def compose(
    console: Console,
    title: str,
    names: Sequence[str],
    processes: Mapping[str, Process],
    said: Sequence[str],
) -> Group:
    """The table, and what was said last: above it where the lines below might not be seen."""
    wide = console.width >= WIDE_COLUMNS
    # Below some 140 columns a row takes two lines while paths are suspect or down.
    if wide and console.height >= 2 * len(names) + _TABLE_LINES + _LAST_LINES:
        lines = [Text(line) for line in said[-_LAST_LINES:]]
        return Group(node_table(title, names, processes), *lines)
    lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in said[-_LAST_LINES_TIGHT:]]
    return Group(*lines, (node_table if wide else short_table)(title, names, processes))


def short_table(title: str, names: Sequence[str], processes: Mapping[str, Process]) -> Table:
    """`node_table` for a terminal of 80 columns: `!` is down, `?` suspect, and views unnamed."""
    table = Table(
        title=f"{title}; * carries the traffic, ? suspect, ! down",
        title_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for column in ("node", "view", "paths to its peers"):
        table.add_column(column)
    for column in ("recv/s", "gap", "barriers", "l/d/r"):
        table.add_column(column, justify="right", no_wrap=True)

    def cells(process: Process) -> Cells:
        rate, gap_ms = Book.recent(process)
        released, broken = _outcomes(process)
        return (
            f"{process.view.era}.{process.view.k}" if process.view else "-",
            _paths(process, names, _short_label, between="  "),
            f"{rate:.0f}",
            f"{gap_ms:.0f}ms",
            f"{released}" + (f" ([yellow]{broken}[/yellow])" if broken else ""),
            _checks(process),
        )

    return _fill(table, names, processes, cells)


def node_table(title: str, names: Sequence[str], processes: Mapping[str, Process]) -> Table:
    """One row for each node; one without a process is down."""
    table = Table(title=title, title_justify="left")
    for column in ("node", "view", "paths to its peers (* carries the traffic)"):
        table.add_column(column)
    for column in ("received/s", "gap in 1 s", "barriers", "lost/dup/reord"):
        table.add_column(column, justify="right")

    def cells(process: Process) -> Cells:
        rate, gap_ms = Book.recent(process)
        released, broken = _outcomes(process)
        return (
            _view(process, names),
            _paths(process, names, _label, between="   "),
            f"{rate:,.0f}",
            f"{gap_ms:.0f} ms",
            f"{released}" + (f" ([yellow]{broken} broken[/yellow])" if broken else ""),
            _checks(process),
        )

    return _fill(table, names, processes, cells)


def _fill(
    table: Table,
    names: Sequence[str],
    processes: Mapping[str, Process],
    cells: Callable[[Process], Cells],
) -> Table:
    for name in names:
        process = processes.get(name)
        if process is None:
            table.add_row(f"[red]{name}[/red]", *["-"] * (len(table.columns) - 1))
        else:
            table.add_row(name, *cells(process))
    return table


def _outcomes(process: Process) -> tuple[int, int]:
    """Barriers released and broken."""
    released = sum(not outcome.why for outcome in process.barriers)
    return released, len(process.barriers) - released


def _checks(process: Process) -> str:
    report = process.latest
    return f"{report.lost}/{report.duplicated}/{report.reordered}" if report else "-"


def _view(process: Process, names: Sequence[str]) -> str:
    view = process.view
    if view is None:
        return "joining"
    return f"{view.era}.{view.k}: " + " ".join(names[node - 1] for node, _ in view.members)


def _by_peer(process: Process) -> list[tuple[int, list[PathSeen]]]:
    peers: dict[int, list[PathSeen]] = {}
    for path in process.paths:
        peers.setdefault(path.peer, []).append(path)
    return sorted(peers.items())


def _paths(
    process: Process, names: Sequence[str], label: Callable[[PathSeen], str], *, between: str
) -> Text:
    text = Text()
    for place, (peer, paths) in enumerate(_by_peer(process)):
        text.append(between if place else "")
        text.append(f"{names[peer - 1]}:")
        for path in paths:
            text.append(label(path), style=_STYLES.get(path.state, ""))
    return text


def _label(path: PathSeen) -> str:
    words = path.rail if path.state == "up" else f"{path.rail} {path.state}"
    return f" {words}" + ("*" if path.primary else "")


def _short_label(path: PathSeen) -> str:
    return path.rail + _MARKS.get(path.state, "") + ("*" if path.primary else "")
