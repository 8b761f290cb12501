"""The demo's picture: what every node received in each ten milliseconds, and what was broken."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from phalanx.transport.errors import EnvironmentTrouble

from .demo_book import Book
from .demo_reports import SLOT_NS, ViewSeen
from .demo_script import Act, Mark

Axes: TypeAlias = Any
"""Of matplotlib, whose own annotations are incomplete, so that strict checking is no use here."""
Figure: TypeAlias = Any
Label: TypeAlias = Any
"""An `Annotation` of matplotlib."""

_S = 1_000_000_000
_MARGIN_S = 0.3
_FORMATS = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp", ".eps", ".ps")
_NAMED_MAX = 4
"""Of a view with more members only their number is written."""
_APART_PX = 6
"""At least so much between two labels of a row."""
_FAULT, _MENDED = "#c0392b", "#1e8449"
_VIEW = "#57606a"
_FAULT_ROW_PT, _VIEW_ROW_PT = 26.0, 11.0
"""From one row of labels to the next, in points."""
_FAULTS_UP_PT = 14.0
"""How much higher faults are written than what was mended."""
_POINTS = 72
"""Points in an inch."""
_BARS = ("#2f6db3", "#d97b1d", "#3a9a8f", "#8e5ea2", "#b0413e", "#6b8e23", "#555555")
_SPANS = (
    (Act.DROP, Act.HEAL_DROP),
    (Act.LINK_DOWN, Act.HEAL_LINK),
    (Act.BLOCK, Act.UNBLOCK),
    (Act.KILL, Act.RESTART),
)
_LABELS = {
    Act.HEAL_DROP: "restored",
    Act.HEAL_LINK: "restored",
    Act.UNBLOCK: "let through",
    Act.RESTART: "restarted",
}


class PlotUnavailable(EnvironmentTrouble):
    """There is no matplotlib, or the picture cannot be written."""


def check_path(path: Path) -> None:
    """Find out before the run whether the picture can be written at its end.

    Raises:
        PlotUnavailable: its suffix names no format, or the file cannot be written.
    """
    if path.suffix.lower() not in _FORMATS:
        raise PlotUnavailable(f"{path}: use one of the suffixes {' '.join(_FORMATS)}")
    there = os.path.lexists(path)
    try:
        path.open("ab").close()  # what is there stays until there is something better
        if not there:
            path.unlink()
    except OSError as error:
        raise PlotUnavailable(f"{path} cannot be written: {error.strerror or error}") from error


def draw(path: Path, figure: Figure) -> None:
    """Write the picture; the suffix of `path` says in which format.

    Raises:
        PlotUnavailable: the file cannot be written.
    """
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise PlotUnavailable(f"No picture: {path}: {error}") from error


def blank(width: float, height: float) -> Figure:
    """An empty picture of so many inches.

    Raises:
        PlotUnavailable: there is no matplotlib.
    """
    try:
        import matplotlib.figure as matplotlib_figure
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError as error:
        raise PlotUnavailable(
            f"No picture: matplotlib is not installed ({sys.executable} -m pip install matplotlib)"
        ) from error
    figure: Figure = matplotlib_figure.Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def make_figure(
    *,
    book: Book,
    marks: Sequence[Mark],
    names: Sequence[str],
    start_ns: int,
    go_ns: int,
    end_ns: int,
    title: str,
    captions: Mapping[Act, str],
) -> Figure:
    """The picture; `captions` say what came of a fault.

    Raises:
        PlotUnavailable: there is no matplotlib.
    """
    figure = blank(13, 1.6 + 1.75 * len(names))
    all_axes: Any = figure.subplots(len(names), 1, sharex=True, sharey=True, squeeze=False)
    rows: list[Axes] = [row[0] for row in all_axes]
    seconds = [(mark, (mark.at_ns - start_ns) / _S) for mark in marks]
    views: list[list[Label]] = []
    for number, (axes, name) in enumerate(zip(rows, names, strict=True), start=1):
        _deliveries(axes, book, number, name, start_ns)
        _faults(axes, seconds)
        views.append(_views(axes, book, number, start_ns, names))
    faults = _labels(rows[0], seconds, captions)
    rows[-1].set_xlabel("seconds since the processes were started")
    left, right = (go_ns - start_ns) / _S - _MARGIN_S, (end_ns - start_ns) / _S + _MARGIN_S
    rows[-1].set_xlim(max(0.0, left), right)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supylabel("messages delivered at each node in 10 ms (from all senders)", fontsize=10)
    figure.draw_without_rendering()  # now it is known how wide everything is
    _spread(faults, _FAULT_ROW_PT)
    _lead(faults)
    for row in views:
        _spread(row, -_VIEW_ROW_PT)
    return figure


def _deliveries(axes: Axes, book: Book, node: int, name: str, start_ns: int) -> None:
    """A filled step curve of all senders together; time without deliveries is a hole in it."""
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontweight="bold")
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    slots: Counter[int] = Counter()
    for process in book.processes:
        if process.node == node:
            for item in process.deliveries:
                slots[item.slot] += item.count
    if not slots:
        return
    every = range(min(slots) - 1, max(slots) + 2)
    times = [(slot * SLOT_NS - start_ns) / _S for slot in every]
    counts = [slots[slot] for slot in every]
    colour = _BARS[(node - 1) % len(_BARS)]
    axes.fill_between(times, counts, step="post", color=colour, alpha=0.75, linewidth=0)
    usual = sorted(counts)[int(len(counts) * 0.98)]
    axes.set_ylim(0, max(axes.get_ylim()[1] if node > 1 else 0.0, usual * 1.6, 5.0))


def _faults(axes: Axes, seconds: Sequence[tuple[Mark, float]]) -> None:
    at = {mark.act: second for mark, second in seconds}
    for begin, end in _SPANS:
        if begin in at:
            axes.axvline(at[begin], color=_FAULT, linewidth=1.3)
        if begin in at and end in at:
            axes.axvspan(at[begin], at[end], color=_FAULT, alpha=0.07, linewidth=0)
            axes.axvline(at[end], color=_MENDED, linewidth=1.3, linestyle=(0, (4, 2)))


def _labels(
    axes: Axes, seconds: Sequence[tuple[Mark, float]], captions: Mapping[Act, str]
) -> list[Label]:
    """Above the first row what was mended, and above that the faults; returns the faults."""
    faults: list[Label] = []
    for mark, second in seconds:
        mended = mark.act in _LABELS
        label = axes.annotate(
            _LABELS[mark.act] if mended else f"{mark.words}\n{captions.get(mark.act, '')}",
            (second, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, 4 if mended else 4 + _FAULTS_UP_PT),
            textcoords="offset points",
            color=_MENDED if mended else _FAULT,
            fontsize=9,
        )
        if not mended:
            faults.append(label)
    return faults


def _views(axes: Axes, book: Book, node: int, start_ns: int, names: Sequence[str]) -> list[Label]:
    """Where this node installed a view, and who is in it; in order of time."""
    return [
        axes.annotate(
            view_words(view, names),
            ((view.at_ns - start_ns) / _S, 0.95),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=8,
            color=_VIEW,
            va="top",
            annotation_clip=True,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
        )
        for process in book.processes
        if process.node == node
        for view in process.views
        if len(process.views) > 1 or len(view.members) < len(names) or process.deliveries
    ]


def view_words(view: ViewSeen, names: Sequence[str]) -> str:
    """The number of a view and its members."""
    members = [names[node - 1] for node, _ in view.members]
    if len(members) > _NAMED_MAX:
        return f"view {view.k}: {len(members)} of {len(names)} nodes"
    return f"view {view.k}: {', '.join(members)}"


def _spread(labels: Sequence[Label], step_pt: float) -> None:
    """Keep labels inside the picture, and move one that would hide another to a row with room."""
    ends: list[float] = []
    for label in labels:
        box = label.get_window_extent()
        too_far = max(0.0, box.x1 - label.axes.get_window_extent().x1)
        begin, end = box.x0 - too_far, box.x1 - too_far
        row = next((n for n, taken in enumerate(ends) if taken + _APART_PX <= begin), len(ends))
        ends[row : row + 1] = [end]
        right, up = label.xyann
        label.xyann = (right - too_far * _POINTS / label.figure.dpi, up + row * step_pt)


def _lead(labels: Sequence[Label]) -> None:
    """Carry the lines of the faults on, up to their labels."""
    for label in labels:
        label.axes.annotate(
            "",
            label.xy,
            xycoords=label.xycoords,
            xytext=(0, label.xyann[1] + _FAULT_ROW_PT),
            textcoords="offset points",
            arrowprops={
                "arrowstyle": "-",
                "color": _FAULT,
                "linewidth": 1.3,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
