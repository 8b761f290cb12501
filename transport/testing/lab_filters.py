"""Silent packet drop and random loss on one rail of one host: the rules, as text.

*Silent* is the point. A rule `OUTPUT -j DROP` makes the sender's `sendto` fail with EPERM, so
the sender would know at once; a broken switch tells nobody. Two ways avoid that:

* iptables: outgoing packets go to an NFQUEUE that nobody reads. The kernel frees them and the
  send succeeds. Rules are per packet *before* segmentation.
* nft: the switch drops them when they arrive on its port (netdev ingress). Rules are per packet
  on the wire; ARP is dropped too.

Every change replaces all rules of a host at once, so that no half-made state is ever in force.
"""

from __future__ import annotations

from .lab_netns import command, enter, find_tool, tool
from .lab_state import Fault, LabError, LabState, LabUnavailable

_QUEUE = "NFQUEUE --queue-num 61717"
"""Nobody reads this queue."""
_GROUPS = {False: "224.0.0.0/4", True: "ff10::/12"}
"""Of IPv6 the groups that nobody has registered: by others neighbours find each other."""


def choose() -> str:
    """Which of the two ways this machine has.

    Raises:
        LabUnavailable: neither is installed.
    """
    if find_tool("iptables-restore") is not None:
        return "iptables"
    if find_tool("nft") is not None:
        return "nft"
    raise LabUnavailable("neither iptables nor nft is installed; install the package iptables")


def apply(state: LabState, host: str) -> None:
    """Bring the packet filter of one host in line with `state`; notes it in `state.filtered`.

    Raises:
        LabError: the kernel refused the rules.
    """
    if state.filters == "nft":
        argv = [tool("nft"), "-f", "-"]
        command([*enter(state, state.namespace(host)), *argv], nft_inward(state, host))
        command([*enter(state, state.switch), *argv], nft_outward(state, host))
        return
    families = [("iptables-restore", False)]
    if state.ipv6:
        families.append(("ip6tables-restore", True))
    prefix = enter(state, state.namespace(host))
    try:
        for program, ipv6 in families:
            command([*prefix, tool(program), "-w", "--noflush"], iptables(state, host, ipv6=ipv6))
    except LabError as error:
        raise LabError(
            f"{error} (the kernel needs the targets DROP and NFQUEUE and the match statistic)"
        ) from error
    if host not in state.filtered:
        state.filtered.append(host)


def _strangers(state: LabState, host: str) -> list[str]:
    """Hosts in other groups of the partition; hosts in no group form one together."""
    mine = next((group for group in state.groups if host in group), None)
    if not state.groups:
        return []
    if mine is None:
        return [name for group in state.groups for name in group]
    return [name for name in state.hosts if name not in mine]


def _faults(state: LabState, host: str) -> list[tuple[str, Fault]]:
    present = ((rail, state.faults.get(f"{rail}/{host}")) for rail in state.rails)
    return [(rail, fault) for rail, fault in present if fault is not None]


def iptables(state: LabState, host: str, *, ipv6: bool) -> str:
    """The input of iptables-restore (or ip6tables-restore) for one host."""
    lines = ["*filter", ":PHALANX-IN - [0:0]", ":PHALANX-OUT - [0:0]"]
    if host not in state.filtered:
        lines += ["-A INPUT -j PHALANX-IN", "-A OUTPUT -j PHALANX-OUT"]
    for rail, fault in _faults(state, host):
        inward = f"-A PHALANX-IN -i rail-{rail}"
        outward = f"-A PHALANX-OUT -o rail-{rail}"
        if fault.drop_in:
            lines.append(f"{inward} -j DROP")
        elif fault.loss_in:
            lines.append(f"{inward} {_statistic(fault.loss_in)} -j DROP")
        if fault.drop_out:
            lines.append(f"{outward} -j {_QUEUE}")
        elif fault.loss_out:
            lines.append(f"{outward} {_statistic(fault.loss_out)} -j {_QUEUE}")
    for stranger in _strangers(state, host):
        lines += [
            f"-A PHALANX-IN -s {state.address(rail, stranger, ipv6=ipv6)} -j DROP"
            for rail in state.rails
        ]
    for key in state.deaf:
        rail, deaf = key.split("/")
        if deaf == host:
            lines.append(f"-A PHALANX-IN -i rail-{rail} -d {_GROUPS[ipv6]} -j DROP")
    for peer in _walled(state, host):
        for rail in state.rails:
            source = f"-A PHALANX-IN -s {state.address(rail, peer, ipv6=ipv6)}"
            lines.append(f"{source} -p 132 -j DROP")
            lines += [f"{source} -p udp --{end}port {state.wall_port} -j DROP" for end in "sd"]
    return "\n".join([*lines, "COMMIT", ""])


def _walled(state: LabState, host: str) -> list[str]:
    """Hosts whose SCTP does not get through to this one."""
    return [peer for pair in state.walls if host in pair for peer in pair if peer != host]


def _statistic(percent: float) -> str:
    return f"-m statistic --mode random --probability {percent / 100:.6f}"


def nft_inward(state: LabState, host: str) -> str:
    """Rules on the host's own interfaces: what arrives."""
    chains: dict[str, list[str]] = {rail: [] for rail in state.rails}
    for rail, fault in _faults(state, host):
        chains[rail] += _verdict(fault.loss_in, drop=fault.drop_in)
    for stranger in _strangers(state, host):
        for rail, rules in chains.items():
            rules.append(f"ip saddr {state.address(rail, stranger)} drop")
            if state.ipv6:
                rules.append(f"ip6 saddr {state.address(rail, stranger, ipv6=True)} drop")
    for rail, rules in chains.items():
        if f"{rail}/{host}" in state.deaf:
            rules.append(f"ip daddr {_GROUPS[False]} drop")
            rules.append(f"ip6 daddr {_GROUPS[True]} drop")
        for peer in _walled(state, host):
            for family, ipv6 in (("ip", False), ("ip6", True))[: 1 + state.ipv6]:
                source = f"{family} saddr {state.address(rail, peer, ipv6=ipv6)}"
                rules.append(f"{source} meta l4proto 132 drop")
                rules += [f"{source} udp {end}port {state.wall_port} drop" for end in "sd"]
    return _table("phalanx", {f"rail-{rail}": rules for rail, rules in chains.items()})


def nft_outward(state: LabState, host: str) -> str:
    """Rules on the switch's ports: what the host has sent."""
    chains: dict[str, list[str]] = {state.port(rail, host): [] for rail in state.rails}
    for rail, fault in _faults(state, host):
        chains[state.port(rail, host)] += _verdict(fault.loss_out, drop=fault.drop_out)
    return _table(f"phalanx_{state.number(host)}", chains)


def _verdict(percent: float, *, drop: bool) -> list[str]:
    if drop:
        return ["drop"]
    return [f"numgen random mod 1000000 < {round(percent * 10_000)} drop"] if percent else []


def _table(name: str, chains: dict[str, list[str]]) -> str:
    # Adding before deleting makes the deletion succeed the first time, too.
    lines = [f"add table netdev {name}", f"delete table netdev {name}", f"table netdev {name} {{"]
    for number, (device, rules) in enumerate(chains.items()):
        lines.append(f"chain c{number} {{")
        lines.append(f'type filter hook ingress device "{device}" priority 0;')
        lines += [*rules, "}"]
    return "\n".join([*lines, "}", ""])
