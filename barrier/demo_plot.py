"""The demo's picture: what every node received in each ten milliseconds, and what was broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from phalanx.transport.errors import EnvironmentTrouble

from .demo_book import Book
from .demo_reports import SLOT_NS
from .demo_script import Act, Mark

Axes: TypeAlias = Any
"""Of matplotlib, whose own annotations are incomplete, so that strict checking is no use here."""

_S = 1_000_000_000
_MARGIN_S = 0.3
_FAULT, _MENDED = "#c0392b", "#1e8449"
_VIEW = "#7d8590"
_BARS = ("#2f6db3", "#d97b1d", "#3a9a8f", "#8e5ea2", "#b0413e", "#6b8e23", "#555555")
_SPANS = ((Act.DROP, Act.HEAL_DROP), (Act.LINK_DOWN, Act.HEAL_LINK), (Act.KILL, Act.RESTART))
_LABELS = {
    Act.HEAL_DROP: "restored",
    Act.HEAL_LINK: "restored",
    Act.RESTART: "restarted",
}


class PlotUnavailable(EnvironmentTrouble):
    """There is no matplotlib, or the picture cannot be written."""


def draw(
    path: Path,
    *,
    book: Book,
    marks: Sequence[Mark],
    names: Sequence[str],
    start_ns: int,
    go_ns: int,
    end_ns: int,
    title: str,
    captions: Mapping[Act, str],
) -> None:
    """Write the picture; the suffix of `path` says in which format.

    `captions` say what came of a fault.

    Raises:
        PlotUnavailable: there is no matplotlib, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotUnavailable(
            "No picture: matplotlib is not installed (pip install 'phalanx[plot]')"
        ) from error
    figure: Any = Figure(figsize=(13, 1.6 + 1.75 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes: Any = figure.subplots(len(names), 1, sharex=True, sharey=True, squeeze=False)
    rows: list[Axes] = [row[0] for row in all_axes]
    seconds = [(mark, (mark.at_ns - start_ns) / _S) for mark in marks]
    for number, (axes, name) in enumerate(zip(rows, names, strict=True), start=1):
        _deliveries(axes, book, number, name, start_ns)
        _faults(axes, seconds)
        _views(axes, book, number, start_ns, names)
    _labels(rows[0], seconds, captions)
    rows[-1].set_xlabel("seconds since the processes were started")
    left, right = (go_ns - start_ns) / _S - _MARGIN_S, (end_ns - start_ns) / _S + _MARGIN_S
    rows[-1].set_xlim(max(0.0, left), right)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supylabel("messages delivered in each 10 ms", fontsize=10)
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise PlotUnavailable(f"No picture: {path}: {error}") from error


def _deliveries(axes: Axes, book: Book, node: int, name: str, start_ns: int) -> None:
    """A filled step curve of all senders together; time without deliveries is a hole in it."""
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
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontweight="bold")
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _faults(axes: Axes, seconds: Sequence[tuple[Mark, float]]) -> None:
    at = {mark.act: second for mark, second in seconds}
    for begin, end in _SPANS:
        if begin in at:
            axes.axvline(at[begin], color=_FAULT, linewidth=1.3)
        if begin in at and end in at:
            axes.axvspan(at[begin], at[end], color=_FAULT, alpha=0.07, linewidth=0)
            axes.axvline(at[end], color=_MENDED, linewidth=1.3, linestyle=(0, (4, 2)))


def _labels(axes: Axes, seconds: Sequence[tuple[Mark, float]], captions: Mapping[Act, str]) -> None:
    for mark, second in seconds:
        fault = mark.act in {begin for begin, _ in _SPANS}
        caption = captions.get(mark.act, "")
        axes.annotate(
            f"{mark.words}\n{caption}" if fault else _LABELS[mark.act],
            (second, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, 4),
            textcoords="offset points",
            color=_FAULT if fault else _MENDED,
            fontsize=9,
        )


def _views(axes: Axes, book: Book, node: int, start_ns: int, names: Sequence[str]) -> None:
    """Where this node installed a view."""
    for process in book.processes:
        if process.node != node:
            continue
        for view in process.views:
            if len(process.views) > 1 or len(view.members) < len(names) or process.deliveries:
                axes.annotate(
                    f"view {view.k}",
                    ((view.at_ns - start_ns) / _S, 0.93),
                    xycoords=("data", "axes fraction"),
                    xytext=(3, 0),
                    textcoords="offset points",
                    fontsize=8,
                    color=_VIEW,
                    va="top",
                    annotation_clip=True,
                )
