"""Random schedules keep every promise of barriers, and each rule left out is found out."""

# The mutants below reach inside, which is what mutants are for.
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.barrier import messages
from phalanx.barrier.core import BarrierCore
from phalanx.barrier.messages import Arrive, Carried, Cause, Withdraw
from phalanx.barrier.table import Decision, Generation, Table
from phalanx.barrier.tickets import Ticket
from phalanx.transport.events import Member, Position, View, ViewInstalled
from phalanx.transport.layers import Ordered

from .model import Violation
from .schedule import run

SEEDS = 1000
"""Runs of the plain test; about two seconds."""
SEEDS_MUTANT = 3000
"""Within so many runs a core without one of its rules must break a promise."""


def test_random_schedules_keep_every_promise() -> None:
    """Safety, cut, uniformity, no hang, liveness and determinism, over many seeds."""
    released = sum(run(seed).releases for seed in range(SEEDS))
    assert released > SEEDS, "the schedules must reach releases, or they show nothing"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**62), steps=st.integers(1, 400))
def test_schedules_of_any_length_keep_every_promise(seed: int, steps: int) -> None:
    """Seeds that nobody has chosen, and runs that end in the middle of anything."""
    run(seed, steps=steps)


def test_the_same_seed_replays_the_same_run() -> None:
    """A failure is useless if it cannot be seen twice."""
    first, second = run(7), run(7)
    assert first.verdicts == second.verdicts
    assert first.log == second.log


# ------------------------------------------------------------------------------- mutants

Patch = Callable[[pytest.MonkeyPatch], None]


def counts_arrivals_instead_of_members(patch: pytest.MonkeyPatch) -> None:
    """The defect of cman: a counter does not know who has arrived."""
    original = Table.arrive

    def arrive(
        self: Table, arrive: Arrive, *, member: Member, mark: int, position: Position
    ) -> list[Decision]:
        if any(member in generation.marks for generation in self.of(arrive.name)):
            member = Member(member.node, -arrive.serial)
        return original(self, arrive, member=member, mark=mark, position=position)

    patch.setattr(Table, "arrive", arrive)


def ignores_marks(patch: pytest.MonkeyPatch) -> None:
    """Returns a release before the messages that belong to it."""
    patch.setattr(BarrierCore, "_not_here", lambda *_: [])


def forgets_marks_at_a_view_change(patch: pytest.MonkeyPatch) -> None:
    """Carries an arrival whose messages died with its sender."""
    original = BarrierCore._carry_over

    def _carry_over(self: BarrierCore, before: View, event: ViewInstalled) -> None:
        with pytest.MonkeyPatch.context() as inner:
            ignores_marks(inner)
            original(self, before, event)

    patch.setattr(BarrierCore, "_carry_over", _carry_over)


def times_out_by_itself(patch: pytest.MonkeyPatch) -> None:
    """The other defect of cman: a deadline that the others are not told."""
    original = BarrierCore._take_back

    def _take_back(self: BarrierCore, ticket: Ticket, cause: Cause, now_ns: int) -> None:
        ticket.taken, ticket.opened, ticket.completed = False, None, None
        original(self, ticket, cause, now_ns)

    patch.setattr(BarrierCore, "_take_back", _take_back)


def gives_no_grace_a_limit(patch: pytest.MonkeyPatch) -> None:
    """Waits for ever for the order to answer a withdrawal."""
    patch.setattr(BarrierCore, "_grace_over", lambda _, ticket: setattr(ticket, "grace_ns", None))


def carries_nothing(patch: pytest.MonkeyPatch) -> None:
    """Leaves the waits of the old view where they were."""
    original = BarrierCore._publish_anew

    def _publish_anew(self: BarrierCore, ticket: Ticket) -> None:
        if ticket.opened is None or ticket.cause is not None:
            original(self, ticket)

    patch.setattr(BarrierCore, "_publish_anew", _publish_anew)


def carries_only_what_it_waits_in(patch: pytest.MonkeyPatch) -> None:
    """A fresh arrival may then open a second generation beside the carried one."""
    original = BarrierCore._to_carry

    def _to_carry(self: BarrierCore, name: str) -> tuple[Carried, ...]:
        ticket = self._tickets.waiting_at(name)
        return () if ticket is None or ticket.opened is None else original(self, name)

    patch.setattr(BarrierCore, "_to_carry", _to_carry)


def accepts_entries_of_older_views(patch: pytest.MonkeyPatch) -> None:
    """What was queued during a view change then counts beside what was published anew."""
    original = BarrierCore.ordered

    def ordered(self: BarrierCore, batch: Ordered, *, now_ns: int) -> None:
        message = messages.decode(batch.payloads[0], sender=batch.sender)
        if message is not None and self._view is not None:
            stamped: Arrive | Withdraw = msgspec.structs.replace(message, view=self._view.id)
            batch = batch._replace(payloads=[messages.encode(stamped)])
        original(self, batch, now_ns=now_ns)

    patch.setattr(BarrierCore, "ordered", ordered)


def overlooks_departures(patch: pytest.MonkeyPatch) -> None:
    """The third defect of cman: who waits for a dead node waits for ever."""
    patch.setattr(Generation, "gone", lambda *_: [])


def keeps_overtaking_newcomers_apart(patch: pytest.MonkeyPatch) -> None:
    """Two half-full generations of one count then wait for ever."""
    patch.setattr(Table, "_pour", lambda *_: None)


def overlooks_disagreement(patch: pytest.MonkeyPatch) -> None:
    """Releases parties that waited for somebody else."""
    patch.setattr(Generation, "same_settings", lambda *_: True)


def opens_closed_generations_again(patch: pytest.MonkeyPatch) -> None:
    """A late copy of a carried generation brings it back after its outcome."""

    def knows(self: Table, name: str, opened: Position) -> bool:
        return self.get(name, opened) is not None

    patch.setattr(Table, "knows", knows)


@pytest.mark.parametrize(
    "mutant",
    [
        counts_arrivals_instead_of_members,
        ignores_marks,
        forgets_marks_at_a_view_change,
        times_out_by_itself,
        gives_no_grace_a_limit,
        carries_nothing,
        carries_only_what_it_waits_in,
        accepts_entries_of_older_views,
        overlooks_departures,
        keeps_overtaking_newcomers_apart,
        overlooks_disagreement,
        opens_closed_generations_again,
    ],
)
def test_a_core_without_one_of_its_rules_is_caught(
    mutant: Patch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checker that lets a broken core pass would prove nothing about the whole one."""
    mutant(monkeypatch)
    with pytest.raises((Violation, AssertionError)) as caught:  # noqa: PT012 - the run that fails is any of them
        for seed in range(SEEDS_MUTANT):
            run(seed)
    assert caught.value.args
