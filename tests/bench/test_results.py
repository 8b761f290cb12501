"""What the programs ask of their figures: which ratios, and which of them have a limit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from peers.barrier_result import Background, BarrierReport
from peers.barrier_result import judge as judge_barrier
from peers.figures import Latency, Throughput, Verdict, throughput
from peers.json_lines import in_lines
from peers.lines import Delivered
from peers.link_result import LinkReport
from peers.link_result import judge as judge_link
from peers.machine import this_machine
from peers.multicast_result import MulticastReport
from peers.multicast_result import judge as judge_multicast
from peers.order_result import OrderReport
from peers.order_result import judge as judge_order
from peers.plot import megabytes
from phalanx.barrier.demo_plot import draw

COLUMNS = 80


def took(system: str, nodes: int, p50_us: float, p99_us: float = 1000.0) -> Latency:
    """A figure of latency."""
    return Latency(
        system=system,
        nodes=nodes,
        rounds=2000,
        runs=3,
        p50_us=p50_us,
        p99_us=p99_us,
        p50_range_us=(p50_us, p50_us),
    )


def carried(
    system: str, size_bytes: int, per_s: float, *, nodes: int = 3, same_order: bool = True
) -> Throughput:
    """A figure of throughput."""
    return Throughput(
        system=system,
        nodes=nodes,
        size_bytes=size_bytes,
        runs=3,
        window_s=2.0,
        per_s=per_s,
        per_s_range=(per_s, per_s),
        mb_per_s=per_s * size_bytes / 1e6,
        same_order=same_order,
        gaps=0,
        complete=True,
    )


def answers(verdicts: Sequence[Verdict]) -> list[tuple[float, bool | None]]:
    """Values, and whether they keep to their limits."""
    return [(verdict.value, verdict.passed) for verdict in verdicts]


def test_barriers_are_compared_where_both_were_measured() -> None:
    """A peer without our figure beside it says nothing."""
    rows = [took("phalanx", 4, 300), took("corosync", 4, 500), took("redis", 8, 700)]
    assert answers(judge_barrier(rows, None)) == [(0.6, True)]
    assert judge_barrier([took("corosync", 4, 500)], None) == []


@pytest.mark.parametrize(
    ("peer", "nodes", "limit"),
    [("corosync", 4, 0.6), ("redis", 4, 1.0), ("corosync", 8, 0.4)],
)
def test_barriers_have_their_limits(peer: str, nodes: int, limit: float) -> None:
    """At the limit it is kept, one step past it not."""
    kept, missed = took("phalanx", nodes, limit * 1000), took("phalanx", nodes, limit * 1000 + 1)
    peers = took(peer, nodes, 1000)
    assert answers(judge_barrier([kept, peers], None)) == [(limit, True)]
    assert answers(judge_barrier([missed, peers], None)) == [(round(limit + 0.001, 3), False)]


def test_other_numbers_of_nodes_are_only_told() -> None:
    """Nothing is promised of them."""
    for peer, nodes in (("corosync", 2), ("redis", 2), ("redis", 8)):
        rows = [took("phalanx", nodes, 900), took(peer, nodes, 100)]
        assert answers(judge_barrier(rows, None)) == [(9.0, None)]


def under_load(p99_us: float, flowed: float = 50.0) -> Background:
    """A barrier that takes 200 microseconds without a load."""
    return Background(
        asked_mb_per_s=50.0,
        flowed_mb_per_s=flowed,
        idle=took("idle", 4, 200),
        loaded=took("loaded", 4, 400, p99_us),
    )


def test_the_tail_under_load_may_be_five_times_the_idle_middle() -> None:
    """That is what a bulk lane beside it may cost a barrier."""
    assert answers(judge_barrier([], under_load(1000.0))) == [(5.0, True), (1.0, True)]
    assert answers(judge_barrier([], under_load(1001.0)))[0] == (5.005, False)


def test_a_load_that_did_not_flow_proves_nothing() -> None:
    """A barrier is fast when the bulk lane stands still."""
    assert answers(judge_barrier([], under_load(300.0, flowed=47.5)))[1] == (0.95, True)
    assert answers(judge_barrier([], under_load(300.0, flowed=47.4)))[1] == (0.948, False)


def test_order_has_a_limit_for_small_messages_and_for_the_round_trip() -> None:
    """Of three nodes; everything else is only told."""
    rates = [carried("phalanx", 64, 4000), carried("corosync", 64, 1000)]
    rates += [carried("phalanx", 1024, 500), carried("corosync", 1024, 1000)]
    trips = [took("phalanx", 3, 300), took("corosync", 3, 300)]
    assert answers(judge_order(rates, trips)) == [(4.0, True), (0.5, None), (1.0, True)]
    rates[0], trips[0] = carried("phalanx", 64, 3999), took("phalanx", 3, 301)
    missed = [verdict.passed for verdict in judge_order(rates, trips)]
    assert missed == [False, None, False]
    two = [carried("phalanx", 64, 1, nodes=2), carried("corosync", 64, 1, nodes=2)]
    assert answers(judge_order(two, [])) == [(1.0, None)]


def test_fan_out_has_limits_of_its_own_for_large_messages() -> None:
    """It is told beside phalanx without it, whose limits it has not."""
    own = "phalanx, fan-out"
    rates = [carried(own, 64, 3000), carried(own, 16_384, 1499), carried("phalanx", 16_384, 900)]
    rates += [carried("corosync", 64, 1000), carried("corosync", 16_384, 1000)]
    assert answers(judge_order(rates, [took(own, 3, 900), took("corosync", 3, 300)])) == [
        (3.0, None),
        (1.499, False),
        (0.9, None),
        (3.0, None),
    ]


def linked(system: str, size: int, per_s: float) -> Throughput:
    """A row of one to one."""
    return carried(system, size, per_s, nodes=2)


def test_a_link_has_limits_of_small_messages_by_zeromq_and_of_large_ones_by_the_stack() -> None:
    """Small ones on the bulk lane, which goes in datagrams, large ones over SCTP."""
    small = [linked("phalanx", 64, 999), linked("phalanx, datagrams", 64, 900)]
    small += [linked("pyzmq", 64, 1000), linked("usrsctp in C", 64, 1000)]
    assert answers(judge_link(small)) == [
        (0.999, None),
        (0.9, False),
        (0.999, None),
        (0.9, None),
    ]
    large = [linked("phalanx", 1024, 799), linked("phalanx, datagrams", 1024, 100)]
    large += [linked("pyzmq", 1024, 1000), linked("usrsctp in C", 1024, 1000)]
    assert answers(judge_link(large)) == [(0.799, None), (0.1, None), (0.799, False), (0.1, None)]


def test_a_link_that_lost_something_says_so(tmp_path: Path) -> None:
    """Then its rates are worth nothing; and there is a picture of them."""
    rows = [linked("phalanx", 64, 2000), linked("pyzmq", 64, 1000)]
    report = LinkReport(
        machine=this_machine(), versions={"phalanx": "1"}, rates=rows, verdicts=judge_link(rows)
    )
    assert report.sound
    assert not replace(report, rates=[replace(rows[0], complete=False), rows[1]]).sound
    assert not replace(report, rates=[rows[0], replace(rows[1], gaps=1)]).sound
    console = Console(file=io.StringIO(), width=COLUMNS)
    for table in report.tables():
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    assert "lost" not in console.file.getvalue(), "nothing was to be lost"
    picture = tmp_path / "link.png"
    draw(picture, report.figure())
    assert picture.stat().st_size > 10_000


def test_a_single_run_can_be_drawn(tmp_path: Path) -> None:
    """Its range is itself, to the last digit: rounded otherwise it would lie outside."""
    come = Delivered(delivered=1401, total=1401, gaps=0, complete=True, hash="")
    rows = [throughput("phalanx", 2, 65_536, 2_000_000_000, [[come]])]
    report = LinkReport(machine=this_machine(), versions={"phalanx": "1"}, rates=rows, verdicts=[])
    for number, drawn in enumerate(
        (
            report,
            MulticastReport(
                machine=report.machine, versions=report.versions, goodputs=rows, verdicts=[]
            ),
        )
    ):
        draw(tmp_path / f"{number}.png", drawn.figure())
    bar = megabytes(rows[0])
    assert bar.low == bar.value == bar.high == 700.5 * 65_536 / 1e6


def lossy(system: str, size: int, per_s: float, percent: float) -> Throughput:
    """A row of multicast."""
    return replace(carried(system, size, per_s), nodes=4, loss_percent=percent)


def test_multicast_is_to_keep_up_with_its_peer_and_with_itself() -> None:
    """At every rate of loss with the one, at 5 % of 1 KiB with the other."""
    own = "phalanx, fan-out"
    rows = [lossy(own, 1024, rate, percent) for rate, percent in ((1000, 0), (900, 1), (699, 5))]
    rows += [lossy("norm", 1024, rate, percent) for rate, percent in ((1000, 0), (901, 1))]
    found = judge_multicast([*rows, lossy("phalanx", 1024, 500, 0), lossy(own, 64, 1, 5)])
    assert answers(found) == [
        (1.0, True),
        (0.5, None),
        (0.999, False),
        (0.9, None),
        (0.699, False),
    ]
    report = MulticastReport(
        machine=this_machine(), versions={own: "1", "norm": "2"}, goodputs=rows, verdicts=found
    )
    assert report.sound
    rows[-1] = replace(rows[-1], gaps=3, complete=False)
    assert report.sound, "what a peer loses is told, and is no mistake of the measurement"
    rows[0] = replace(rows[0], complete=False)
    assert not report.sound


def order_report(*, same_order: bool = True) -> OrderReport:
    """A whole result."""
    rates = [carried("phalanx", 64, 4000, same_order=same_order), carried("corosync", 64, 1000)]
    trips = [took("phalanx", 3, 300), took("corosync", 3, 300)]
    return OrderReport(
        machine=this_machine(),
        versions={"phalanx": "1", "corosync": "3"},
        throughputs=rates,
        round_trips=trips,
        verdicts=judge_order(rates, trips),
    )


def barrier_report() -> BarrierReport:
    """A whole result."""
    rows = [took(system, n, 300) for n in (2, 4, 8) for system in ("phalanx", "redis", "corosync")]
    load = under_load(1001.0)
    return BarrierReport(
        machine=this_machine(),
        versions={"phalanx": "1", "redis": "7", "corosync": "3"},
        latencies=rows,
        background=load,
        verdicts=judge_barrier(rows, load),
    )


def multicast_report() -> MulticastReport:
    """A whole result."""
    rows = [
        lossy(system, size, 456_789, percent)
        for percent in (0, 1, 5)
        for size in (64, 65_536)
        for system in ("phalanx, fan-out", "phalanx", "norm")
    ]
    return MulticastReport(
        machine=this_machine(),
        versions={"phalanx, fan-out": "1", "norm": "1.5"},
        goodputs=rows,
        verdicts=judge_multicast(rows),
    )


def test_a_result_without_one_order_is_not_sound() -> None:
    """A rate of messages in different orders is no figure at all."""
    assert order_report().sound
    assert not order_report(same_order=False).sound


@pytest.mark.parametrize(
    ("report", "ratio"),
    [
        (barrier_report(), "phalanx / corosync"),
        (order_report(), "phalanx / corosync"),
        (multicast_report(), "phalanx / norm"),
    ],
    ids=["barrier", "order", "multicast"],
)
def test_results_fit_a_terminal_and_a_file(
    report: BarrierReport | OrderReport | MulticastReport, ratio: str, tmp_path: Path
) -> None:
    """Tables of 80 columns without a cut word, a picture, and one JSON object."""
    written = io.StringIO()
    console = Console(file=written, width=COLUMNS, color_system=None)
    for table in report.tables():
        console.print(table)
    assert "…" not in written.getvalue()
    assert ratio in " ".join(written.getvalue().split())
    assert "NO" in written.getvalue() or not isinstance(report, BarrierReport)
    picture = tmp_path / "figure.png"
    draw(picture, report.figure())
    assert picture.stat().st_size > 10_000
    plain = msgspec.json.decode(msgspec.json.encode(report))
    assert plain["bench"] in ("barrier", "order", "multicast")
    for verdict in plain["verdicts"]:
        assert set(verdict) == {"what", "value", "limit", "sense", "passed"}


def test_a_report_as_lines_has_the_machine_first_and_the_same_names_for_the_same() -> None:
    """Whatever the program; limits come last, by what they are about."""
    rows = [linked("phalanx", 64, 2000), linked("pyzmq", 64, 1000)]
    report = LinkReport(
        machine=this_machine(), versions={"phalanx": "1"}, rates=rows, verdicts=judge_link(rows)
    )
    first, *others = [msgspec.json.decode(line) for line in in_lines(report)]
    assert first == {
        "bench": "link",
        "machine": msgspec.to_builtins(report.machine),
        "versions": {"phalanx": "1"},
    }
    *results, limit = others
    assert [(it["system"], it["nodes"], it["size"], it["msgs_per_s"]) for it in results] == [
        ("phalanx", 2, 64, 2000),
        ("pyzmq", 2, 64, 1000),
    ]
    named = {"p50_us", "p99_us", "mb_per_s", "cpu_s_per_million"}
    assert all(named <= it.keys() for it in results)
    assert (limit["bench"], limit["value"]) == ("link", 2.0)
