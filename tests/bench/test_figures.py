"""The arithmetic of results: what a figure means does not depend on who reads it."""

from __future__ import annotations

import msgspec
import pytest

from peers.figures import (
    flowed_mb_per_s,
    latency,
    percentile,
    ratio,
    throughput,
    warmed_up,
)
from peers.lines import DRAIN_S, Delivered, Run, Task, Times
from peers.stage import START_S

MS = 1_000_000
S = 1_000_000_000


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """Nearest rank: no figure lies between two that somebody saw."""
    values = list(range(1, 101))
    assert percentile(values, 0.50) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 100
    assert percentile([3, 1, 2], 0.50) == 2
    assert percentile([7], 0.99) == 7
    assert percentile([1, 2], 0.50) == 1


def test_a_percentile_of_nothing_is_refused() -> None:
    """A run that measured nothing must not look fast."""
    with pytest.raises(AssertionError, match="measured nothing"):
        percentile([], 0.5)


def test_the_first_tenth_of_each_member_is_dropped() -> None:
    """Associations, caches and schedulers warm up in it."""
    assert warmed_up(list(range(20))) == list(range(2, 20))
    assert warmed_up([5]) == [5]


def rounds(us: int, count: int = 10) -> Times:
    """A member whose rounds all took that long, but for a slow first one."""
    return Times(ns=[S] + [us * 1000] * (count - 1))


def test_latency_pools_members_and_takes_the_median_of_the_runs() -> None:
    """One slow run moves the range and not the median."""
    runs = [[rounds(100), rounds(100)], [rounds(300), rounds(300)], [rounds(900), rounds(900)]]
    found = latency("phalanx", 2, 10, runs)
    assert (found.p50_us, found.p99_us) == (300.0, 300.0)
    assert found.p50_range_us == (100.0, 900.0)
    assert (found.system, found.nodes, found.rounds, found.runs) == ("phalanx", 2, 10, 3)


def test_latency_is_that_of_all_members() -> None:
    """A member that waits longest belongs to the tail, whoever it is."""
    found = latency("phalanx", 2, 10, [[rounds(100), rounds(500)]])
    assert found.p50_us == 100.0
    assert found.p99_us == 500.0


def test_members_that_measured_nothing_do_not_count() -> None:
    """In a round trip only the publisher has times."""
    found = latency("corosync", 2, 10, [[rounds(100), Times(ns=[])]])
    assert found.p50_us == 100.0


def member(delivered: int, *, digest: str = "a", total: int = 10, gaps: int = 0) -> Delivered:
    """What was delivered at one node."""
    return Delivered(delivered=delivered, total=total, gaps=gaps, complete=True, hash=digest)


def test_a_rate_is_that_of_the_slowest_node() -> None:
    """Whoever is behind holds the order up for everybody who waits for it."""
    runs = [
        [member(4000), member(2000), member(3000)],
        [member(9000), member(8000), member(8000)],
        [member(6000), member(5000), member(5000)],
    ]
    found = throughput("phalanx", 3, 1000, 2 * S, runs)
    assert found.per_s == 2500.0
    assert found.per_s_range == (1000.0, 4000.0)
    assert found.mb_per_s == 2.5
    assert (found.same_order, found.gaps, found.complete) == (True, 0, True)


def test_one_node_with_another_order_is_noticed() -> None:
    """Whatever its rate, it is no agreed order then."""
    good, other = member(1), member(1, digest="b")
    assert not throughput("x", 2, 64, S, [[good, good], [good, other]]).same_order
    # Two runs have different hashes; only within one they have to agree.
    assert throughput("x", 2, 64, S, [[good, good], [other, other]]).same_order


def test_one_node_that_lacks_messages_is_noticed() -> None:
    """A hash of less could be equal by chance."""
    runs = [[member(1), member(1, total=9)]]
    assert not throughput("x", 2, 64, S, runs).same_order


def test_gaps_and_missing_ends_are_counted() -> None:
    """A sender's message that is not the next one was lost, or overtaken."""
    runs = [[member(1, gaps=2), member(1)], [member(1, gaps=1), member(1)]]
    assert throughput("x", 2, 64, S, runs).gaps == 3
    late = Delivered(delivered=1, total=10, gaps=0, complete=False, hash="a")
    assert not throughput("x", 2, 64, S, [[member(1), late]]).complete


def test_a_verdict_holds_at_its_limit_and_not_past_it() -> None:
    """At most and at least include the limit."""
    assert ratio("x", 600, 1000, 0.6).passed is True
    assert ratio("x", 601, 1000, 0.6).passed is False
    assert ratio("x", 4000, 1000, 4.0, "at least").passed is True
    assert ratio("x", 3999, 1000, 4.0, "at least").passed is False
    assert ratio("x", 9000, 1000).passed is None


def test_a_ratio_is_judged_as_it_is_shown() -> None:
    """A reader who sees 0.600 and the limit 0.6 must not read that it was missed."""
    assert ratio("x", 60.004, 100.0, 0.6).passed is True
    assert ratio("x", 60.06, 100.0, 0.6).passed is False
    assert ratio("x", 60.06, 100.0, 0.6).value == 0.601


def test_the_load_is_what_all_members_received() -> None:
    """Each at its own pace; one without a load counts nothing."""
    slow = Times(ns=[1], elapsed_ns=2 * S, received_bytes=10_000_000)
    fast = Times(ns=[1], elapsed_ns=500 * MS, received_bytes=10_000_000)
    assert flowed_mb_per_s([slow, fast, Times(ns=[1])]) == pytest.approx(25.0)


def test_a_member_outlives_all_that_is_waited_for() -> None:
    """Else one that drains for long ends itself, and its run has no result."""
    task = Task(kind="stream", nodes=4, warm_up_ns=500_000_000, window_ns=2_000_000_000)
    assert task.life_s > START_S + task.limit_s + DRAIN_S


def test_what_a_million_cost_is_the_median_of_the_runs_that_say() -> None:
    """Of rounds, or of deliveries at the node that had fewest; None if no run says."""
    rounds = [Run([Times(ns=[1] * 10)], cpu_s) for cpu_s in (1.0, 3.0, 2.0)]
    assert latency("x", 2, 10, rounds).cpu_s_per_million == 200_000
    assert latency("x", 2, 10, [[Times(ns=[1] * 10)]]).cpu_s_per_million is None
    member = Delivered(delivered=5, total=50, gaps=0, complete=True, hash="")
    fewer = msgspec.structs.replace(member, total=40)
    run = Run([member, fewer], 2.0)
    assert throughput("x", 2, 64, 10**9, [run]).cpu_s_per_million == 50_000
    assert throughput("x", 2, 64, 10**9, [run.receivers()]).cpu_s_per_million == 50_000
