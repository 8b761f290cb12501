"""Faults do what they say, where they say it, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from phalanx.transport.errors import UsageError
from phalanx.transport.testing.fixtures import MakeLab
from phalanx.transport.testing.lab import Lab

Arrived = Callable[..., int]

FILTERS = ("iptables", "nft")


def test_every_host_reaches_every_other_on_every_rail(lab: Lab, arrived: Arrived) -> None:
    """The fixture promises rails that carry traffic, not just interfaces."""
    for rail in lab.rails:
        for source in lab.hosts:
            for target in lab.hosts:
                assert arrived(lab, rail, source, target, packets=2) == 2


def test_rails_are_separate_networks(lab: Lab) -> None:
    """A packet for rail a never crosses rail b, else a cut rail would go unnoticed."""
    lab.cut("a", "alpha", how="interface")
    with lab.socket("alpha") as sender, pytest.raises(OSError, match="unreachable"):
        sender.sendto(b"x", (lab.address("a", "bravo"), 9))


@pytest.mark.parametrize("filters", FILTERS)
def test_a_drop_is_silent_and_hits_one_rail_of_one_host(
    make_lab: MakeLab, arrived: Arrived, filters: str
) -> None:
    """Sending must succeed: an error would tell the sender what a broken switch does not."""
    lab = make_lab(filters=filters)
    lab.drop("a", "alpha")
    assert lab.carrier("a", "alpha")
    assert arrived(lab, "a", "alpha", "bravo") == 0
    assert arrived(lab, "a", "bravo", "alpha") == 0
    assert arrived(lab, "b", "alpha", "bravo") == 20
    assert arrived(lab, "a", "charlie", "bravo") == 20
    lab.heal("a", "alpha")
    assert arrived(lab, "a", "alpha", "bravo") == 20
    assert arrived(lab, "a", "bravo", "alpha") == 20


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_drop_can_be_one_way(
    make_lab: MakeLab, arrived: Arrived, filters: str, direction: str
) -> None:
    """One-way loss of contact is where failure detectors are wrong most often."""
    lab = make_lab(hosts=2, filters=filters)
    lab.drop("a", 1, direction)
    assert arrived(lab, "a", "alpha", "bravo") == (20 if direction == "in" else 0)
    assert arrived(lab, "a", "bravo", "alpha") == (20 if direction == "out" else 0)


@pytest.mark.parametrize("filters", FILTERS)
def test_a_drop_covers_ipv6(make_lab: MakeLab, arrived: Arrived, filters: str) -> None:
    """A rail that still carries one address family is not dropped."""
    lab = make_lab(hosts=2, ipv6=True, filters=filters)
    assert arrived(lab, "a", "alpha", "bravo", ipv6=True) == 20
    lab.drop("a", "alpha", "out")
    assert arrived(lab, "a", "alpha", "bravo", ipv6=True) == 0
    assert arrived(lab, "a", "bravo", "alpha", ipv6=True) == 20


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("direction", ["in", "out"])
def test_loss_takes_about_its_share(
    make_lab: MakeLab, arrived: Arrived, filters: str, direction: str
) -> None:
    """2,000 packets at 30 %: 1,400 arrive, give or take 6 standard deviations (20.5 each)."""
    lab = make_lab(hosts=2, filters=filters)
    lab.loss("a", "alpha", 30, direction)
    source, target = ("bravo", "alpha") if direction == "in" else ("alpha", "bravo")
    assert abs(arrived(lab, "a", source, target, packets=2000) - 1400) < 123
    assert arrived(lab, "a", target, source, packets=2000) == 2000
    lab.loss("a", "alpha", 0)
    assert arrived(lab, "a", source, target, packets=2000) == 2000


def test_a_cut_cable_takes_the_carrier_away(lab: Lab, arrived: Arrived) -> None:
    """The host sees what it would see with a pulled plug, on that rail only."""
    lab.cut("a", "alpha")
    assert not lab.carrier("a", "alpha")
    assert lab.carrier("b", "alpha")
    assert lab.carrier("a", "bravo")
    assert arrived(lab, "a", "bravo", "charlie") == 20
    assert arrived(lab, "b", "alpha", "bravo") == 20
    lab.heal("a", "alpha")
    assert lab.carrier("a", "alpha")
    assert arrived(lab, "a", "alpha", "bravo") == 20


def test_an_interface_is_whole_again_after_down_and_up(make_lab: MakeLab, arrived: Arrived) -> None:
    """The kernel forgets IPv6 addresses when an interface goes down; the lab must not."""
    lab = make_lab(hosts=2, ipv6=True)
    before = lab.run("alpha", ["ip", "route", "show", "table", "all"]).stdout
    lab.cut("a", "alpha", how="interface")
    assert not lab.carrier("a", "alpha")
    lab.heal("a", "alpha")
    assert arrived(lab, "a", "alpha", "bravo") == 20
    assert arrived(lab, "a", "bravo", "alpha", ipv6=True) == 20
    after = lab.run("alpha", ["ip", "route", "show", "table", "all"]).stdout
    assert sorted(after.splitlines()) == sorted(before.splitlines())


def test_faults_on_one_host_add_up_and_heal_one_by_one(lab: Lab, arrived: Arrived) -> None:
    """Healing rail a must not undo what was done to rail b."""
    lab.drop("a", "alpha")
    lab.drop("b", "alpha", "out")
    lab.cut("a", "bravo")
    lab.heal("a", "alpha")
    lab.heal("a", "bravo")
    assert arrived(lab, "a", "alpha", "bravo") == 20
    assert arrived(lab, "b", "alpha", "bravo") == 0
    assert lab.state.faults["b/alpha"].describe() == "drop out"
    lab.heal_all()
    assert lab.state.faults == {}
    assert arrived(lab, "b", "alpha", "bravo") == 20


@pytest.mark.parametrize("filters", FILTERS)
def test_a_partition_separates_groups_on_every_rail(
    make_lab: MakeLab, arrived: Arrived, filters: str
) -> None:
    """Hosts that are in no group form one, and a heal of one rail does not end it."""
    lab = make_lab(hosts=4, filters=filters)
    lab.partition([["alpha", "bravo"]])
    for rail in lab.rails:
        assert arrived(lab, rail, "alpha", "bravo") == 20
        assert arrived(lab, rail, "charlie", "delta") == 20
        assert arrived(lab, rail, "alpha", "charlie") == 0
        assert arrived(lab, rail, "delta", "bravo") == 0
    lab.heal("a", "alpha")
    assert arrived(lab, "a", "charlie", "alpha") == 0
    lab.heal_all()
    assert arrived(lab, "a", "charlie", "alpha") == 20


def test_without_offload_loss_counts_packets_of_the_wire(make_lab: MakeLab) -> None:
    """A 14,000-byte segmented send is ten packets to a lossy network, not one."""
    lab = make_lab(hosts=2, rails=("a",), offload=False)
    lab.drop("a", "bravo", "in")
    with lab.socket("alpha") as sender:
        sender.setsockopt(socket.IPPROTO_UDP, 103, 1400)  # UDP_SEGMENT
        sender.sendto(bytes(14000), (lab.address("a", "bravo"), 9))
    rules = lab.run("bravo", ["iptables", "-w", "-nvx", "-L", "PHALANX-IN"]).stdout
    assert rules.splitlines()[2].split()[:3] == ["10", "14280", "DROP"]


@contextmanager
def group(lab: Lab) -> Generator[tuple[Callable[[], None], list[socket.socket]], None, None]:
    """How alpha sends to a group of rail a, and what bravo and charlie have there."""
    address = "239.71.0.1"
    receivers = [lab.socket(host) for host in ("bravo", "charlie")]
    with lab.socket("alpha") as sender, receivers[0], receivers[1]:
        for host, receiver in zip(("bravo", "charlie"), receivers, strict=True):
            receiver.bind((address, 7000))
            membership = socket.inet_aton(address) + socket.inet_aton(lab.address("a", host))
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            receiver.settimeout(2)
        source = socket.inet_aton(lab.address("a", "alpha"))
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, source)

        def send() -> None:
            sender.sendto(b"all", (address, 7000))

        yield send, receivers


def test_multicast_reaches_every_host_of_the_rail(lab: Lab) -> None:
    """The fan-out carrier rests on it; snooping bridges would lose it without a querier."""
    with group(lab) as (send, receivers):
        send()
        assert [receiver.recv(16) for receiver in receivers] == [b"all", b"all"]


@pytest.mark.parametrize("filters", FILTERS)
def test_a_deaf_host_hears_no_multicast_and_everything_else(
    make_lab: MakeLab, arrived: Arrived, filters: str
) -> None:
    """The others go on hearing; healing its rail ends it."""
    lab = make_lab(3, filters=filters)
    with group(lab) as (send, (bravo, charlie)):
        lab.deafen("a", "bravo")
        send()
        assert charlie.recv(16) == b"all"
        bravo.settimeout(0.2)
        with pytest.raises(TimeoutError):
            bravo.recv(16)
        assert arrived(lab, "a", "alpha", "bravo") == 20
        lab.heal("a", "bravo")
        send()
        assert bravo.recv(16) == b"all"


@pytest.mark.parametrize("filters", FILTERS)
def test_blocked_sctp_is_that_of_a_pair_on_all_rails(make_lab: MakeLab, filters: str) -> None:
    """Plain and in UDP, to whichever of them it goes; other ports and hosts are let through."""
    lab = make_lab(3, filters=filters)

    def passes(source: str, target: str, port: int, *, plain: bool = False) -> bool:
        kind = socket.SOCK_RAW if plain else socket.SOCK_DGRAM
        protocol = 132 if plain else 0
        there = lab.address("b", target)

        def open_socket() -> socket.socket:
            return socket.socket(socket.AF_INET, kind, protocol)

        with lab.within(target, open_socket) as receiver, lab.within(source, open_socket) as sender:
            receiver.bind((there, port))
            receiver.settimeout(0.3)
            sender.sendto(b"x" * 32, (there, port))
            try:
                return bool(receiver.recv(64))
            except TimeoutError:
                return False

    lab.block_sctp("alpha", "bravo")
    assert not passes("alpha", "bravo", 9899)
    assert not passes("bravo", "alpha", 9899)
    assert not passes("alpha", "bravo", 0, plain=True)
    assert passes("alpha", "bravo", 9900)
    assert passes("alpha", "charlie", 9899)
    assert passes("charlie", "bravo", 0, plain=True)
    lab.block_sctp()
    assert passes("alpha", "bravo", 9899)


def test_what_cannot_be_done_is_refused_before_anything_happens(lab: Lab) -> None:
    """A typing mistake names the choices instead of breaking half of something."""
    with pytest.raises(UsageError, match="no rail 'z'; its rails are a, b"):
        lab.cut("z", "alpha")
    with pytest.raises(UsageError, match="no host 'dora'; its hosts are alpha, bravo, charlie"):
        lab.drop("a", "dora")
    with pytest.raises(UsageError, match="no host '4'"):
        lab.heal("a", 4)
    with pytest.raises(UsageError, match='use "in", "out" or "both"'):
        lab.drop("a", "alpha", "up")
    with pytest.raises(UsageError, match="0 to 100"):
        lab.loss("a", "alpha", 101)
    with pytest.raises(UsageError, match="one group only"):
        lab.partition([["alpha"], ["alpha", "bravo"]])
    assert all(lab.carrier(rail, host) for rail in lab.rails for host in lab.hosts)
