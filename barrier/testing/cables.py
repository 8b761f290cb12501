"""Faults of cables and disks: what is between the processes, and under them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from phalanx.transport.config import MS
from phalanx.transport.testing.simulated_node import FSYNC_NS

from .plan import Fault

if TYPE_CHECKING:
    from .run import Run

Undo = Callable[[], None]


def part(run: Run, nodes: tuple[int, ...]) -> Undo:
    """Cut these nodes off all others."""
    run.simulation.isolate(*nodes)

    def heal() -> None:
        for node in nodes:
            for rail in run.network.rails:
                run.simulation.heal_rail(node, rail)

    return heal


def partition(run: Run, fault: Fault) -> Undo:
    """Cut some off the others, both ways."""
    return part(run, fault.nodes)


def cuts(run: Run, directions: list[tuple[int, int]], rails: tuple[str, ...]) -> Undo:
    """Cut these directions on these rails."""
    network = run.network
    for source, target in directions:
        for rail in rails:
            network.cut(source, target, rail)

    def heal() -> None:
        for source, target in directions:
            for rail in rails:
                network.heal(source, target, rail)

    return heal


def partition_one_way(run: Run, fault: Fault) -> Undo:
    """Some are not heard by the others, and hear them; or the other way round."""
    others = [node for node in run.nodes if node not in fault.nodes]
    directions = [(source, target) for source in fault.nodes for target in others]
    if fault.kind == "partition other way":
        directions = [(target, source) for source, target in directions]
    return cuts(run, directions, run.network.rails)


def cut_one_way(run: Run, fault: Fault) -> Undo:
    """One does not hear another: on one rail, or on all."""
    one, other = fault.nodes
    return cuts(run, [(one, other)], (fault.rail,) if fault.rail else run.network.rails)


def cut_pair(run: Run, fault: Fault) -> Undo:
    """Two do not hear each other."""
    one, other = fault.nodes
    return cuts(run, [(one, other), (other, one)], run.network.rails)


def cut_rail(run: Run, fault: Fault) -> Undo:
    """One loses a rail."""
    [node] = fault.nodes
    run.simulation.cut_rail(node, fault.rail)
    return lambda: run.simulation.heal_rail(node, fault.rail)


def flap(run: Run, fault: Fault) -> Undo:
    """One rail of one node comes and goes every so many milliseconds."""
    [node] = fault.nodes
    over = False
    cut = False

    def turn() -> None:
        nonlocal cut
        if over:
            return
        cut = not cut
        change = run.simulation.cut_rail if cut else run.simulation.heal_rail
        change(node, fault.rail)
        run.network.after(int(fault.amount * MS), turn)

    def settle() -> None:
        nonlocal over
        over = True
        run.simulation.heal_rail(node, fault.rail)

    turn()
    return settle


def reset(run: Run, fault: Fault) -> None:
    """The kernel of one aborts its associations with another."""
    run.network.reset(*fault.nodes, tell=fault.kind == "reset")


def reset_lifelines(run: Run, fault: Fault) -> None:
    """Something between two hosts forgets their connections: that is no proof of anything."""
    one, other = fault.nodes
    lines = run.nodes[one].lifelines
    if lines is not None:
        lines.drop(other)


def lose_packets(run: Run, fault: Fault) -> Undo:
    """Lose a share of the packets of one direction."""
    source, target = fault.nodes
    run.network.lose(source, target, fault.rail, fault.amount)
    return lambda: run.network.lose(source, target, fault.rail, 0.0)


def delay_packets(run: Run, fault: Fault) -> Undo:
    """Delay the packets of one direction, and so reorder them."""
    source, target = fault.nodes
    run.network.slow(source, target, fault.rail, int(fault.amount * MS))
    return lambda: run.network.slow(source, target, fault.rail, 0)


def repeat_packets(run: Run, fault: Fault) -> Undo:
    """Carry probes of one direction twice."""
    source, target = fault.nodes
    run.network.repeat(source, target, fault.rail, fault.amount)
    return lambda: run.network.repeat(source, target, fault.rail, 0.0)


def block_datagrams(run: Run, fault: Fault) -> Undo:
    """Two do not get each other's datagrams, or one not the other's."""
    directions = _directions(fault, both=fault.kind == "block datagrams")
    return _for_each(directions, run.network.block_datagrams, run.network.pass_datagrams)


def block_sctp(run: Run, fault: Fault) -> Undo:
    """No SCTP gets from one to another, either way, or anywhere; datagrams do."""
    if fault.kind == "block all sctp":
        directions = list(itertools.permutations(run.nodes, 2))
    else:
        directions = _directions(fault, both=fault.kind == "block sctp")
    return _for_each(directions, run.network.block_sctp, run.network.pass_sctp)


def _directions(fault: Fault, *, both: bool) -> list[tuple[int, int]]:
    one, other = fault.nodes
    return [(one, other), (other, one)] if both else [(one, other)]


def _for_each(
    directions: list[tuple[int, int]],
    block: Callable[[int, int], None],
    let_pass: Callable[[int, int], None],
) -> Undo:
    for source, target in directions:
        block(source, target)

    def undo() -> None:
        for source, target in directions:
            let_pass(source, target)

    return undo


def deafen(run: Run, fault: Fault) -> Undo:
    """Nothing that is sent to a rail's multicast group comes to a host."""
    [node], network = fault.nodes, run.network
    network.deafen(node, fault.rail)
    return lambda: network.hear_again(node, fault.rail)


def slow_disk(run: Run, fault: Fault) -> Undo:
    """Each write takes so many milliseconds."""
    disk = run.nodes[fault.nodes[0]].disk
    disk.delay_ns = int(fault.amount * MS)

    def mend() -> None:
        disk.delay_ns = FSYNC_NS

    return mend


def full_disk(run: Run, fault: Fault) -> Undo:
    """No write succeeds."""
    disk = run.nodes[fault.nodes[0]].disk
    disk.failing = True

    def mend() -> None:
        disk.failing = False

    return mend
