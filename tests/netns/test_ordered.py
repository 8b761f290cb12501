"""Ordered channels on real rails: one order and one state, through kills, cuts and returns."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from phalanx.transport.testing.guarantees import judge

from .harness import Fleet, now_ns
from .reports import Close, Halt, Look, Open, Publish, PublishOn, ReadTo

pytestmark = pytest.mark.netns

LOG = "log"
RATE = 200
STEPS = 30
"""Entries that each publishes before the next thing happens."""


def open_at(fleet: Fleet, hosts: Collection[str]) -> None:
    """They open the channel, one after another."""
    for host in hosts:
        fleet[host].ask(Open(channel=LOG))


def publish_at(fleet: Fleet, hosts: Collection[str]) -> None:
    """They publish from now on."""
    for host in hosts:
        fleet[host].ask(PublishOn(channel=LOG, rate=RATE))


def go_on(fleet: Fleet, hosts: Collection[str]) -> int:
    """Return when they have read some more; returns how many entries the last one has read."""
    read = 0
    for _ in range(STEPS):
        places = [fleet[host].ask(Publish(channel=LOG, safe=True)).position for host in hosts]
        read = min(
            fleet[host].ask(ReadTo(channel=LOG, position=max(places))).sent for host in hosts
        )
    return read


def end(fleet: Fleet) -> int:
    """All read to the end, and have read the same; the histories are judged. Returns how much."""
    for host in fleet.hosts:
        fleet[host].ask(Halt())
    last = max(fleet[host].ask(Publish(channel=LOG)).position for host in fleet.hosts)
    read = {fleet[host].ask(ReadTo(channel=LOG, position=last)).sent for host in fleet.hosts}
    assert len(read) == 1, f"with their states they have read {read}"
    for host in fleet.hosts:
        fleet[host].ask(Close(channel=LOG))
    fleet.settle()
    checked = {it.guarantee.name: it.checked for it in judge(fleet.evidence(), quiet=True)}
    for name in ("agreed order", "safe delivery"):
        assert checked[name] > STEPS, f"{name} was hardly put to the test: {checked}"
    return read.pop()


@pytest.mark.parametrize("host", ["charlie", "alpha"])
def test_an_order_outlives_its_publishers(trio: Fleet, host: str) -> None:
    """One is killed while all publish; it comes back, and begins with the others' state."""
    survivors = [name for name in trio.hosts if name != host]
    open_at(trio, trio.hosts)
    publish_at(trio, trio.hosts)
    before = go_on(trio, trio.hosts)
    killed_ns = trio[host].kill()
    trio.await_view([trio[name].id for name in survivors], survivors, killed_ns)
    without = go_on(trio, survivors)
    assert without > before
    trio.start(host)
    trio.await_view(trio.ids, trio.hosts, killed_ns)
    open_at(trio, [host])
    publish_at(trio, [host])
    whole = go_on(trio, trio.hosts)
    assert end(trio) > whole > without


def test_who_was_cut_off_goes_on_with_the_others_state(trio: Fleet) -> None:
    """It may publish nothing meanwhile; what it read alone, or not at all, the state makes up."""
    others = ["alpha", "bravo"]
    open_at(trio, trio.hosts)
    publish_at(trio, trio.hosts)
    go_on(trio, trio.hosts)
    cut_ns = now_ns()
    trio.lab.partition([["charlie"]])
    trio["charlie"].await_event("PrimaryLost", cut_ns)
    trio.await_view([trio[name].id for name in others], others, cut_ns)
    refused = trio["charlie"].result(trio["charlie"].begin(Publish(channel=LOG)))
    assert refused.error == "NoQuorum"
    apart = go_on(trio, others)
    healed_ns = now_ns()
    trio.lab.partition([])
    trio["charlie"].await_event("Rejoined", healed_ns)
    trio.await_view(trio.ids, trio.hosts, healed_ns)
    go_on(trio, trio.hosts)
    refusals = trio["charlie"].ask(Look()).refusals
    assert set(refusals) <= {"NoQuorum", "EvictedError"}, refusals
    trio.await_paths()
    assert end(trio) > apart


def test_a_lost_rail_is_no_event_for_the_order(trio: Fleet) -> None:
    """Both of two rails are cut, one after the other, and nothing is lost or doubled."""
    view = trio["alpha"].view()
    open_at(trio, trio.hosts)
    publish_at(trio, trio.hosts)
    for rail in trio.lab.rails:
        go_on(trio, trio.hosts)
        for host in trio.hosts:
            trio.lab.cut(rail, host)
        go_on(trio, trio.hosts)
        trio.lab.heal_all()
        trio.await_paths()
    end(trio)
    assert trio["alpha"].view() == view
