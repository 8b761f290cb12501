"""How each kind of fault of a plan is done, and undone.

A fault whose node is not there to suffer it does nothing, so that any part of a plan is a plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from phalanx._native import codec
from phalanx.transport import wire
from phalanx.transport.config import MS
from phalanx.transport.core.outputs import StateAwaited
from phalanx.transport.errors import RecordUnusable
from phalanx.transport.events import MULTICAST
from phalanx.transport.testing.simulated_node import ProcessEnded, SimulatedNode

from .cables import (
    Undo,
    block_datagrams,
    block_sctp,
    cut_one_way,
    cut_pair,
    cut_rail,
    deafen,
    delay_packets,
    flap,
    full_disk,
    lose_packets,
    part,
    partition,
    partition_one_way,
    repeat_packets,
    reset,
    reset_lifelines,
    slow_disk,
)
from .plan import STRAND, Fault

if TYPE_CHECKING:
    from .run import Run

LEAVE_NS = 200 * MS
LEASE_AND_MORE_NS = 700 * MS
LOOK_ON_NS = 3000 * MS
"""How long a fault waits for its occasion."""
SLOW_MS = 50
LARGE_FRAME_BYTES = 100
"""Heartbeats and their echoes are shorter than this."""


def carry_out(run: Run, fault: Fault) -> Undo | None:
    """Do it; returns how it is mended, unless it mends itself or did nothing."""
    return _FAULTS[fault.kind](run, fault)


def _suffering(run: Run, node: int) -> SimulatedNode | None:
    """The node, if its process runs and is not stopped."""
    found = run.nodes[node]
    return found if found.running and not found.frozen else None


def _restart(run: Run, node: SimulatedNode) -> Undo:
    def restart() -> None:
        if not node.running:
            run.say(f"start {node.id}")
            node.start()

    return restart


def _readmit(run: Run, node: SimulatedNode) -> Undo:
    """It refuses to start with such a record, and the operator says --readmit."""

    def readmit() -> None:
        if node.running:
            return
        try:
            node.start()
        except RecordUnusable as refusal:
            run.say(f"start {node.id} with readmit: {refusal}")
            node.start(readmit=True)
        else:
            raise AssertionError(f"node {node.id} obeys a record that is torn")

    return readmit


def _kill(run: Run, fault: Fault) -> Undo | None:
    restarts: list[Undo] = []
    for number in fault.nodes:
        node = _suffering(run, number)
        if node is not None:
            node.kill()
            restarts.append(_restart(run, node))
    return _all(restarts)


def _restart_quickly(run: Run, fault: Fault) -> None:
    """Its successor is there before the others hear that it is gone."""
    node = _suffering(run, fault.nodes[0])
    if node is not None:
        node.kill(ends_after_ns=int(fault.amount * MS))
        run.network.after(MS, _restart(run, node))


def _all(undos: list[Undo]) -> Undo | None:
    def undo() -> None:
        for one in undos:
            one()

    return undo if undos else None


def is_step(run: Run, frame: bytes, step: str) -> bool:
    """Whether a frame is that step of a view change."""
    header = codec.decode_frame(frame, run.cluster)
    if isinstance(header, codec.FrameError) or header.kind != wire.Kind.CONTROL:
        return False
    message = wire.decode_control(memoryview(frame)[header.body_offset :])
    return type(message).__name__.upper() == step


def _at_frame(
    run: Run,
    fault: Fault,
    then: Callable[[SimulatedNode], None],
    counts: Callable[[int, bytes], bool],
) -> None:
    """When a node is about to send the n-th frame that counts from now."""
    left = int(fault.amount)

    def tap(sender: int, frame: bytes) -> None:
        nonlocal left
        left -= counts(sender, frame)
        if left <= 0:
            run.network.tap = None
            run.say(f"{fault.kind}: {sender}")
            then(run.nodes[sender])

    run.network.tap = tap


def _at_frame_of(run: Run, fault: Fault, then: Callable[[SimulatedNode], None]) -> None:
    """When the node of the fault is about to send its n-th frame that is no heartbeat."""
    node = _suffering(run, fault.nodes[0])
    if node is not None:
        mine = node.id
        _at_frame(run, fault, then, lambda sender, f: sender == mine and len(f) > LARGE_FRAME_BYTES)


def _kill_at_frame(run: Run, fault: Fault) -> None:
    def die(node: SimulatedNode) -> None:
        run.later(_restart(run, node), fault.lasts_ns)
        raise ProcessEnded

    _at_frame_of(run, fault, die)


def _in_change(run: Run, fault: Fault) -> None:
    """One node dies or is cut off, so that the view changes, and another one in the middle of it.

    It is whoever is about to send the n-th message of one step. The first is back early: with it
    the others can go on without the second.
    """
    parting = fault.kind.endswith("parting")
    first = part(run, fault.nodes) if parting else _kill(run, fault)
    if first is not None:
        run.later(first, fault.lasts_ns // 4 + parting * LEASE_AND_MORE_NS)

    def strike(node: SimulatedNode) -> None:
        if fault.kind.startswith("die"):
            run.later(_restart(run, node), fault.lasts_ns)
            raise ProcessEnded
        if fault.kind.startswith("part"):
            run.later(part(run, (node.id,)), fault.lasts_ns + LEASE_AND_MORE_NS)
            return
        if fault.kind == "duel":
            _fall_out(run, fault, node.id)
            return
        if fault.kind.startswith("freeze"):
            # When it goes on, it finds answers to what it has asked long ago.
            late = replace(fault, nodes=(node.id,), lasts_ns=fault.lasts_ns + LEASE_AND_MORE_NS)
            run.network.after(1, lambda: _freeze_for_a_while(run, late))
            return
        for other in run.nodes:
            run.network.reset(node.id, other)

    _at_frame(run, fault, strike, lambda _, frame: is_step(run, frame, fault.step))


def _fall_out(run: Run, fault: Fault, one: int) -> None:
    """Two that have closed their view lose each other, and may each propose one for the third.

    The disk of one is slow, so that their attempts meet.
    """
    other = next((node for node in (*run.nodes, one) if node not in (one, *fault.nodes)), None)
    if other is None:
        return  # Of two nodes the other one is the node of the fault.
    pair = replace(fault, nodes=(one, other), amount=SLOW_MS)
    for undo in (cut_pair(run, pair), slow_disk(run, pair)):
        run.later(undo, fault.lasts_ns + LEASE_AND_MORE_NS)


def _strand(run: Run, fault: Fault) -> None:
    """One dies and is back at once, and in the view between the path of two others is cut.

    What one of them sends the other in that view comes when it is over.
    """
    first = _kill(run, fault)
    if first is None:
        return
    run.later(first, MS)

    def strike(node: SimulatedNode) -> None:
        others = [n for n in run.nodes if n not in (node.id, *fault.nodes)]
        pair = replace(fault, nodes=tuple(others[-2:]))
        # They have to hear of each other that both are there, and then not much more.
        soon_ns = int(fault.amount * run.plan.delay_ns)
        run.network.after(soon_ns, lambda: run.later(cut_pair(run, pair), fault.lasts_ns))

    once = replace(fault, amount=1)
    _at_frame(run, once, strike, lambda _, frame: is_step(run, frame, "INSTALL"))


def _in_transfer(run: Run, fault: Fault) -> None:
    """One dies and is back soon, without state; while it waits for that another one dies, or is
    cut off, or its own associations are reset. The amount is the milliseconds that it has waited.
    """
    first, second = fault.nodes
    restarted = _kill(run, replace(fault, nodes=(first,)))
    if restarted is None:
        return
    run.later(restarted, fault.lasts_ns // 16)
    mended = False

    def mend() -> None:
        nonlocal mended
        mended = True

    def strike() -> None:
        node = _suffering(run, second)
        if node is None or mended:
            return
        run.say(f"{fault.kind}: {second}")
        if fault.kind == "reset in transfer":
            for other in run.nodes:
                run.network.reset(first, other)
        elif fault.kind == "part in transfer":
            run.later(part(run, (second,)), fault.lasts_ns + LEASE_AND_MORE_NS)
        else:
            node.kill()
            run.later(_restart(run, node), fault.lasts_ns)

    waiting = False

    def look_on(node: SimulatedNode) -> None:
        nonlocal waiting
        if node.id == first and not (waiting or mended) and node.told(StateAwaited):
            waiting = True
            run.network.after(int(fault.amount * MS), strike)

    run.simulation.after_turn.append(look_on)
    run.later(mend, LOOK_ON_NS)


def _swap(run: Run, fault: Fault) -> None:
    """One is cut off; the others go on, and part: one restarts and meets the first, one is alone.

    Nobody whom the first meets remembers what was decided in its absence.
    """
    first, second, *_ = fault.nodes
    rest = tuple(node for node in run.nodes if node not in (first, second))
    heal_first = part(run, (first,))

    def turn() -> None:
        run.say("swap")
        restarted = _kill(run, replace(fault, nodes=(second,)))
        heal_first()
        run.later(part(run, rest), fault.lasts_ns + LEASE_AND_MORE_NS)
        if restarted is not None:
            run.later(restarted, 1)

    run.later(turn, 900 * MS)


def _isolate_at_frame(run: Run, fault: Fault) -> None:
    def isolate(node: SimulatedNode) -> None:
        run.later(part(run, (node.id,)), fault.lasts_ns)

    _at_frame_of(run, fault, isolate)


def _freeze(run: Run, fault: Fault) -> Undo | None:
    node = _suffering(run, fault.nodes[0])
    if node is None:
        return None
    node.freeze()
    life = node.life

    def thaw() -> None:
        if node.frozen and node.life is life:
            run.say(f"thaw {node.id}")
            node.thaw()

    return thaw


def _freeze_for_a_while(run: Run, fault: Fault) -> None:
    thaw = _freeze(run, fault)
    if thaw is not None:
        run.later(thaw, fault.lasts_ns)


def _spoil_record(run: Run, fault: Fault) -> Undo | None:
    """The process ends, and what is on its disk is not what it wrote last."""
    node = _suffering(run, fault.nodes[0])
    if node is None:
        return None
    node.kill()
    if fault.kind == "old record":
        node.disk.roll_back(int(fault.amount))
    elif fault.kind == "tear record":
        node.disk.tear()
        return _readmit(run, node)
    else:
        node.disk.lose()
    return _restart(run, node)


def _slow_consumer(run: Run, fault: Fault) -> Undo | None:
    """The application does not read, and its queues are full."""
    node = _suffering(run, fault.nodes[0])
    if node is None:
        return None
    life, application = node.life, node.application

    def read(*, frozen: bool) -> None:
        if application is not None:
            application.paused = frozen
            application.read_soon()
        elif node.running and node.life is life:
            for lane in MULTICAST:
                node.endpoint.freeze(lane, frozen=frozen, now_ns=node.clock())
            node.wake_soon()

    read(frozen=True)
    return lambda: read(frozen=False)


def _leave(run: Run, fault: Fault) -> Undo | None:
    node = _suffering(run, fault.nodes[0])
    if node is None or node.view is None:
        return None
    node.endpoint.leave(node.clock() + LEAVE_NS, node.clock())
    node.wake_soon()
    life = node.life

    def exit_process() -> None:
        if node.running and node.life is life:
            node.kill()
            # It may have begun to leave just before everything was mended.
            run.later(_restart(run, node), 0 if run.mended else fault.lasts_ns)

    run.network.after(LEAVE_NS + 10 * MS, exit_process)
    return None


_FAULTS: dict[str, Callable[[Run, Fault], Undo | None]] = {
    "kill": _kill,
    "quick restart": _restart_quickly,
    "kill two": _kill,
    "kill at frame": _kill_at_frame,
    "isolate at frame": _isolate_at_frame,
    "die in change": _in_change,
    "part in change": _in_change,
    "die in parting": _in_change,
    "part in parting": _in_change,
    "freeze in change": _in_change,
    "reset in change": _in_change,
    "duel": _in_change,
    STRAND: _strand,
    "swap": _swap,
    "die in transfer": _in_transfer,
    "part in transfer": _in_transfer,
    "reset in transfer": _in_transfer,
    "freeze": _freeze,
    "cut rail": cut_rail,
    "cut rail one way": cut_one_way,
    "cut one way": cut_one_way,
    "cut pair": cut_pair,
    "partition": partition,
    "partition one way": partition_one_way,
    "partition other way": partition_one_way,
    "reset lifelines": reset_lifelines,
    "reset": reset,
    "reset silently": reset,
    "lose packets": lose_packets,
    "delay packets": delay_packets,
    "repeat packets": repeat_packets,
    "block datagrams": block_datagrams,
    "block datagrams one way": block_datagrams,
    "deafen": deafen,
    "block sctp": block_sctp,
    "block sctp one way": block_sctp,
    "block all sctp": block_sctp,
    "flap": flap,
    "slow disk": slow_disk,
    "full disk": full_disk,
    "lose record": _spoil_record,
    "tear record": _spoil_record,
    "old record": _spoil_record,
    "slow consumer": _slow_consumer,
    "leave": _leave,
}
