"""Runs differ in what befalls datagrams, and some have a firewall between two nodes for a while."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phalanx.barrier.testing import plan as plans
from phalanx.barrier.testing.faults import carry_out
from phalanx.barrier.testing.plan import DATAGRAM_KINDS, Fault, draw_plan
from phalanx.barrier.testing.run import Run
from phalanx.transport.config import MS

SEEDS = range(1, 151)


def test_every_rate_and_every_firewall_is_drawn_by_some_seed() -> None:
    """Runs in which none arrives, all arrive, and something in between."""
    drawn = [draw_plan(seed) for seed in SEEDS]
    assert {plan.datagrams_lost for plan in drawn} == set(plans.DATAGRAMS_LOST)
    assert {plan.datagrams_doubled for plan in drawn} == set(plans.DATAGRAMS_DOUBLED)
    assert {plan.datagrams_late for plan in drawn} == set(plans.DATAGRAMS_LATE)
    assert DATAGRAM_KINDS.keys() <= {fault.kind for plan in drawn for fault in plan.faults}
    for plan in drawn:
        plan.check()
        assert [fault.at_ns for fault in plan.faults] == sorted(f.at_ns for f in plan.faults)


@pytest.mark.parametrize("field", ["datagrams_lost", "datagrams_doubled", "datagrams_late"])
def test_a_plan_from_a_file_has_shares_from_none_to_all(field: str) -> None:
    """It need not have been drawn."""
    plan = draw_plan(1)
    for share in (0.0, 1.0):
        replace(plan, **{field: share}).check()
    for share in (-0.01, 1.01):
        with pytest.raises(ValueError, match="share of the datagrams"):
            replace(plan, **{field: share}).check()


@pytest.mark.parametrize("kind", sorted(DATAGRAM_KINDS))
def test_a_firewall_comes_and_goes_and_lets_all_else_pass(kind: str) -> None:
    """One way or both; the view stays, for SCTP needs no datagrams."""
    calm = {"datagrams_lost": 0.0, "datagrams_doubled": 0.0, "datagrams_late": 0.0}
    run = Run(replace(draw_plan(5, 3), **calm, latencies_ns=(0, 0, 0), jitter_ns=0))
    run.simulation.start_all()
    run.simulation.run_until(lambda: run.simulation.agreed_on(1, 2, 3), 5000 * MS)
    view = run.nodes[1].view
    rail = run.plan.rails[0]

    def arrives(source: int, target: int) -> bool:
        ends = run.nodes[source].datagrams, run.nodes[target].datagrams
        assert ends[0] is not None
        assert ends[1] is not None
        run.nodes[target].freeze()  # else its core takes what comes
        ends[0].cast([target], rail, b"is it there?")
        run.simulation.run_for(5 * MS)
        got = [it for it in ends[1].poll() if it[2] == b"is it there?"]
        run.nodes[target].thaw()
        assert got in ([], [(source, rail, b"is it there?", 0, 0)])
        return bool(got)

    assert arrives(1, 2)
    assert arrives(2, 1)
    undo = carry_out(run, Fault(kind, 0, (1, 2)))
    assert undo is not None
    assert not arrives(1, 2)
    assert arrives(2, 1) is (kind == "block datagrams one way")
    assert arrives(1, 3)
    run.simulation.run_for(1000 * MS)
    assert run.nodes[1].view == view
    undo()
    assert arrives(1, 2)
    assert arrives(2, 1)
