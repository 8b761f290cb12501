"""Results as bars, one colour a system."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phalanx.barrier.demo_plot import Figure, blank

from .figures import Throughput

_COLOURS = {
    "phalanx": "#2f6db3",
    "phalanx, fan-out": "#1d8a99",
    "corosync": "#d97b1d",
    "redis": "#b0413e",
    "norm": "#7a5195",
    "phalanx, datagrams": "#1d8a99",
    "pyzmq": "#b0413e",
    "asyncio tcp": "#8a8d91",
    "usrsctp in C": "#d97b1d",
    "phalanx, agreed order": "#1d8a99",
    "phalanx, active rails": "#3aa655",
    "zookeeper": "#3aa655",
    "openmpi": "#7a5195",
    "bare udp": "#8a8d91",
    "corosync, tuned": "#e8a95b",
    "corosync, active links": "#8a5a1d",
}
_FOOTNOTE_COLUMNS = 16
"""Characters of the footnote for each inch."""
_TICKS_MAX = 12
"""Where curves have no more points than that, these are named."""
_WIDTH = 0.8
"""Of a group; the rest is the space between two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """How high, and from where to where the runs or the tail reach."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One diagram: groups of bars, one bar a system."""

    title: str
    unit: str
    groups: Mapping[str, Mapping[str, Bar]]
    """By the words below the group, then by system."""
    logarithmic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """One diagram: a line a system."""

    title: str
    across: str
    unit: str
    curves: Mapping[str, Sequence[tuple[float, float]]]


def megabytes(row: Throughput) -> Bar:
    """MB/s, and their range: all of the rates as they are told, so that none is out of it."""
    value, low, high = (rate * row.size_bytes / 1e6 for rate in (row.per_s, *row.per_s_range))
    return Bar(value=value, low=low, high=high)


def make_figure(title: str, footnote: str, panels: Sequence[Panel | Curves]) -> Figure:
    """The diagrams side by side.

    Raises:
        PlotUnavailable: there is no matplotlib.
    """
    width = 2 + 4.5 * len(panels)
    figure = blank(width, 4.5)
    all_axes: Any = figure.subplots(1, len(panels), squeeze=False)
    for axes, panel in zip(all_axes[0], panels, strict=True):
        if isinstance(panel, Panel):
            _draw_panel(axes, panel)
        else:
            _draw_curves(axes, panel)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    below = textwrap.fill(footnote, int(width * _FOOTNOTE_COLUMNS))
    figure.supxlabel(below, x=0.01, ha="left", fontsize=7)
    return figure


def _draw_panel(axes: Any, panel: Panel) -> None:
    systems = list(dict.fromkeys(name for group in panel.groups.values() for name in group))
    width = _WIDTH / max(1, len(systems))
    for place, system in enumerate(systems):
        found = [
            (number + (place - (len(systems) - 1) / 2) * width, group[system])
            for number, group in enumerate(panel.groups.values())
            if system in group
        ]
        values = [bar.value for _, bar in found]
        reach = [
            [bar.value - bar.low for _, bar in found],
            [bar.high - bar.value for _, bar in found],
        ]
        drawn = axes.bar(
            [at for at, _ in found],
            values,
            width * 0.92,
            label=system,
            color=_COLOURS.get(system, "#555555"),
            yerr=reach,
            error_kw={"ecolor": "#444444", "elinewidth": 0.8, "capsize": 2},
        )
        words = [f"{value:,.0f}" if value >= 10 else f"{value:.2g}" for value in values]
        axes.bar_label(drawn, words, fontsize=7, padding=2)
    axes.set_xticks(range(len(panel.groups)), list(panel.groups))
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set_ylabel(panel.unit, fontsize=9)
    if panel.logarithmic:
        lows = [bar.low for group in panel.groups.values() for bar in group.values()]
        least = min((low for low in lows if low > 0), default=1.0)
        axes.set_yscale("log")
        axes.set_ylim(bottom=10.0 ** math.floor(math.log10(least)))


def _draw_curves(axes: Any, panel: Curves) -> None:
    for system, points in panel.curves.items():
        across, up = [at for at, _ in points], [value for _, value in points]
        colour = _COLOURS.get(system)  # of others: one after the other
        axes.plot(across, up, label=system, linewidth=1, marker=".", markersize=3, color=colour)
    places = sorted({at for points in panel.curves.values() for at, _ in points})
    if len(places) <= _TICKS_MAX:
        axes.set_xticks(places, [f"{at:g}" for at in places])
    axes.set_yscale("log")
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set_xlabel(panel.across, fontsize=9)
    axes.set_ylabel(panel.unit, fontsize=9)
