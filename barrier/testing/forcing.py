"""How a run ends in which an operator says --force: rightly, or as a slip.

What is drawn here comes from the plan's seed alone, so that a plan stays a few words.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from phalanx.transport import wire
from phalanx.transport.config import MS
from phalanx.transport.core.leases import Quorum
from phalanx.transport.testing.simulated_node import ProcessEnded, SimulatedNode

from .faults import is_step
from .plan import Fault

if TYPE_CHECKING:
    from .run import Run

Converge = Callable[[tuple[int, ...]], None]
WAIT_NS = 700 * MS
"""Long enough for the rest to have lost its lease."""
STAGGER_NS = 300 * MS
"""Within so long the operator gets round."""
RESTART_NS = 100 * MS
DISK_LOST = 0.7
CRASH = 0.5
CUT_OFF = 0.5


def force(run: Run, fault: Fault, converge: Converge) -> None:
    """Play the ending; at its end everybody runs, and has to find together."""
    draw = random.Random(f"forcing {run.plan.seed}")
    for node in run.nodes.values():
        run.traffic.say(node)
    run.say(str(fault))
    if fault.kind == "force alone":
        _alone(run, run.nodes[fault.nodes[0]], converge)
    else:
        _Founding(run, fault, draw).play(converge)


def _alone(run: Run, node: SimulatedNode, converge: Converge) -> None:
    """One node, while the others live: they go on, it waits, and the operator takes it back."""
    others = tuple(other for other in run.nodes if other != node.id)
    node.kill()
    node.start(force=True)
    converge(others)
    run.simulation.run_for(WAIT_NS)
    assert node.view is None, f"{node.id} is in a view that it was to leave"
    words = node.endpoint.gather.explain()
    assert "started with --force: waits for a majority" in words, words
    assert run.simulation.agreed_on(*others), "one that waits disturbs the others"
    node.kill()
    run.say(f"start {node.id} with readmit")
    node.start(readmit=True)


class _Founding:
    """Some are gone, with a majority; others, or the same without their disks, begin anew."""

    def __init__(self, run: Run, fault: Fault, draw: random.Random) -> None:
        self._run = run
        self._fault = fault
        self._draw = draw
        self._lost_disk: set[int] = set()
        nodes = list(run.nodes)
        draw.shuffle(nodes)
        quorum = Quorum(dict.fromkeys(nodes, 1), run.plan.tie_breaker)
        count = next(n for n in range(1, len(nodes) + 1) if quorum.reached(nodes[:n]))
        extra = draw.randrange(len(nodes) - count + 1)
        self._founders = sorted(nodes[: count + extra])

    def play(self, converge: Converge) -> None:
        """Loss, force, the old era comes back, and the rest of the hosts."""
        run, nodes = self._run, self._run.nodes
        for number in self._fault.nodes:
            nodes[number].kill()
            if self._draw.random() < DISK_LOST:
                nodes[number].disk.lose()
                self._lost_disk.add(number)
        run.simulation.run_for(WAIT_NS)
        left = [node.id for node in run.simulation.running() if node.id not in self._founders]
        cut_off = bool(left) and self._draw.random() < CUT_OFF
        if cut_off:
            run.simulation.isolate(*left)
        self._say_it()
        together = self._founders if cut_off else self._founders + left
        converge(tuple(sorted(together)))
        views = [node.view for node in run.simulation.running() if node.view is not None]
        assert max(view.id.era for view in views) == 2, "force founds the next era"
        run.network.tap = None
        run.simulation.heal_all()
        converge(tuple(node.id for node in run.simulation.running()))
        for number, node in nodes.items():
            if not node.running:
                run.say(f"start {number}")
                # Who remembers its incarnations may be lost as well.
                lost = number in self._lost_disk
                node.start(readmit=lost, at_least=run.network.now_ns if lost else 1)

    def _say_it(self) -> None:
        """The operator starts the founders, one by one; one of them may die of it."""
        run, draw = self._run, self._draw
        times = {number: draw.randrange(STAGGER_NS) for number in self._founders}
        if draw.random() < CRASH:
            self._die_once(draw.choice(self._founders), again=draw.random() < CRASH)
        for number in sorted(times, key=times.__getitem__):
            run.network.after(times[number], partial(self._start, run.nodes[number]))
        run.simulation.run_for(STAGGER_NS)

    def _start(self, node: SimulatedNode) -> None:
        if node.running:
            node.kill()
        self._run.say(f"start {node.id} with force")
        node.start(force=True)

    def _die_once(self, number: int, *, again: bool) -> None:
        """It dies instead of sending its n-th message of a step, and is started once more."""
        run, node = self._run, self._run.nodes[number]
        left, step = int(self._fault.amount), self._fault.step

        def restart() -> None:
            if not node.running:
                found = wire.decode_record(node.disk.content or b"")
                # Once it knows the new era, force would found yet another.
                force = again and found is not None and found.founding
                run.say(f"start {number} {'with force once more' if force else 'as usual'}")
                node.start(force=force)

        def tap(sender: int, frame: bytes) -> None:
            nonlocal left
            left -= sender == number and node.life.founding > 0 and is_step(run, frame, step)
            if left <= 0:
                run.network.tap = None
                run.say(f"{number} dies in the founding")
                run.network.after(RESTART_NS, restart)
                raise ProcessEnded

        run.network.tap = tap
