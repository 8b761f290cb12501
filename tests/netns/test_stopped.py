"""A member is stopped (SIGSTOP): its kernel answers, it does not."""

from __future__ import annotations

import pytest

from .conftest import Figure
from .harness import MS, Fleet, S, now_ns
from .reports import Burst, Look, Stream

pytestmark = pytest.mark.netns

RATE = 1000
"""Directed messages a second that each of the others sends."""
BESIDE = 250
"""Multicasts a second of every member beside them: with 1,000, three recorded members filled two
cores, and what a gap showed was who waited for a core."""
STOPPED_S = 3
OUT_MS_MAX = 600
RSS_GROWTH_MIB_MAX = 48


def continue_and_rejoin(fleet: Fleet, figure: Figure, host: str) -> None:
    """Continued, a node learns that it was evicted and comes back by itself."""
    before = fleet[host].view()
    assert before is not None, "it was a member"
    node = fleet[host].id
    continued_ns = fleet[host].go_on()
    fleet[host].await_event("Evicted", continued_ns)
    fleet[host].await_event("Rejoined", continued_ns)
    views = fleet.await_view(fleet.ids, fleet.hosts, continued_ns)
    assert views[host].members[node] > before.members[node], "it is a newcomer"
    back_ms = (max(seen.at_ns for seen in views.values()) - continued_ns) / MS
    figure(f"{host} continued, back in a view of all after ms", back_ms, 3000)


@pytest.mark.parametrize("host", ["charlie", "alpha"])
def test_others_go_on_while_a_member_is_stopped_and_it_comes_back(
    trio: Fleet, figure: Figure, host: str
) -> None:
    """Directed sends among the others see no gap over 50 ms, neither before nor at the new view."""
    others = [name for name in trio.hosts if name != host]
    ids = {name: trio[name].id for name in others}
    for name, other in (others, others[::-1]):
        trio[name].ask(Stream(rate=RATE, to=ids[other]))
    trio.stream(BESIDE)
    trio.flow(BESIDE // 2)
    stopped_ns = trio[host].stop()
    views = trio.await_view(ids.values(), others, stopped_ns)
    out_ms = (max(seen.at_ns for seen in views.values()) - stopped_ns) / MS
    trio.flow((STOPPED_S * S - (now_ns() - stopped_ns)) * BESIDE // S, others)
    continue_and_rejoin(trio, figure, host)
    trio.settle()
    pairs = trio.pairs(others)
    baseline = trio.gaps_ms(pairs, stopped_ns - 400 * MS, stopped_ns, directed=True)
    gaps = trio.gaps_ms(pairs, stopped_ns, stopped_ns + 2 * S, directed=True)
    casts = trio.gaps_ms(pairs, stopped_ns, stopped_ns + 2 * S)
    # For a failure, what is shown of the output.
    print("stopped at", stopped_ns / S, "directed", gaps, "multicast", casts)
    name = f"{host} stopped"
    figure(f"{name}, baseline gap of directed sends ms", max(baseline.values()), 1000)
    figure(f"{name}, out of the view after ms", out_ms, OUT_MS_MAX)
    figure(f"{name}, longest gap of directed sends ms", max(gaps.values()), 50)
    figure(f"{name}, longest gap of multicasts among the others ms", max(casts.values()), 100)


def test_a_full_window_makes_senders_wait_or_tells_them_as_they_choose(
    trio: Fleet, figure: Figure
) -> None:
    """10 MB/s fill the window of a stopped member long before it is out; memory stays bounded."""
    trio["alpha"].ask(Stream(rate=200, size=50_000, wait=False))
    trio["bravo"].ask(Stream(rate=200, size=50_000, wait=True))
    others = ("alpha", "bravo")
    trio.flow(100, senders=others)
    before = {host: trio[host].ask(Look()) for host in others}
    stopped_ns = trio["charlie"].stop()
    views = trio.await_view((1, 2), others, stopped_ns)
    out_ms = (max(seen.at_ns for seen in views.values()) - stopped_ns) / MS
    during = {"alpha": trio["alpha"].ask(Look())}
    # Who waited goes on a moment after the view; a look forgets how long the sends before it took.
    trio.flow(50, others, senders=("alpha",))
    during["bravo"] = trio["bravo"].ask(Look())
    continue_and_rejoin(trio, figure, "charlie")
    trio.settle()
    assert "Overloaded" not in before["alpha"].refusals, "the window has room for this rate"
    overloaded = during["alpha"].refusals["Overloaded"]
    assert overloaded.first_ns > stopped_ns + 50 * MS, "multicasts go on until the window is full"
    assert overloaded.last_ns <= views["alpha"].at_ns + 50 * MS, "there is room in the new view"
    assert "Overloaded" not in during["bravo"].refusals, "it chose to wait"
    waited_ms = during["bravo"].accept_ns_max / MS
    assert waited_ms > 50, "the sender that waits has waited"
    for host, look in during.items():
        growth = (look.rss_bytes - before[host].rss_bytes) / (1 << 20)
        figure(f"window full, {host} has grown by MiB", growth, RSS_GROWTH_MIB_MAX)
    figure("window full, longest wait for room ms", waited_ms, OUT_MS_MAX)
    figure("window full, out of the view after ms", out_ms, OUT_MS_MAX)


def test_a_short_stop_is_no_membership_event(trio: Fleet) -> None:
    """A stall well below the suspicion time is noise: everything arrives in the same view."""
    view = trio["alpha"].view()
    trio.stream(RATE)
    trio.flow(RATE // 10)
    stopped_ns = trio["charlie"].stop()
    # 100 ms of the others' traffic, by the clock of their own streams.
    trio.flow(RATE // 10, ("alpha", "bravo"))
    trio["charlie"].go_on()
    trio.flow(RATE // 10)
    trio.settle()
    assert trio["alpha"].view() == view
    gaps = trio.gaps_ms([("charlie", "alpha")], stopped_ns, now_ns())
    assert gaps["charlie", "alpha"] > 50, "it was stopped"
    trio["charlie"].ask(Burst(count=1, held=True))
