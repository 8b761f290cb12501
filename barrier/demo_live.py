"""What is shown while the demo runs: a table on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .demo_book import Book, Process
from .demo_crew import Crew

REFRESH_S = 0.25
_LAST_LINES = 8
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
    """A table that is redrawn, with the last things that happened below."""

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
        """Shown below the table with the next refresh."""
        self._said.append(f"{time.monotonic() - self._start:6.2f} s  {line}")

    def refresh(self, crew: Crew) -> None:
        """Draw anew."""
        processes = {name: hand.process for name, hand in crew.hands.items()}
        table = node_table(self._title, self._names, processes)
        lines = [Text(line) for line in self._said[-_LAST_LINES:]]
        self._live.update(Group(table, *lines), refresh=True)


def node_table(title: str, names: Sequence[str], processes: Mapping[str, Process]) -> Table:
    """One row for each node; one without a process is down."""
    table = Table(title=title, title_justify="left")
    for column in ("node", "view", "paths to its peers (* carries the traffic)"):
        table.add_column(column)
    for column in ("received/s", "gap in 1 s", "barriers", "lost/dup/reord"):
        table.add_column(column, justify="right")
    for name in names:
        process = processes.get(name)
        if process is None:
            table.add_row(f"[red]{name}[/red]", *["-"] * 6)
            continue
        rate, gap_ms = Book.recent(process)
        report = process.latest
        checks = f"{report.lost}/{report.duplicated}/{report.reordered}" if report else "-"
        released = sum(not outcome.why for outcome in process.barriers)
        broken = len(process.barriers) - released
        table.add_row(
            name,
            _view(process, names),
            _paths(process, names),
            f"{rate:,.0f}",
            f"{gap_ms:.0f} ms",
            f"{released}" + (f" ([yellow]{broken} broken[/yellow])" if broken else ""),
            checks,
        )
    return table


def _view(process: Process, names: Sequence[str]) -> str:
    view = process.view
    if view is None:
        return "joining"
    return f"{view.era}.{view.k}: " + " ".join(names[node - 1] for node, _ in view.members)


def _paths(process: Process, names: Sequence[str]) -> Text:
    text = Text()
    peers: dict[int, list[tuple[str, str, bool]]] = {}
    for path in process.paths:
        peers.setdefault(path.peer, []).append((path.rail, path.state, path.primary))
    for place, (peer, rails) in enumerate(sorted(peers.items())):
        text.append("   " if place else "")
        text.append(f"{names[peer - 1]}:")
        for rail, state, primary in rails:
            label = rail if state == "up" else f"{rail} {state}"
            text.append(" ")
            text.append(label + ("*" if primary else ""), style=_STYLES.get(state, ""))
    return text
