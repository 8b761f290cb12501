"""What the tests of barriers share."""

from __future__ import annotations

from phalanx.barrier.events import Broken, Mismatch, Released

from .model import Call, Model


def released(call: Call) -> Released:
    assert isinstance(call.outcome, Released), call.outcome
    return call.outcome


def broken(call: Call) -> Broken:
    assert isinstance(call.outcome, Broken), call.outcome
    return call.outcome


def mismatched(call: Call) -> Mismatch:
    assert isinstance(call.outcome, Mismatch), call.outcome
    return call.outcome


def drain(model: Model, node: int) -> None:
    """Publish and number what a node has to say; nobody is given it yet."""
    model.take(node)
    while model.number(node):
        pass
