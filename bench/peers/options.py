"""What the programs of this folder are asked alike, and the same words for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from .compiled import HELP, Build
from .program import numbers

SIZE_STEP = 8
"""Messages begin with words."""
S = 1_000_000_000

Runs: TypeAlias = Annotated[int, typer.Option(min=1, max=100, help="The median of them counts.")]
Sizes: TypeAlias = Annotated[
    str, typer.Option(help=f"Of messages in bytes, multiples of {SIZE_STEP}.")
]
Seconds: TypeAlias = Annotated[
    float, typer.Option(min=0.1, max=600, help="In which deliveries are counted.")
]
WarmUp: TypeAlias = Annotated[float, typer.Option(min=0, max=60, help="Seconds before that.")]
PeersOnly: TypeAlias = Annotated[bool, typer.Option("--peers-only", help="Leave phalanx out.")]
HowBuilt: TypeAlias = Annotated[Build, typer.Option(help=HELP)]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Lines of JSON instead of tables.")]
Whole: TypeAlias = Annotated[
    Path | None,
    typer.Option("--report", dir_okay=False, help="Write the whole report to a file, as JSON."),
]
Plot: TypeAlias = Annotated[Path | None, typer.Option(dir_okay=False, help="Draw bars to a file.")]


def sizes_of(text: str, least: int, most: int) -> list[int]:
    """The sizes that `--sizes` names, in ascending order.

    Raises:
        typer.BadParameter: one cannot be.
    """
    wanted = sorted(set(numbers(text, "--sizes", least, most)))
    if any(size % SIZE_STEP for size in wanted):
        raise typer.BadParameter(f"use multiples of {SIZE_STEP}", param_hint="--sizes")
    return wanted
