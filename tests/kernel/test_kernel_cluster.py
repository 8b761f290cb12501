"""Whole clusters on the kernel's SCTP: worker processes on the hosts of a lab, on two rails."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from phalanx.transport.config import MULTICAST, PROFILES
from phalanx.transport.testing.lab import Lab

from ..netns.harness import Fleet, S, now_ns
from ..netns.reports import Answer, Burst, Meet, Reach
from .lab import UDP_PORT, sh

pytestmark = pytest.mark.kernel

START_S = 60.0
"""Starting Python and a cluster takes seconds in the guest."""
RATE = 200
GAP_MS_MAX = 1000.0
"""In the guest everything is up to twenty times slower; the figure itself is reported."""
TIMING = {"profile": "wan", "sctp": asdict(PROFILES["lan"].sctp)}
"""Failover as quick as on a local network; suspicion as slow as the guest."""


@pytest.fixture
def hosts_on_rails() -> Iterator[Lab]:
    """Three hosts: alpha, bravo and charlie."""
    with Lab(3, ("a", "b")) as lab:
        yield lab


def silence(lab: Lab, rail: str, host: str) -> None:
    """Drop everything on one rail of a host; unlike `Lab.drop` it needs no packet filter."""
    loss = "root netem loss 100%"
    state = lab.state
    sh(
        f"tc -n {lab.namespace(host)} qdisc replace dev {lab.interface(rail)} {loss};"
        f"tc -n {state.switch} qdisc replace dev {state.port(rail, host)} {loss}"
    )


def heal(lab: Lab, rail: str, host: str) -> None:
    """Undo `silence`."""
    state = lab.state
    sh(
        f"tc -n {lab.namespace(host)} qdisc delete dev {lab.interface(rail)} root;"
        f"tc -n {state.switch} qdisc delete dev {state.port(rail, host)} root"
    )


def test_a_silent_drop_of_the_primary_rail_costs_a_cluster_no_message(
    hosts_on_rails: Lab, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A rail may die under traffic: paths change, and neither the messages nor the view."""
    fleet = Fleet(hosts_on_rails, tmp_path, driver="kernel_sctp", timing=TIMING)
    try:
        for host in fleet.hosts:
            fleet.nodes[host] = fleet.spawn(host, START_S)
        fleet.await_whole(START_S)
        fleet.await_paths(timeout=START_S)
        views = {host: fleet[host].view() for host in fleet.hosts}
        fleet.stream(RATE, hosts=("alpha",))
        fleet.flow(RATE, senders=("alpha",))
        fault_ns = now_ns()
        silence(fleet.lab, "a", "alpha")
        fleet.flow(3 * RATE, senders=("alpha",))
        pairs = [("alpha", "bravo"), ("alpha", "charlie")]
        before = fleet.gaps_ms(pairs, fault_ns - S // 2, fault_ns)
        gaps = fleet.gaps_ms(pairs, fault_ns, fault_ns + 2 * S)
        fleet["bravo"].await_event("PathChanged", fault_ns, peer=1, rail="a", state="down")
        heal(fleet.lab, "a", "alpha")
        fleet.await_paths(timeout=START_S)
        looks = fleet.settle()
        assert {host: fleet[host].view() for host in fleet.hosts} == views
    finally:
        fleet.end()
    carried = looks["alpha"].sent
    name = f"cluster of 3, silent drop at {RATE} messages/s, {carried} sent, lost 0: longest gap"
    record_property(name, f"{max(gaps.values()):.0f} ms (baseline {max(before.values()):.0f} ms)")
    assert max(gaps.values()) < GAP_MS_MAX


def test_a_cluster_may_be_mixed_of_kernel_and_user_sctp(
    hosts_on_rails: Lab, tmp_path: Path
) -> None:
    """By configuration alone: the kernel's node goes in UDP as well."""
    lab = hosts_on_rails
    lab.run("alpha", ["sysctl", "-qw", f"net.sctp.udp_port={UDP_PORT}"])
    fleet = Fleet(lab, tmp_path, hosts=2, driver="kernel_sctp", encapsulation=True, timing=TIMING)
    other = lab.cluster_toml(tmp_path / "user.toml", hosts=2, driver="user_sctp", timing=TIMING)
    try:
        fleet.nodes["alpha"] = fleet.spawn("alpha", START_S)
        fleet.nodes["bravo"] = fleet.spawn("bravo", START_S, config=other)
        fleet.await_whole(START_S)
        # Every path up, in both eyes: probes of each are understood by the other.
        fleet.await_paths(timeout=START_S)
        for host in fleet.hosts:
            fleet[host].ask(Burst(count=50, held=True, timeout_s=START_S), START_S)
        for receiver, sender in itertools.permutations(fleet.ids, 2):
            host = fleet.hosts[receiver - 1]
            fleet[host].ask(Reach(sender=sender, number=50), START_S)
        meet = Meet(name="mixed", before=5, timeout_s=START_S)
        begun = {host: fleet[host].begin(meet) for host in fleet.hosts}
        met = {host: fleet[host].result(number, START_S) for host, number in begun.items()}
        looks = fleet.settle()
    finally:
        fleet.end()
    check_meeting(met)
    for look in looks.values():
        assert look.stats["driver"]["probes_sent"] > 0


def test_multicast_survives_delay_jitter_doubles_and_reordering(
    hosts_on_rails: Lab, tmp_path: Path
) -> None:
    """What a bad network does to datagrams, where there is nothing else."""
    fleet = Fleet(hosts_on_rails, tmp_path, driver=MULTICAST, timing=TIMING)
    fleet.lane = "bulk"
    try:
        for host in fleet.hosts:
            fleet.nodes[host] = fleet.spawn(host, START_S)
        fleet.await_whole(START_S)
        fleet.await_paths(timeout=START_S)
        fleet["alpha"].await_event("MulticastChanged", peer=2, state="arrives")
        views = {host: fleet[host].view() for host in fleet.hosts}
        for host in fleet.hosts:
            disturb(fleet.lab, "a", host)
        fleet.stream(RATE // 2)
        fleet.flow(3 * RATE)
        looks = fleet.settle()
        assert {host: fleet[host].view() for host in fleet.hosts} == views
    finally:
        fleet.end()
    heard = [look.stats["core"].get("frames_asked_for", 0) for look in looks.values()]
    assert sum(heard) > 0, "something was lost, and asked for"


def disturb(lab: Lab, rail: str, host: str) -> None:
    """Delay what a host sends, by this and that much, so that it is overtaken; double and lose."""
    trouble = "delay 4ms 3ms reorder 25% 50% duplicate 5% loss 2%"
    sh(f"tc -n {lab.namespace(host)} qdisc replace dev {lab.interface(rail)} root netem {trouble}")


def check_meeting(met: dict[str, Answer]) -> None:
    """Everybody was released by the same, and has what the others sent before they arrived."""
    assert [answer.error for answer in met.values()] == ["", ""], met
    assert len({(answer.generation, answer.position) for answer in met.values()}) == 1
    for answer in met.values():
        assert answer.parties == [1, 2]
        assert sorted(answer.marks.values()) == [55, 55]
