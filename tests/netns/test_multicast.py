"""Multicast as fan-out, and as the fallback where SCTP does not get through."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from phalanx.transport.config import MULTICAST

from .conftest import Figure, Standing, stand
from .harness import MS, Fleet, S, now_ns
from .reports import Look

pytestmark = pytest.mark.netns

RATE = 1000
SECONDS_AFTER = 2
TRAFFIC = {"multicast": True, "fallback": True}


@pytest.fixture(scope="module")
def standing_carried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """Three nodes with SCTP, fan-out, and fallback."""
    folder = tmp_path_factory.mktemp("carried")
    with stand(folder, lab_hosts=3, hosts=3, traffic=TRAFFIC) as standing:
        yield standing


@pytest.fixture(scope="module")
def standing_by_packets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """The same on hosts that carry nothing longer than a packet: each is lost by itself."""
    folder = tmp_path_factory.mktemp("packets")
    with stand(folder, lab_hosts=3, hosts=3, offload=False, traffic=TRAFFIC) as standing:
        yield standing


@pytest.fixture(scope="module")
def standing_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """Three nodes without any SCTP."""
    folder = tmp_path_factory.mktemp("alone")
    with stand(folder, lab_hosts=3, hosts=3, traffic=TRAFFIC, driver=MULTICAST) as standing:
        yield standing


@pytest.fixture
def carried(standing_carried: Standing) -> Iterator[Fleet]:
    """See `standing_carried`; what happens is judged by the checkers of all guarantees."""
    yield from _heard(standing_carried)


@pytest.fixture
def by_packets(standing_by_packets: Standing) -> Iterator[Fleet]:
    """See `standing_by_packets`; judged likewise."""
    yield from _heard(standing_by_packets)


def _heard(standing: Standing) -> Iterator[Fleet]:
    fleet = standing.whole()
    fleet["alpha"].await_event("MulticastChanged", peer=2, state="arrives")
    yield fleet
    fleet.check()
    fleet.lane = "fifo"


@pytest.fixture
def alone(standing_alone: Standing) -> Iterator[Fleet]:
    """See `standing_alone`; judged likewise."""
    fleet = standing_alone.whole()
    yield fleet
    fleet.check()
    fleet.lane = "fifo"


def views(fleet: Fleet) -> list[object]:
    """What everybody has installed."""
    return [fleet[host].view() for host in fleet.hosts]


def asked_for(fleet: Fleet) -> int:
    """How many frames that had gone to a group everybody has asked for, so far."""
    looks = [fleet[host].ask(Look()).stats["core"] for host in fleet.hosts]
    return sum(look.get("frames_asked_for", 0) for look in looks)


def longest_gap_ms(fleet: Fleet, fault: Callable[[], None], then: Callable[[int], None]) -> float:
    """Under full traffic: the longest gap from a fault to two seconds after it."""
    before = views(fleet)
    fleet.stream(RATE)
    fleet.flow(RATE * 6 // 10)
    fault_ns = now_ns()
    fault()
    then(fault_ns)
    fleet.flow(max(1, (SECONDS_AFTER * S - (now_ns() - fault_ns)) * RATE // S))
    fleet.settle()
    assert views(fleet) == before, "a carrier is no membership event"
    return max(fleet.gaps_ms(fleet.pairs(), fault_ns, fault_ns + SECONDS_AFTER * S).values())


@pytest.mark.parametrize("hosts", [("alpha", "bravo"), ("alpha", "bravo", "charlie")])
def test_blocked_sctp_is_bridged_in_500_ms_and_used_again(
    carried: Fleet, figure: Figure, hosts: tuple[str, ...]
) -> None:
    """A firewall that drops it between one pair, or everywhere; nothing is lost or doubled."""
    name = "one pair" if len(hosts) == 2 else "everywhere"

    def now_by(carrier: str) -> Callable[[int], None]:
        def wait(since_ns: int) -> None:
            carried["alpha"].await_event("CarrierChanged", since_ns, peer=2, state=carrier)
            carried["bravo"].await_event("CarrierChanged", since_ns, peer=1, state=carrier)

        return wait

    gap = longest_gap_ms(carried, lambda: carried.lab.block_sctp(*hosts), now_by("multicast"))
    figure(f"SCTP blocked {name}, longest gap ms", gap, 500)
    gap = longest_gap_ms(carried, carried.lab.block_sctp, now_by("sctp"))
    figure(f"SCTP let through {name}, longest gap ms", gap, 500)


def test_sctp_that_is_blocked_while_nobody_speaks_changes_no_view(carried: Fleet) -> None:
    """It may count its time-outs before it is asked whether it is there; each time is another."""
    before = views(carried)
    for _ in range(4):
        since_ns = now_ns()
        carried.lab.block_sctp(*carried.hosts)
        for host, peer in (("alpha", 2), ("bravo", 3), ("charlie", 1)):
            carried[host].await_event("CarrierChanged", since_ns, peer=peer, state="multicast")
        since_ns = now_ns()
        carried.lab.block_sctp()
        for host, peer in (("alpha", 2), ("bravo", 3), ("charlie", 1)):
            carried[host].await_event("CarrierChanged", since_ns, peer=peer, state="sctp")
    assert views(carried) == before


@pytest.mark.parametrize("percent", [1, 5, 20])
@pytest.mark.parametrize(
    ("hosts", "rate", "size"), [("carried", RATE, 100), ("by_packets", RATE // 4, 10_000)]
)
def test_losses_at_receivers_are_mended(
    request: pytest.FixtureRequest, hosts: str, rate: int, size: int, percent: float
) -> None:
    """Random ones, on the rail that carries everything; no view changes."""
    fleet: Fleet = request.getfixturevalue(hosts)
    before, asked = views(fleet), asked_for(fleet)
    fleet.lane = "bulk"
    for host in ("bravo", "charlie"):
        fleet.lab.loss("a", host, percent, "in")
    fleet.stream(rate, size=size)
    fleet.flow(2 * rate)
    fleet.settle()
    assert [it for it in views(fleet) if it not in before] == []
    assert asked_for(fleet) > asked, "what was lost is asked for"


def test_a_host_that_hears_no_multicast_is_sent_its_own_copies(carried: Fleet) -> None:
    """IGMP is off there: found out, worked around, and said."""
    before, since_ns = views(carried), now_ns()
    carried.lane = "bulk"
    carried.stream(RATE)
    carried.lab.deafen("a", "charlie")
    told = carried["alpha"].await_event("MulticastChanged", since_ns, peer=3, rail="a")
    assert told.state == "does not arrive"
    carried.flow(RATE)
    carried.lab.deafen("a", "charlie", deaf=False)
    carried["alpha"].await_event("MulticastChanged", told.at_ns + 1, peer=3, rail="a")
    carried.settle()
    assert views(carried) == before


def test_a_cluster_without_sctp_survives_the_loss_of_a_rail(alone: Fleet, figure: Figure) -> None:
    """The guarantees are the same, and so is the speed at which a rail is left."""

    def wait(fault_ns: int) -> None:
        alone["bravo"].await_event("PathChanged", fault_ns, peer=1, rail="b", primary=True)

    gap = longest_gap_ms(alone, lambda: alone.lab.drop("a", "alpha"), wait)
    figure("without SCTP, silent drop, longest gap ms", gap, 500)


def test_a_member_that_is_killed_without_sctp_is_out_at_once_and_comes_back(
    alone: Fleet, figure: Figure
) -> None:
    """Its lifelines end as ever."""
    survivors = ("alpha", "bravo")
    alone.stream(RATE)
    alone.flow(RATE // 2)
    died_ns = alone["charlie"].kill()
    seen = alone.await_view((1, 2), survivors, died_ns)
    alone.settle(survivors)
    took_ms = (max(it.at_ns for it in seen.values()) - died_ns) / MS
    figure("without SCTP, killed, new view after ms", took_ms, 200)
    alone.start("charlie")
    alone.await_view(alone.ids, alone.hosts, died_ns)
    alone.settle()


def test_a_receiver_that_is_stopped_for_a_while_without_sctp_comes_back(alone: Fleet) -> None:
    """Longer than it takes to be left out; by the group, as nothing else carries that lane."""
    survivors = ("alpha", "bravo")
    alone.lane = "bulk"
    alone.stream(RATE)
    alone.flow(RATE // 2)
    stopped_ns = alone["charlie"].stop()
    alone.await_view((1, 2), survivors, stopped_ns)
    alone.flow(3 * RATE, survivors, survivors)
    back_ns = alone["charlie"].go_on()
    alone.await_view(alone.ids, survivors, back_ns)
    alone.settle()
