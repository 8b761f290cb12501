"""What `ip` is told to build a lab: one line per object, for `ip -batch`."""

from __future__ import annotations

from collections.abc import Iterator

from .lab_state import LabState


def switch_lines(state: LabState) -> Iterator[str]:
    """`ip` lines for the switch: a bridge per rail and, with it, all cables."""
    segments = "" if state.offload else " gso_max_segs 1"
    for rail in state.rails:
        yield (
            f"link add name rail-{rail} mtu {state.mtu} "
            "type bridge forward_delay 0 mcast_snooping 0 stp_state 0"
        )
        yield f"link set dev rail-{rail} addrgenmode none up"
    # All bridges stand before the first cable: so the two ends of a cable never have the same
    # interface number, which would make the kernel report carrier changes up to 1 s late.
    for rail in state.rails:
        for host in state.hosts:
            port, namespace = state.port(rail, host), state.namespace(host)
            yield (
                f"link add name {port} mtu {state.mtu}{segments} type veth peer "
                f"name rail-{rail} mtu {state.mtu} netns {namespace}{segments}"
            )
            yield f"link set dev {port} addrgenmode none master rail-{rail} up"


def host_lines(state: LabState, host: str) -> Iterator[str]:
    """Lines for a host, once the switch has put its ends of the cables there."""
    yield "link set dev lo up"
    for rail in state.rails:
        yield f"link set dev rail-{rail} addrgenmode {'eui64' if state.ipv6 else 'none'}"
        if not state.offload:
            yield f"link set dev rail-{rail} gso_max_segs 1"
        yield from interface_lines(state, rail, host)


def interface_lines(state: LabState, rail: str, host: str) -> Iterator[str]:
    """What an interface needs; repeated by `heal`, as IPv6 addresses go when it goes down."""
    yield f"link set dev rail-{rail} up"
    yield f"address replace {state.address(rail, host)}/24 broadcast + dev rail-{rail}"
    if state.ipv6:
        # Without duplicate address detection the address works at once.
        yield f"address replace {state.address(rail, host, ipv6=True)}/64 dev rail-{rail} nodad"
