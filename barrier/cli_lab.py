"""`phalanx lab`: hosts and rails on this machine, from the command line.

Each command acts on the lab called by `--name`, so several terminals can use the same lab, and
several labs can be up at once. Without root the commands move into the user namespace that
`phalanx lab up` has left behind.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from ..transport.errors import PhalanxError
from ..transport.testing.lab import Lab, LabState, lab_names
from ..transport.testing.lab_privileges import enter_lab, release_holder, start_holder_and_enter
from ..transport.testing.lab_state import alive

lab_app = typer.Typer(
    name="lab",
    help="Hosts and rails on this machine, to be cut, dropped and healed at will.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Option("--name", "-n", help="Which lab.")]
Rail = Annotated[str, typer.Argument(help="A rail, such as a.")]
Host = Annotated[str, typer.Argument(help="A host: its name, such as alpha, or its node id.")]
Direction = Annotated[str, typer.Option(help="Seen from the host: in, out or both.")]


@contextmanager
def _reported() -> Generator[None, None, None]:
    """Turn our own exceptions into one line on standard error and exit status 1."""
    try:
        yield
    except PhalanxError as error:
        typer.echo(f"phalanx lab: {error}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def _lab(name: str) -> Generator[Lab, None, None]:
    with _reported():
        enter_lab(name)
        yield Lab.open(name)


@lab_app.command()
def up(
    name: Name = "lab",
    hosts: Annotated[int, typer.Option(help="Number of hosts.")] = 3,
    rails: Annotated[str, typer.Option(help="Names of the rails, with commas between.")] = "a,b",
    mtu: Annotated[int, typer.Option(help="MTU of the rails in bytes.")] = 1500,
    ipv6: Annotated[bool, typer.Option("--ipv6", help="IPv6 addresses, too.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Also write a cluster file for the hosts here."),
    ] = None,
) -> None:
    """Build hosts and rails; they stay until `phalanx lab down`."""
    if config is not None and not config.absolute().parent.is_dir():
        raise typer.BadParameter(f"{config}: there is no such folder", param_hint="--config")
    with _reported():
        lab = Lab(hosts, tuple(rails.split(",")), name, mtu=mtu, ipv6=ipv6)
        enter_lab(name)
        start_holder_and_enter()
        try:
            lab.up()
        except PhalanxError:
            release_holder()
            raise
        if config is not None:
            try:
                lab.cluster_toml(config)
            except PhalanxError:
                # Who asked for the file has no use for the lab without it.
                lab.down()
                raise
            typer.echo(f"wrote {config}")
    _show(lab)


@lab_app.command()
def down(
    name: Name = "lab",
    everything: Annotated[bool, typer.Option("--all", help="All labs of this user.")] = False,
) -> None:
    """End what the lab has started and remove it; no error if there is none."""
    with _reported():
        for each in lab_names() if everything else [name]:
            enter_lab(each)
            if each in lab_names():
                Lab.open(each).down()
                typer.echo(f"lab {each} is down")


@lab_app.command()
def shell(host: Host, name: Name = "lab") -> None:
    """A shell on a host; it ends with the lab at the latest."""
    with _lab(name) as lab:
        typer.echo(f"on {lab.namespace(host)}; leave with exit")
        _become(lab, host, [os.environ.get("SHELL", "/bin/sh")])


class _Run(TyperCommand):
    """Shows in its usage where the other command begins."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        *before, _ = super().collect_usage_pieces(ctx)
        return [*before, "--", "COMMAND..."]


@lab_app.command(cls=_Run, context_settings={"ignore_unknown_options": True})
def run(
    host: Host,
    command: Annotated[
        list[str], typer.Argument(metavar="command", help="A command and its arguments, after --.")
    ],
    name: Name = "lab",
) -> None:
    """Run a command on a host, with this terminal: phalanx lab run alpha -- ip address."""
    with _lab(name) as lab:
        _become(lab, host, command)


@lab_app.command()
def cut(
    rail: Rail,
    host: Host,
    how: Annotated[
        str, typer.Option(help="link: pull the cable; interface: the host's own goes down.")
    ] = "link",
    name: Name = "lab",
) -> None:
    """Take a host's link down; the host is told."""
    with _lab(name) as lab:
        lab.cut(rail, host, how)


