"""What a running node can say of itself: paths and counters, as plain data."""

from __future__ import annotations

from .config import MULTICAST
from .events import Lateness, PathStatus
from .runtime import Runtime, now_ns


def path_table(runtime: Runtime) -> dict[int, dict[str, PathStatus]]:
    """Per peer and rail, how it is reached now; empty when nothing runs."""
    if runtime.pump is None:
        return {}
    sctp, fallback = runtime.driver.capabilities.name, runtime.endpoint.fallback
    casting = runtime.endpoint.casting
    return {
        node: {
            rail: PathStatus(
                carrier=MULTICAST if fallback.by_datagrams(node) else sctp,
                state=path.state,
                rtt_us=path.srtt_ns // 1000,
                primary=rail == primary,
                failovers=path.failovers,
                reason=f"{fallback.why(node)}; {casting.why(node)}" if rail == primary else "",
            )
            for rail, path in paths.items()
        }
        for node, (primary, paths) in runtime.endpoint.paths.table().items()
    }


def lateness_table(runtime: Runtime) -> dict[int, Lateness]:
    """By node how late it closes epochs; empty when nothing runs."""
    if runtime.pump is None:
        return {}
    ordered, now = runtime.endpoint.delivery.ordered, now_ns()
    waited = {node: now - since_ns for node, since_ns in ordered.waited_for().items()}
    return {
        node: Lateness(
            epochs=count, mean_ns=mean, worst_ns=worst, waited_ns=max(0, waited.get(node, 0))
        )
        for node, (count, mean, worst) in ordered.slowness.delays().items()
    }


def counters(runtime: Runtime) -> dict[str, dict[str, int]]:
    """Counters of the core, the drivers and the layers, and the bytes in each window."""
    if runtime.pump is None:
        return {}
    endpoint = runtime.endpoint
    return {
        "core": dict(endpoint.outputs.counters),
        "driver": runtime.driver.stats(),
        "lifelines": runtime.lifeline_stats(),
        "datagrams": runtime.datagram_stats(),
        **({"beacons": runtime.discovery.stats()} if runtime.discovery is not None else {}),
        "windows": {
            f"{lane.name.lower()} to {addressee or 'all'}": stream.window_used_bytes
            for (addressee, lane), stream in endpoint.delivery.out.items()
        },
        **{name: layer.stats() for name, layer in runtime.layers.items()},
    }
