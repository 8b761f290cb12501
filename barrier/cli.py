"""The `phalanx` command."""

from __future__ import annotations

import enum
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from phalanx.transport.config import NODES_MAX
from phalanx.transport.core.spread import Kind
from phalanx.transport.errors import EnvironmentTrouble

from .cli_lab import lab_app

app = typer.Typer(
    name="phalanx",
    help="A cluster transport over several networks at once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(lab_app, name="lab")


class DriverName(enum.StrEnum):
    """What carries the traffic."""

    AUTO = "auto"
    USER_SCTP = "user_sctp"
    KERNEL_SCTP = "kernel_sctp"
    MULTICAST = "multicast"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"phalanx {importlib.metadata.version('phalanx')}")
        raise typer.Exit


@app.callback()
def phalanx(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """A cluster transport over several networks at once."""


@app.command()
def demo(
    nodes: Annotated[
        int, typer.Option(min=2, max=16, help="Hosts; below 3 no process is killed.")
    ] = 3,
    rails: Annotated[int, typer.Option(min=1, max=8, help="Networks between them.")] = 2,
    seconds: Annotated[float, typer.Option(min=4, max=3600, help="Length of the traffic.")] = 15,
    rate: Annotated[
        float, typer.Option(min=1, max=100_000, help="Messages of 200 bytes a second and node.")
    ] = 1000,
    driver: Annotated[DriverName, typer.Option(help="What carries it.")] = DriverName.AUTO,
    multicast: Annotated[
        bool,
        typer.Option(
            "--multicast", help="What goes to several goes once; and SCTP is blocked for a while."
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Only the closing line of JSON on standard output.")
    ] = False,
    output: Annotated[
        Path, typer.Option(dir_okay=False, help="The picture of what was delivered when.")
    ] = Path("demo.png"),
    keep: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="A new folder for the histories; see phalanx check."),
    ] = None,
) -> None:
    """Run a cluster on hosts and rails of its own while cables are cut and a process is killed.

    The exit status is 0 only if nothing was lost, duplicated or reordered among members that
    stayed, and every guarantee held.
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise typer.BadParameter(f"{keep}: there is something in it", param_hint="--keep")
    if not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"{output}: there is no such folder", param_hint="--output")
    from .demo import Options, run  # what draws and runs is loaded only where it is used

    options = Options(
        nodes=nodes,
        rails=rails,
        seconds=seconds,
        rate=rate,
        driver=driver.value,
        multicast=multicast,
        json=json,
        output=output,
        keep=keep,
    )
    raise typer.Exit(run(options))


@app.command()
def node(
    config: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The cluster file.")],
    name: Annotated[str, typer.Argument(help="Name or id of the node that this is.")],
    echo: Annotated[
        bool, typer.Option("--echo", help="Print received messages as NAME: TEXT.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to wait for the first view; without it, for ever."),
    ] = None,
    rejoin: Annotated[bool, typer.Option(help="Come back after an eviction.")] = True,
    readmit: Annotated[
        bool, typer.Option("--readmit", help="Start although the durable record is lost.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="A majority is gone for good: found the cluster anew, without state, on a "
            "majority of nodes that are all started so. Read docs/operations.md first.",
        ),
    ] = False,
) -> None:
    """Run one node in the foreground until Ctrl-C; lines of standard input are multicast."""
    from .node_command import NodeOptions, run

    options = NodeOptions(
        config=config,
        name=name,
        echo=echo,
        timeout=timeout,
        rejoin=rejoin,
        readmit=readmit,
        force=force,
    )
    raise typer.Exit(run(options))


@app.command()
def sim(
    seeds: Annotated[str, typer.Option(help="Which runs: 17, 1..3000, or 3,5,8..12.")] = "1..100",
    nodes: Annotated[
        int | None,
        typer.Option(
            min=2, max=NODES_MAX, help="Nodes of each cluster; without it, 2 to 5 by seed."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, max=256, help="Processes; 0: one for each core.")] = 0,
    trace: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write what happens in the first run, in words."),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Play a plan that a failure has left."),
    ] = None,
    shrink: Annotated[
        bool, typer.Option(help="Look for less that breaks the same guarantee.")
    ] = True,
) -> None:
    """Play random runs of a cluster with faults in virtual time, and check every guarantee.

    The exit status is 0 only if all of them held in every run. A seed gives the same run each
    time, on every machine.
    """
    from .sim_command import SimOptions, parse_seeds, read_plan, run

    try:
        options = SimOptions(
            seeds=parse_seeds(seeds),
            nodes=nodes,
            jobs=jobs,
            trace=trace,
            plan=read_plan(plan) if plan is not None else None,
            shrink=shrink,
            keep=Path(),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(_stoppable("sim", lambda: run(options)))


@app.command()
def sim_barrier(
    nodes: Annotated[
        str, typer.Option(help="Of how many nodes: 16,64,1024.")
    ] = "16,64,256,1024,4096",
    algorithm: Annotated[
        list[Kind] | None, typer.Option(help="Which schedules; without it, all of them.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is random.")] = 1,
    loss: Annotated[
        float, typer.Option(min=0, max=0.5, help="The share of messages that are lost.")
    ] = 0.0,
    absent: Annotated[str, typer.Option(help="Ranks that are dead, from 0: 0,3..5.")] = "",
    json: Annotated[bool, typer.Option("--json", help="A line of JSON for each run.")] = False,
    plot: Annotated[Path | None, typer.Option(dir_okay=False, help="Draw a picture.")] = None,
) -> None:
    """Play one barrier of very many nodes in virtual time, and count what it costs.

    The exit status is 0 only if nobody was released before all had arrived, everybody was in the
    end, and the dead were named by everybody. A seed gives the same counts on every machine.
    """
    from .sim_barrier_command import SimBarrierOptions, check, parse_absent, parse_nodes, run

    try:
        sizes = parse_nodes(nodes)
        options = SimBarrierOptions(
            nodes=sizes,
            kinds=tuple(algorithm or Kind),
            seed=seed,
            loss=loss,
            absent=parse_absent(absent, sizes),
            json=json,
            plot=plot,
        )
        check(options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(_stoppable("sim-barrier", lambda: run(options)))


def _stoppable(command: str, run: Callable[[], int]) -> int:
    """The exit status of a run that Ctrl-C may end, and whose files may be refused."""
    try:
        return run()
    except EnvironmentTrouble as error:
        typer.echo(f"phalanx {command}: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        typer.echo(f"phalanx {command}: interrupted", err=True)
        return 130


@app.command()
def check(
    histories: Annotated[
        list[Path], typer.Argument(help="History files, or folders with such files.")
    ],
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            help="The run had become quiet: all had arrived, and every sender been told so.",
        ),
    ] = False,
) -> None:
    """Judge what the applications of one run sent and saw by the thirteen guarantees.

    The exit status is 0 only if everything that was put to the test held, 1 if a guarantee is
    broken, and 2 if the files cannot be used.
    """
    from .check_command import run

    raise typer.Exit(run(histories, quiet=quiet))


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)
def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="barrier, failover, link, order, ...")],
) -> None:
    """Measure phalanx beside its peers: `phalanx bench NAME` is `python bench/NAME.py`.

    What follows the name are the arguments of that program; `--help` there has them.
    """
    from .bench_command import NAMES, run

    if name not in NAMES:
        words = f"there is no benchmark {name!r}; use one of {', '.join(NAMES)}"
        raise typer.BadParameter(words, param_hint="NAME")
    raise typer.Exit(_stoppable("bench", lambda: run(name, context.args)))


def main() -> None:
    """Entry point."""
    app()
