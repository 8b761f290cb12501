"""Whether the core may look at what a turn has brought after the application, instead of before.

A turn settles twice (`pump.py`): before those go on who have waited, and after them, for most of
them have something to say. The first time is for the others: what this node owes them must not
wait for what its application does. Often it owes nothing, as when a barrier has been released.
"""

from __future__ import annotations

from .endpoint import Endpoint


def may_settle_later(endpoint: Endpoint, now_ns: int) -> bool:
    """Something is to be delivered, nothing is due, and nobody waits for a word of this node."""
    delivery, outputs = endpoint.delivery, endpoint.outputs
    if not outputs.stream or outputs.commands or delivery.closed:
        return False
    if endpoint.changed or endpoint.heartbeats.pending or delivery.carrying.to_push:
        return False
    if now_ns > endpoint.stalled_from_ns:
        return False
    ordered, due_ns = delivery.ordered, endpoint.next_deadline()
    if ordered.urgent or ordered.gathering or (due_ns is not None and now_ns >= due_ns):
        return False
    epochs = ordered.epochs
    return epochs.asked < epochs.current and not epochs.lazy
