"""Processes are killed: the others go on at once, agree on what they hold, and take them back."""

from __future__ import annotations

import pytest

from .conftest import Figure
from .harness import MS, Fleet, now_ns
from .outcomes import await_arrivals, same_deliveries
from .reports import Burst, Meet
from .restarts import restart_again_and_again

pytestmark = pytest.mark.netns

RATE = 1000
RSS_GROWTH_MAX = 16 << 20
"""Bytes by which a survivor may grow over five restarts: caches fill, nothing else."""


@pytest.mark.parametrize("host", ["charlie", "alpha"])
def test_survivors_of_a_kill_have_a_new_view_in_100_ms(
    trio: Fleet, figure: Figure, host: str
) -> None:
    """The lifelines' end of file proves the death, be it the proposer's own (alpha's).

    View synchrony: the survivors delivered the same messages of the dead one.
    """
    survivors = [name for name in trio.hosts if name != host]
    ids = [trio[name].id for name in survivors]
    dead = trio[host].id
    trio.stream(RATE)
    trio.flow(RATE // 2)
    before = trio[host].view()
    assert before is not None, "it is a member"
    killed_ns = trio[host].kill()
    views = trio.await_view(ids, survivors, killed_ns)
    crash_ms = (max(seen.at_ns for seen in views.values()) - killed_ns) / MS
    marks = same_deliveries(views)
    assert marks[f"{dead}.{before.members[dead]}"] > 0
    assert all(set(seen.left) == {dead} for seen in views.values())
    trio.flow(RATE // 4, survivors)
    trio.settle(survivors)
    gaps = trio.gaps_ms(trio.pairs(survivors), killed_ns, killed_ns + 250 * MS)
    started_ns = now_ns()
    trio.start(host)
    whole = trio.await_view(trio.ids, trio.hosts, killed_ns)
    back_ms = (max(seen.at_ns for seen in whole.values()) - started_ns) / MS
    assert whole[host].members[dead] > before.members[dead]
    trio[host].ask(Burst(count=10, held=True))
    trio.settle()
    figure(f"{host} killed and started, member again after ms", back_ms, 3000)
    figure(f"{host} killed, longest gap among the survivors ms", max(gaps.values()), 200)
    figure(f"{host} killed, new view of all survivors after ms", crash_ms, 100)


def test_five_restarts_in_a_row_leave_nothing_behind(trio: Fleet, figure: Figure) -> None:
    """Each time a view with all three; no stale message, no descriptor and no memory is kept."""
    done = restart_again_and_again(trio, "charlie", rounds=5)
    for host, first in done.looks[0].items():
        last = done.looks[-1][host]
        assert last.descriptors == first.descriptors, f"{host} keeps descriptors"
        growth = (last.rss_bytes - first.rss_bytes) / (1 << 20)
        figure(f"five restarts, {host} has grown by MiB", growth, RSS_GROWTH_MAX >> 20)
    figure("five restarts, slowest return ms", max(done.rejoin_ms), 3000)
    figure("five restarts, slowest new view after SIGKILL ms", max(done.crash_ms), 100)


def test_the_last_of_three_does_not_act_and_takes_the_others_back(
    trio: Fleet, figure: Figure
) -> None:
    """Without a majority nothing is accepted and nothing is hidden; nobody starts over."""
    last, others = "bravo", ("alpha", "charlie")
    view = trio[last].view()
    assert view is not None, "it is a member"
    trio.stream(RATE)
    trio.flow(RATE // 10)
    waiting = trio[last].begin(Meet(name="alone", timeout_s=10))
    # Only an arrival that others know of may have taken effect.
    await_arrivals(trio, "alone", [last], others)
    # Stopped first, both die at the same moment: between two kills there would be a view.
    for host in others:
        trio[host].stop()
    killed_ns = now_ns()
    for host in others:
        trio[host].kill()
    lost = trio[last].await_event("PrimaryLost", killed_ns)
    figure("two of three killed, PrimaryLost after ms", (lost.at_ns - killed_ns) / MS, 1000)
    broken = trio[last].result(waiting)
    assert (broken.error, broken.outcome) == ("NoQuorum", "unknown")
    assert trio[last].result(trio[last].begin(Burst(count=1))).error == "NoQuorum"
    assert trio[last].result(trio[last].begin(Meet(name="alone"))).error == "NoQuorum"
    assert trio[last].find("ViewInstalled", killed_ns) is None, "one of three is no majority"
    started_ns = now_ns()
    for host in others:
        trio.start(host)
    whole = trio.await_view(trio.ids, trio.hosts, killed_ns)
    back_ms = (max(seen.at_ns for seen in whole.values()) - started_ns) / MS
    figure("two of three started again, all in a view after ms", back_ms, 5000)
    assert whole[last].members[trio[last].id] == view.members[trio[last].id], "it never left"
    trio[last].ask(Burst(count=1, held=True))
    trio.settle()


def test_all_three_killed_start_over(trio: Fleet) -> None:
    """Nobody is left to continue the last view, so that it takes all configured nodes."""
    last = trio["alpha"].view()
    assert last is not None, "it is a member"
    for host in trio.hosts:
        trio[host].kill()
    started_ns = now_ns()
    for host in ("alpha", "bravo"):
        trio.start(host)
    trio.start("charlie")
    views = trio.await_view(trio.ids, trio.hosts, started_ns)
    assert views["alpha"].view > last.view, "views form one sequence, over every restart"
    trio.stream(RATE)
    trio.flow(RATE // 10)
    trio.settle()


@pytest.mark.parametrize("host", ["charlie", "alpha"])
def test_a_kill_breaks_a_barrier_for_all_the_same_way(trio: Fleet, host: str) -> None:
    """Barrier uniformity: the survivors see one reason, which names the dead node."""
    survivors = [name for name in trio.hosts if name != host]
    asked = {name: trio[name].begin(Meet(name="broken", timeout_s=10)) for name in survivors}
    # Both have arrived once both hold what the other sent after it.
    for name in survivors:
        trio[name].ask(Burst(count=1, held=True))
    trio[host].kill()
    answers = [trio[name].result(number) for name, number in asked.items()]
    for answer in answers:
        assert (answer.error, list(answer.missing)) == ("BarrierBroken", [trio[host].id])
    assert len({answer.text for answer in answers}) == 1
    trio.start(host)
    trio.await_whole()
    again = [trio[name].begin(Meet(name="broken")) for name in trio.hosts]
    released = [trio[name].result(n) for name, n in zip(trio.hosts, again, strict=True)]
    assert [answer.error for answer in released] == ["", "", ""]
    assert len({answer.generation for answer in released}) == 1
    trio.settle()


def test_a_deadline_breaks_a_barrier_and_names_who_was_missing(trio: Fleet) -> None:
    """No hang and no partial outcome: one times out, the other party is told of the same."""
    patient = trio["bravo"].begin(Meet(name="late", timeout_s=10))
    hasty = trio["alpha"].result(trio["alpha"].begin(Meet(name="late", timeout_s=0.3)))
    assert (hasty.error, list(hasty.missing)) == ("BarrierTimeout", [3])
    broken = trio["bravo"].result(patient)
    assert broken.error == "BarrierBroken"
    assert "node 1" in broken.text
    again = [trio[name].begin(Meet(name="late")) for name in trio.hosts]
    released = [trio[name].result(n) for name, n in zip(trio.hosts, again, strict=True)]
    assert [answer.error for answer in released] == ["", "", ""]
    assert len({(a.generation, a.position) for a in released}) == 1
    trio.settle()