@lab_app.command()
def drop(rail: Rail, host: Host, direction: Direction = "both", name: Name = "lab") -> None:
    """Drop every packet silently; nobody is told."""
    with _lab(name) as lab:
        lab.drop(rail, host, direction)


@lab_app.command()
def loss(
    rail: Rail,
    host: Host,
    percent: Annotated[float, typer.Argument(help="0 to 100; 0 ends it.")],
    direction: Direction = "both",
    name: Name = "lab",
) -> None:
    """Drop a share of the packets at random."""
    with _lab(name) as lab:
        lab.loss(rail, host, percent, direction)


@lab_app.command()
def heal(
    rail: Annotated[str, typer.Argument(help="A rail; without one, everything.")] = "",
    host: Annotated[str, typer.Argument(help="A host.")] = "",
    name: Name = "lab",
) -> None:
    """Undo cut, drop, loss and deafen on one rail of one host, or everything everywhere."""
    if rail and not host:
        raise typer.BadParameter("give a rail and a host, or neither")
    with _lab(name) as lab:
        if rail:
            lab.heal(rail, host)
        else:
            lab.heal_all()


@lab_app.command()
def partition(
    groups: Annotated[
        list[str], typer.Argument(help="Groups of hosts with commas between: alpha,bravo charlie")
    ],
    name: Name = "lab",
) -> None:
    """Let groups of hosts not hear each other; ended by `heal` without arguments.

    Hosts in no group form one together: `partition alpha` parts alpha from all the others.
    """
    with _lab(name) as lab:
        lab.partition([group.split(",") for group in groups])


@lab_app.command()
def block(
    hosts: Annotated[
        list[str] | None, typer.Argument(help="Hosts; with none, SCTP passes again.")
    ] = None,
    name: Name = "lab",
) -> None:
    """Let no SCTP through between any two of these hosts, plain or in UDP; all else passes."""
    with _lab(name) as lab:
        lab.block_sctp(*hosts or ())


@lab_app.command()
def deafen(rail: Rail, host: Host, name: Name = "lab") -> None:
    """Let no multicast come to a host on a rail, as a switch does without IGMP."""
    with _lab(name) as lab:
        lab.deafen(rail, host)


@lab_app.command()
def status(name: Name = "lab") -> None:
    """What is up, and what is broken."""
    with _lab(name) as lab:
        _show(lab)


def _show(lab: Lab) -> None:
    state = lab.state
    table = Table(title=f"lab {lab.name}")
    for column in ("id", "host", "namespace", *(f"rail {rail}" for rail in lab.rails)):
        table.add_column(column)
    for host in lab.hosts:
        cells: list[str] = []
        for rail in lab.rails:
            fault = state.faults.get(f"{rail}/{host}")
            found = [fault.describe()] if fault is not None else []
            found += ["hears no multicast"] * (f"{rail}/{host}" in state.deaf)
            broken = ", ".join(word for word in found if word)
            cells.append(lab.address(rail, host) + (f" [red]{broken}[/red]" if broken else ""))
        table.add_row(str(lab.node_id(host)), host, lab.namespace(host), *cells)
    console = Console()
    console.print(table)
    if state.groups:
        console.print("partition: " + partition_words(state))
    if state.walls:
        pairs = ", ".join("-".join(pair) for pair in state.walls)
        console.print(f"no SCTP between: {pairs}")
    running = sum(map(alive, state.processes))
    if running:
        console.print(f"processes started on hosts: {running}")


def partition_words(state: LabState) -> str:
    """Who hears whom: the groups, and the hosts in none of them, which form one."""
    named = {host for group in state.groups for host in group}
    rest = [host for host in state.hosts if host not in named]
    return " | ".join(", ".join(group) for group in [*state.groups, rest] if group)


def _become(lab: Lab, host: str, argv: list[str]) -> NoReturn:
    """Replace this process by a command on a host; it keeps the pid, so the lab can end it."""
    command = lab.command(host, argv)
    lab.adopt(os.getpid())
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)
