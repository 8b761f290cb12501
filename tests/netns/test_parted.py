"""A node leaves in good order, or the network parts it from the others."""

from __future__ import annotations

import pytest

from .conftest import Figure
from .harness import MS, Fleet, now_ns
from .outcomes import same_deliveries
from .reports import Burst, Leave, Look, Meet

pytestmark = pytest.mark.netns

RATE = 500
SAFETY_MS = 1500


@pytest.mark.parametrize("host", ["charlie", "alpha"])
def test_a_clean_leave_is_known_at_once_and_by_its_name(
    trio: Fleet, figure: Figure, host: str
) -> None:
    """A farewell is proof: nobody waits for a lease, and all that was sent is delivered."""
    others = [name for name in trio.hosts if name != host]
    ids = [trio[name].id for name in others]
    trio.stream(RATE)
    trio.flow(RATE // 2)
    sent = trio[host].ask(Look()).sent
    incarnation = trio[host].ask(Look()).incarnation
    left_ns = now_ns()
    trio[host].ask(Leave())
    views = trio.await_view(ids, others, left_ns)
    gone_ms = (max(seen.at_ns for seen in views.values()) - left_ns) / MS
    assert trio[host].await_end() == 0
    for seen in views.values():
        assert seen.left == {trio[host].id: "left in good order"}
    assert same_deliveries(views)[f"{trio[host].id}.{incarnation}"] >= sent
    trio.start(host)
    trio.await_view(trio.ids, trio.hosts, left_ns)
    trio.settle()
    figure(f"{host} leaves, new view of the others after ms", gone_ms, 200)


def test_the_last_to_leave_leaves_in_time(trio: Fleet) -> None:
    """Without a majority nobody acknowledges any more, but leaving has a deadline."""
    for host in ("alpha", "bravo", "charlie"):
        trio[host].ask(Leave())
        assert trio[host].await_end() == 0
    for host in trio.hosts:
        trio.start(host)
    trio.await_whole()
    trio.settle()


@pytest.mark.parametrize("host", ["charlie", "alpha"])
def test_a_minority_stops_before_the_majority_goes_on(
    trio: Fleet, figure: Figure, host: str
) -> None:
    """One primary: the cut-off node does nothing from the end of its lease, and says so."""
    others = [name for name in trio.hosts if name != host]
    ids = [trio[name].id for name in others]
    trio.stream(RATE)
    trio.flow(RATE // 2)
    cut_ns = now_ns()
    trio.lab.partition([[host]])
    lost = trio[host].await_event("PrimaryLost", cut_ns)
    views = trio.await_view(ids, others, cut_ns)
    same_deliveries(views)
    alone = trio.members()[host]
    assert not trio[host].ask(Look()).primary
    assert trio[host].result(trio[host].begin(Burst(count=1))).error == "NoQuorum"
    assert trio[host].result(trio[host].begin(Meet(name="alone"))).error == "NoQuorum"
    trio.flow(RATE // 2, others)
    healed_ns = now_ns()
    trio.lab.partition([])
    trio[host].await_event("Evicted", healed_ns)
    trio[host].await_event("Rejoined", healed_ns)
    whole = trio.await_view(trio.ids, trio.hosts, healed_ns)
    trio.await_paths()
    trio.settle()
    first_view_ns = min(seen.at_ns for seen in views.values())
    own_ns = max(got.at_ns for _, got in alone.stays[-1].got if got.sender == trio[host].id)
    assert own_ns < first_view_ns, "its last message to itself is of the old view's time"
    back_ms = (max(seen.at_ns for seen in whole.values()) - healed_ns) / MS
    view_ms = (max(seen.at_ns for seen in views.values()) - cut_ns) / MS
    figure(f"{host} cut off, PrimaryLost after ms", (lost.at_ns - cut_ns) / MS, SAFETY_MS)
    figure(f"{host} cut off, new view of the majority after ms", view_ms, SAFETY_MS)
    figure(f"{host} healed, back in a view of all after ms", back_ms, 5000)


def test_a_short_partition_is_no_membership_event(trio: Fleet) -> None:
    """Contact that comes back within the suspicion time costs a pause and nothing else."""
    view = trio["alpha"].view()
    trio.stream(RATE)
    trio.flow(RATE // 10)
    trio.lab.partition([["charlie"]])
    # 100 ms of the others' traffic, by the clock of their own streams.
    trio.flow(RATE // 10, ("alpha", "bravo"))
    trio.lab.partition([])
    trio.flow(RATE // 10)
    trio.settle()
    assert trio["alpha"].view() == view


def test_two_nodes_that_cannot_hear_each_other_do_not_stop_the_third(trio: Fleet) -> None:
    """The larger clique that holds a majority goes on; when contact is back all are together."""
    lab = trio.lab
    trio.stream(RATE)
    trio.flow(RATE // 10)
    cut_ns = now_ns()
    # Only what goes between alpha and charlie is lost; bravo hears both.
    for rail in lab.rails:
        for host, other in (("alpha", "charlie"), ("charlie", "alpha")):
            source = lab.address(rail, other)
            lab.run(host, ["iptables", "-w", "-A", "INPUT", "-s", source, "-j", "DROP"])
    try:
        seen = trio["bravo"].await_event("ViewInstalled", cut_ns)
        assert len(seen.members) == 2
        assert 2 in seen.members
        inside = [name for name in trio.hosts if trio[name].id in seen.members]
        trio.flow(RATE // 2, inside)
    finally:
        for rail in lab.rails:
            for host, other in (("alpha", "charlie"), ("charlie", "alpha")):
                source = lab.address(rail, other)
                lab.run(host, ["iptables", "-w", "-D", "INPUT", "-s", source, "-j", "DROP"])
    trio.await_whole()
    trio.settle()
