"""A cluster file without addresses: nodes find each other by multicast, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Figure, Standing, stand
from .harness import MS, Fleet, Node, now_ns

pytestmark = pytest.mark.netns

RATE = 500
STRANGER = "delta"
"""A host of the lab on which no node of the cluster runs."""
FOUND_MS = 4000
"""A node that has moved: three seconds until it is believed, and a view change."""


@pytest.fixture(scope="module")
def standing_found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """Three nodes that know each other's ids and names, and a host beside them."""
    folder = tmp_path_factory.mktemp("found")
    discovery = {"multicast": True}
    with stand(folder, lab_hosts=4, hosts=3, addresses=False, discovery=discovery) as standing:
        yield standing


@pytest.fixture
def found(standing_found: Standing) -> Iterator[Fleet]:
    """See `standing_found`; what happens is judged by the checkers of all guarantees."""
    fleet = standing_found.whole()
    yield fleet
    fleet.check()


def elsewhere(fleet: Fleet, folder: Path, node: str, *, hosts: int = 3) -> Node:
    """A process on the fourth host that says it is this node of a cluster of so many."""
    config = fleet.lab.cluster_toml(
        folder / "elsewhere.toml", hosts=hosts, addresses=False, discovery={"multicast": True}
    )
    return fleet.spawn(STRANGER, timeout=2.0, config=config, node=node)


def lose_bravo(fleet: Fleet) -> None:
    """Its process is killed, and the others go on without it."""
    since_ns = fleet["bravo"].kill()
    fleet.await_view((1, 3), ("alpha", "charlie"), since_ns)


def test_nodes_find_each_other_on_all_rails(found: Fleet) -> None:
    """Over SCTP, by datagrams and by lifelines: what an address is needed for."""
    found.stream(RATE)
    found.flow(RATE)
    for answer in found.settle().values():
        assert answer.stats["lifelines"]["up"] >= 4
        assert answer.stats["datagrams"].get("without_address", 0) == 0
        assert answer.stats["datagrams"]["frames_received"] > 0
        assert answer.stats["beacons"]["heard"] > 0
        assert "refused" not in answer.stats["beacons"]


def test_a_node_that_is_started_again_is_found_again(found: Fleet, figure: Figure) -> None:
    """It knows nobody's address when it starts."""
    lose_bravo(found)
    since_ns = now_ns()
    found.start("bravo")
    found.await_whole()
    figure("a node found again after ms", (now_ns() - since_ns) / MS, 3000)


def test_a_node_that_is_not_configured_is_refused_by_name(found: Fleet, tmp_path: Path) -> None:
    """Loudly, on each node; and it is told itself whom it waits for."""
    since_ns, view = now_ns(), found["alpha"].view()
    stranger = elsewhere(found, tmp_path, STRANGER, hosts=4)
    for host in found.hosts:
        event = found[host].await_event("PeerRefused", since_ns, peer=4)
        assert "node delta (4)" in event.text
        assert "is not in this node's cluster file" in event.text
    assert stranger.await_end() == 1
    assert found["alpha"].view() == view


def test_a_second_process_of_a_node_is_refused_and_does_no_harm(
    found: Fleet, tmp_path: Path
) -> None:
    """On another host, where no locked folder stops it."""
    since_ns, view = now_ns(), found["alpha"].view()
    found.stream(RATE)
    second = elsewhere(found, tmp_path, "bravo")
    event = found["bravo"].await_event("PeerRefused", since_ns, peer=2)
    assert "says that it is this node, bravo (2)" in event.text
    for host in ("alpha", "charlie"):
        event = found[host].await_event("PeerRefused", since_ns, peer=2)
        assert f"is at {found.lab.address('a', 'bravo')} (a)" in event.text
    assert second.await_end() == 1
    assert "another process runs as this node" in second.seen[-1].text, second.story()
    found.settle()
    assert found["alpha"].view() == view


def test_a_node_that_moves_to_another_host_is_found_there(found: Fleet, figure: Figure) -> None:
    """Its record goes with it; the file names no place, so nothing has to be changed."""
    lose_bravo(found)
    since_ns = now_ns()
    found.nodes["bravo"] = found.spawn(STRANGER, node="bravo")
    found.await_whole()
    figure("a node found elsewhere after ms", (now_ns() - since_ns) / MS, FOUND_MS)
    lose_bravo(found)
