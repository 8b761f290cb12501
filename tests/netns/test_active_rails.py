"""Everything over two rails at once, by real processes: a rail that is lost is not noticed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Figure, Standing, stand
from .harness import MS, Fleet, now_ns
from .reports import Look, Stream

pytestmark = pytest.mark.netns

RATE = 200
"""So few that a gap is not that of who waits for a core."""
AFTER_MS = 1000


@pytest.fixture(scope="module")
def standing_active(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """Three nodes that send everything twice."""
    folder = tmp_path_factory.mktemp("active")
    traffic = {"rails": "active"}
    with stand(folder, lab_hosts=3, hosts=3, traffic=traffic) as standing:
        yield standing


@pytest.fixture
def active(standing_active: Standing) -> Iterator[Fleet]:
    """See `standing_active`; what happens is judged by the checkers of all guarantees."""
    fleet = standing_active.whole()
    yield fleet
    fleet.check()


@pytest.mark.parametrize("how", ["silent", "one way", "link"])
def test_a_rail_is_lost_without_a_gap(active: Fleet, figure: Figure, how: str) -> None:
    """Of multicasts and of what goes to one member; with passive rails it takes 30 ms and more."""
    view = active["bravo"].view()
    active["alpha"].ask(Stream(rate=RATE, to=active["bravo"].id))
    active.stream(RATE)
    active.flow(RATE // 2)
    fault_ns = now_ns()
    if how == "link":
        active.lab.cut("a", "alpha")
    else:
        active.lab.drop("a", "alpha", *["in"] * (how == "one way"))
    active.flow(RATE * AFTER_MS // 1000)
    until_ns = now_ns()
    active.lab.heal("a", "alpha")
    active.await_paths()
    active.settle()
    gaps = active.gaps_ms(active.pairs(), fault_ns, until_ns)
    directed = active.gaps_ms([("alpha", "bravo")], fault_ns, until_ns, directed=True)
    figure(f"active rails, {how}, longest gap ms", max(gaps.values()), 30)
    figure(f"active rails, {how}, longest gap of directed ms", max(directed.values()), 30)
    assert active["bravo"].view() == view
    duplicates = active["bravo"].ask(Look()).stats["core"]["duplicates"]
    assert duplicates > RATE // 2, "everything came twice"
    assert until_ns - fault_ns > AFTER_MS * MS // 2
