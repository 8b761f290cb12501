"""Random schedules keep every promise of barriers, and each rule left out is found out."""

# The mutants below reach inside, which is what mutants are for.
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.barrier import events, following, messages, table
from phalanx.barrier import generation as generations
from phalanx.barrier.core import BarrierCore
from phalanx.barrier.crossing import Views
from phalanx.barrier.decisions import Decision
from phalanx.barrier.following import Following
from phalanx.barrier.generation import Crossing, Generation, Roster
from phalanx.barrier.messages import Arrive, Carried, CarriedRoster, Cause, Withdraw
from phalanx.barrier.outbox import Outbox
from phalanx.barrier.rosters import Rosters
from phalanx.barrier.settings import Policy, Settings
from phalanx.barrier.state import State
from phalanx.barrier.table import Arriving, Table
from phalanx.barrier.tickets import Ticket, Tickets
from phalanx.transport.events import Lane, Member, Position, View
from phalanx.transport.layers import Ordered, Outgoing

from .model import Violation
from .schedule import run

SEEDS = 1000
"""Runs of the plain test; about five seconds."""
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
    assert first.promises.verdicts == second.promises.verdicts
    assert first.log == second.log


# ------------------------------------------------------------------------------- mutants

Patch = Callable[[pytest.MonkeyPatch], None]


def counts_arrivals_instead_of_members(patch: pytest.MonkeyPatch) -> None:
    """The defect of cman: a counter does not know who has arrived."""
    patch.setattr(Generation, "awaits", Generation.takes)


def ignores_marks(patch: pytest.MonkeyPatch) -> None:
    """Returns a release before the messages that belong to it."""
    patch.setattr(Generation, "not_here", lambda *_: [])


def ignores_what_was_sent_in_bulk(patch: pytest.MonkeyPatch) -> None:
    """Although a party has said that it belongs to its arrival."""
    patch.setattr(following, "_mark_bulk", lambda *_: None)


def forgets_marks_at_a_view_change(patch: pytest.MonkeyPatch) -> None:
    """Carries an arrival whose messages died with its sender."""
    original = Views.installed

    def installed(self: Views, event: object) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(State, "not_here", lambda *_: [])
            original(self, event)  # type: ignore[arg-type]  # passed on

    patch.setattr(Views, "installed", installed)


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
    patch.setattr(Outbox, "carry", lambda *_: None)


def carries_only_what_it_waits_in(patch: pytest.MonkeyPatch) -> None:
    """A fresh arrival may then open a second generation beside the carried one."""
    original = Outbox.carry

    def carry(self: Outbox, name: str) -> None:
        ticket = self._state.tickets.waiting_at(name)
        if ticket is not None and ticket.opened is not None:
            original(self, name)

    patch.setattr(Outbox, "carry", carry)


def accepts_entries_of_older_views(patch: pytest.MonkeyPatch) -> None:
    """What was queued during a view change then counts beside what was published anew."""
    original = Following.ordered

    def ordered(self: Following, batches: Sequence[Ordered], now_ns: int) -> None:
        for each in batches:
            batch = each
            message, state = messages.decode(batch.payloads[0]), self._state
            if isinstance(message, Arrive) and state.view is not None:
                if message.view != state.view.id:
                    self._outbox._said.appendleft(None)
                stamped = msgspec.structs.replace(message, view=state.view.id)
                batch = replace(batch, payloads=[messages.encode(stamped)])
            original(self, [batch], now_ns)

    patch.setattr(Following, "ordered", ordered)


def overlooks_departures(patch: pytest.MonkeyPatch) -> None:
    """The third defect of cman: who waits for a dead node waits for ever."""
    patch.setattr(Generation, "gone", lambda *_: [])


def keeps_overtaking_newcomers_apart(patch: pytest.MonkeyPatch) -> None:
    """Two half-full generations of one count then wait for ever."""
    patch.setattr(Table, "_pour", lambda *_: None)


def overlooks_disagreement(patch: pytest.MonkeyPatch) -> None:
    """Releases parties that waited for somebody else."""
    patch.setattr(Settings, "__eq__", lambda *_: True)
    patch.setattr(Settings, "__ne__", lambda *_: False)


def tells_only_the_second_of_two_that_disagree(patch: pytest.MonkeyPatch) -> None:
    """The first one then waits for somebody who was turned away."""
    patch.setattr(Table, "_dissolve", lambda *_: None)


def opens_closed_generations_again(patch: pytest.MonkeyPatch) -> None:
    """A late copy of a carried generation brings it back after its outcome."""

    def knows(self: Table, name: str, opened: Position) -> bool:
        return self.get(name, opened) is not None

    patch.setattr(Table, "knows", knows)


def counts_the_dead(patch: pytest.MonkeyPatch) -> None:
    """An arrival of an incarnation that is gone then counts for the next one."""
    patch.setattr(Generation, "forget", lambda *_: None)


def shrinks_to_nobody_in_particular(patch: pytest.MonkeyPatch) -> None:
    """Who left is then waited for."""
    patch.setattr(Generation, "excuse", lambda *_: None)


def waits_for_no_rejoin(patch: pytest.MonkeyPatch) -> None:
    """Releases without the party whose next incarnation was to come."""
    original = Generation.cross

    def cross(
        self: Generation,
        *,
        left: Collection[Member],
        after: View,
        lost: Collection[int],
        known: bool,
        excused: Collection[int],
    ) -> Crossing:
        if self.settings.policy is Policy.WAIT_FOR_REJOIN:
            excused = {member.node for member in left}
        return original(self, left=left, after=after, lost=lost, known=known, excused=excused)

    patch.setattr(Generation, "cross", cross)


