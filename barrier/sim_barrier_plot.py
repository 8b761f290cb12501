"""The picture of `phalanx sim-barrier`: what a node sends, by the number of nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .demo_plot import Axes, blank, check_path, draw

if TYPE_CHECKING:
    from .sim_barrier_command import Row

__all__ = ["check_path", "plot"]

_LOOKS: dict[str, dict[str, object]] = {
    "all-to-all": {"color": "#b0413e", "marker": "o", "markersize": 4},
    # Under the tree's, which sends as many messages: both have to be seen.
    "coordinator": {"color": "#d97b1d", "marker": "s", "markersize": 8, "linewidth": 4},
    "dissemination": {"color": "#2f6db3", "marker": "o", "markersize": 4},
    "tree": {"color": "#3a9a8f", "marker": "D", "markersize": 4},
}
_Figure = Callable[["Row"], float]


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Draw the rows and write the picture.

    Raises:
        PlotUnavailable: there is no matplotlib, or the file cannot be written.
    """
    figure = blank(13, 4.6)
    messages, payload, rounds = figure.subplots(1, 3)
    _curves(messages, rows, lambda row: row.messages_mean, lambda row: row.messages_max)
    _curves(payload, rows, lambda row: row.bytes_mean, lambda row: row.bytes_max)
    _curves(rounds, rows, lambda row: row.rounds, None)
    messages.set_title("messages sent by a node", fontsize=11)
    payload.set_title("payload bytes sent by a node", fontsize=11)
    rounds.set_title("rounds: the longest chain of messages", fontsize=11)
    messages.set_yscale("log")
    payload.set_yscale("log")
    rounds.set_ylim(bottom=0)
    messages.plot([], [], color="#57606a", linestyle=(0, (4, 2)), label="its busiest node")
    messages.legend(fontsize=9, frameon=False)
    figure.suptitle(
        "One barrier, by the number of its parties",
        x=0.01,
        ha="left",
        fontsize=12,
        fontweight="bold",
    )
    draw(path, figure)


def _curves(axes: Axes, rows: Sequence[Row], mean: _Figure, most: _Figure | None) -> None:
    for algorithm, look in _LOOKS.items():
        own = [row for row in rows if row.algorithm == algorithm]
        nodes = [row.nodes for row in own]
        axes.plot(nodes, [mean(row) for row in own], label=algorithm, **look)
        if most is not None:
            busiest = [most(row) for row in own]
            axes.plot(nodes, busiest, color=look["color"], linestyle=(0, (4, 2)))
    every = sorted({row.nodes for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(every, [f"{nodes:,}" for nodes in every], rotation=45, fontsize=8)
    axes.minorticks_off()
    axes.set_xlabel("nodes")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