def asks_for_no_payload_again(patch: pytest.MonkeyPatch) -> None:
    """A newcomer completes a generation without what the others had brought."""
    original = generations.adopted

    def adopted(name: str, carried: Carried) -> Generation:
        return original(name, msgspec.structs.replace(carried, owing=()))

    patch.setattr(table, "adopted", adopted)


def founds_a_roster_at_once(patch: pytest.MonkeyPatch) -> None:
    """A newcomer is alone in it, and is released alone, until the older one comes to light."""
    original = Rosters.register

    def register(self: Rosters, name: str, settings: Settings, member: Member) -> list[Decision]:
        decisions = original(self, name, settings, member)
        if name in self._beginning:
            self._beginning[name].silent.clear()
            decisions += self.vouch(name, member, Position(*self._view.id, 0))
        return decisions

    patch.setattr(Rosters, "register", register)


def carries_half_a_roster(patch: pytest.MonkeyPatch) -> None:
    """A generation then begins, and is complete, with half of its parties."""
    original = Roster.carried

    def carried(self: Roster) -> CarriedRoster:
        whole = original(self)
        return msgspec.structs.replace(whole, members=whole.members[:1])

    patch.setattr(Roster, "carried", carried)


def waits_for_who_has_deregistered(patch: pytest.MonkeyPatch) -> None:
    """Nobody says to the others that it does not come any more."""
    patch.setattr(Rosters, "quit", lambda *_: None)


def returns_safe_releases_at_once(patch: pytest.MonkeyPatch) -> None:
    """They then bind nobody: the others may never have held what it was released by."""
    original = State.begin

    def begin(self: State, view: View, me: Member) -> None:
        original(self, view, me)
        self.stable = Position(1 << 31, 0, 0)

    patch.setattr(State, "begin", begin)


def asks_for_no_word_about_what_is_carried(patch: pytest.MonkeyPatch) -> None:
    """A safe generation that is completed by it is then never said to be held by all."""
    original = Outbox.take

    def take(self: Outbox, numbered: Mapping[Lane, int]) -> list[Outgoing]:
        taken = original(self, numbered)
        return [it if it.meeting is not None else replace(it, safe=False) for it in taken]

    patch.setattr(Outbox, "take", take)


def gives_the_same_token_twice(patch: pytest.MonkeyPatch) -> None:
    """Indices begin anew in each view: without that they do not grow."""
    original = Tickets.resolve

    def resolve(self: Tickets, ticket: Ticket, outcome: events.Outcome) -> None:
        if isinstance(outcome, events.Released) and outcome.release.token is not None:
            token = msgspec.structs.replace(outcome.release.token, era=1, k=1)
            release = msgspec.structs.replace(outcome.release, token=token)
            outcome = msgspec.structs.replace(outcome, release=release)
        original(self, ticket, outcome)

    patch.setattr(Tickets, "resolve", resolve)


def leaves_ghosts(patch: pytest.MonkeyPatch) -> None:
    """Who was told that nothing is known then still counts, and nobody waits for the outcome."""
    original = Outbox.withdrawal

    def withdrawal(self: Outbox, ticket: Ticket) -> None:
        if not ticket.abandoned:
            original(self, ticket)

    patch.setattr(Outbox, "withdrawal", withdrawal)


def forgets_who_spoiled_it(patch: pytest.MonkeyPatch) -> None:
    """The others then leave together with somebody who has left by an exception."""
    original = Table.arrive

    def arrive(
        self: Table, arriving: Arriving, member: Member, mark: int, index: int, now_ns: int
    ) -> list[Decision]:
        silent = Arriving(arriving.name, arriving.settings, arriving.payload)
        return original(self, silent, member, mark, index, now_ns)

    patch.setattr(Table, "arrive", arrive)


def withdraws_from_everything(patch: pytest.MonkeyPatch) -> None:
    """A withdrawal then hits a generation in which its sender has no part."""

    def withdraw(self: Table, withdraw: Withdraw, member: Member) -> list[Decision]:
        for generation in self.of(withdraw.name):
            generation.marks.setdefault(member, 0)
        return _withdraw(self, withdraw, member)

    _withdraw = Table.withdraw
    patch.setattr(Table, "withdraw", withdraw)


@pytest.mark.parametrize(
    "mutant",
    [
        counts_arrivals_instead_of_members,
        ignores_marks,
        ignores_what_was_sent_in_bulk,
        forgets_marks_at_a_view_change,
        times_out_by_itself,
        gives_no_grace_a_limit,
        carries_nothing,
        carries_only_what_it_waits_in,
        accepts_entries_of_older_views,
        overlooks_departures,
        keeps_overtaking_newcomers_apart,
        overlooks_disagreement,
        tells_only_the_second_of_two_that_disagree,
        opens_closed_generations_again,
        counts_the_dead,
        shrinks_to_nobody_in_particular,
        waits_for_no_rejoin,
        asks_for_no_payload_again,
        founds_a_roster_at_once,
        carries_half_a_roster,
        waits_for_who_has_deregistered,
        returns_safe_releases_at_once,
        asks_for_no_word_about_what_is_carried,
        gives_the_same_token_twice,
        leaves_ghosts,
        forgets_who_spoiled_it,
        withdraws_from_everything,
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
