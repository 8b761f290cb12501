"""What barriers promise, checked against everything that a `Model` knows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from phalanx.barrier import events, messages, names
from phalanx.barrier.messages import Arrive
from phalanx.barrier.settings import (
    AllParties,
    Count,
    Entered,
    Named,
    Policy,
    Registered,
    Strength,
)
from phalanx.transport.events import Member, Position, View, ViewId
from phalanx.transport.layers import Ordered

from .kinds import DOUBLES, PHASERS, SETTINGS
from .model import Call, Model, Node, Verdict, Violation


class Promises:
    """The checks of one model, and what they remember."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.verdicts: dict[tuple[str, Position], Verdict] = {}
        self._unconfirmed: list[tuple[Member, tuple[str, Position], Verdict]] = []
        self.survived: set[tuple[str, int]] = set()
        """Names and nodes whose registration has outlived a view: it was not lost with its node."""
        self._tokens: dict[str, dict[Position, tuple[Position, int]]] = defaultdict(dict)
        """By name and generation, its token and the step at which it was first known."""

    # --------------------------------------------------------------------------- outcomes

    def told(self, here: Node, call: Call) -> None:
        """A call has its outcome."""
        outcome = call.outcome
        assert outcome is not None, "the caller says which"
        key_verdict = _verdict(here, outcome)
        if key_verdict is not None:
            self._unconfirmed.append((here.member, *key_verdict))
        done = {"arrive": events.Released, "register": events.Enrolled}.get(
            call.what, events.Retired
        )
        success = events.Released | events.Enrolled | events.Retired
        if isinstance(outcome, success) and not isinstance(outcome, done):
            raise Violation(f"{call.what} has another's outcome: {outcome}")
        if isinstance(outcome, events.Released):
            self._check_release(here, call, outcome.release)
        if isinstance(outcome, events.Enrolled):
            registration = outcome.registration
            if here.member.node not in registration.parties:
                raise Violation(f"registered without being among the parties: {registration}")

    def confirm(self, go_on: set[Member]) -> None:
        """Only members that go on to the next view are bound by uniformity, and by safe releases
        everybody.
        """
        for member, key, verdict in self._unconfirmed:
            safe = verdict[0] == "released" and verdict[-1] is not None
            if (member in go_on or safe) and self.verdicts.setdefault(key, verdict) != verdict:
                raise Violation(
                    f"not uniform at {key}: {self.verdicts[key]}, but for {member} {verdict}"
                )
        self._unconfirmed.clear()

    # --------------------------------------------------------------------------- releases

    def _check_release(self, here: Node, call: Call, release: events.Release) -> None:
        parties = set(release.parties)
        if len(parties) != len(release.parties) or here.member not in parties:
            raise Violation(f"wrong parties in {release}")
        if release.payloads.get(here.member.node, b"") != call.payload:
            raise Violation(f"{here.member} brought {call.payload!r}: {release}")
        if not self._right(call, release, parties):
            raise Violation(f"released without the right parties: {release}")
        for party in release.parties:
            self._check_party(here, party, release, call)
        self._check_token(call, release)

    def _right(self, call: Call, release: events.Release, parties: set[Member]) -> bool:
        between = list(self._views_of(release))
        nodes, shrinks = {p.node for p in parties}, call.settings.policy is Policy.SHRINK
        opened_in = between[0]
        if not parties <= set(between[-1].incarnations):
            return False
        match call.settings.parties:
            case AllParties() if shrinks:
                return parties == {
                    m for m in opened_in.incarnations if all(m in v.incarnations for v in between)
                }
            case AllParties():
                return nodes == set(opened_in.members)
            case Count(n=n):
                least = min(len(v.members) for v in between[1:] or between)
                return len(parties) == n or (shrinks and least <= len(parties) < n)
            case Named(nodes=wanted):
                lacking = set(wanted) - nodes
                return nodes <= set(wanted) and (
                    not lacking or (shrinks and all(_left(between, node) for node in lacking))
                )
            case Entered(members=members):
                lacking = set(members) - parties
                return parties <= set(members) and (
                    not lacking or (shrinks and lacking.isdisjoint(between[-1].incarnations))
                )
            case Registered():
                return self._all_registered(call, release, nodes, between)

    def _all_registered(
        self, call: Call, release: events.Release, nodes: set[int], between: list[View]
    ) -> bool:
        """Whoever was registered before the first of them called is among them."""
        first = min(
            other.step
            for party in release.parties
            for other in self._calls(party)
            if _may_count_in(other, release)
        )
        for member, calls in self._everybody():
            if member.node in nodes:
                continue
            registered = next(
                (
                    it
                    for it in calls
                    if it.name == call.name
                    and isinstance(it.outcome, events.Enrolled)
                    and it.ended < first
                ),
                None,
            )
            if registered is None or self._gave_up(member.node, call.name):
                continue
            stayed = all(member in view.incarnations for view in between)
            survived = (call.name, member.node) in self.survived
            waits = survived and call.settings.policy is Policy.WAIT_FOR_REJOIN
            if stayed or (waits and self._somebody_knows(registered, between[-1])):
                return False
        return True

    def _gave_up(self, node: int, name: str) -> bool:
        """Whether a node, in whatever incarnation, may have said that it is no party any more."""
        return any(
            it.name == name
            and (
                it.what in ("quit", "arrive and quit")
                or (it.what == "register" and not isinstance(it.outcome, events.Enrolled))
            )
            for member, calls in self._everybody()
            if member.node == node
            for it in calls
        )

    def _somebody_knows(self, call: Call, decided: View) -> bool:
        """Whether a member has gone on since that call: what nobody knows cannot be waited for."""
        since = [v for v_id, v in self._model.views.items() if call.view_id <= v_id <= decided.id]
        return any(all(m in view.incarnations for view in since) for m in decided.incarnations)

    def _everybody(self) -> Iterator[tuple[Member, list[Call]]]:
        yield from self._model.history.items()
        for node in self._model.nodes.values():
            yield node.member, node.calls

    def _views_of(self, release: events.Release) -> Iterator[View]:
        """From the one in which it was opened to the one in which it was decided."""
        opened, decided = release.generation, release.position
        for view_id, view in sorted(self._model.views.items()):
            if ViewId(opened.era, opened.k) <= view_id <= ViewId(decided.era, decided.k):
                yield view

    def _check_party(self, here: Node, party: Member, release: events.Release, call: Call) -> None:
        arrivals = [c for c in self._calls(party) if _may_count_in(c, release)]
        if not arrivals:
            raise Violation(f"released before {party} arrived: {release}")
        if all(arrival.what == "spoil" for arrival in arrivals):
            raise Violation(f"released although {party} has spoiled it: {release}")
        brought = release.payloads.get(party.node, b"")
        if all(arrival.payload != brought for arrival in arrivals):
            raise Violation(f"{party} brought something else than {brought!r}: {release}")
        if call.settings.strength is not Strength.ARRIVED and not any(
            self._is_here(here, party, arrival) for arrival in arrivals
        ):
            raise Violation(f"released at {here.member} without the messages of {party}")

    def _is_here(self, here: Node, party: Member, arrival: Call) -> bool:
        """Whether all that the party multicast before that arrival is delivered."""
        model, node = self._model, party.node
        if arrival.view_id == model.view.id:
            delivered, bulk = here.progress[node], here.bulk_progress[node]
        else:
            delivered = model.cuts[arrival.view_id, node]
            bulk = model.bulk_cuts[arrival.view_id, node]
        return delivered >= arrival.sent and bulk >= arrival.bulk_sent

    def _check_token(self, call: Call, release: events.Release) -> None:
        if (release.token is None) is (call.settings.strength is Strength.SAFE):
            raise Violation(f"a token belongs to safe releases: {release}")
        if release.token is None:
            return
        at = release.token
        if (at.era, at.k) == self._model.view.id:
            late = [n.member for n in self._model.nodes.values() if n.cursor < at.index]
            if late:
                raise Violation(f"a safe release that {late} do not hold: {release}")
        tokens = self._tokens[call.name]
        mine = tokens.setdefault(release.generation, (release.token, self._model.steps))
        if mine[0] != release.token:
            raise Violation(f"two tokens of one generation: {tokens} and {release}")
        for generation, (token, known) in tokens.items():
            same = generation != release.generation and token == release.token
            if same or (known < call.step and token >= release.token):
                raise Violation(f"the tokens of {call.name!r} do not grow: {tokens}")

    def _calls(self, member: Member) -> list[Call]:
        calls = self._model.history.get(member)
        return self._model.nodes[member.node].calls if calls is None else calls

    # --------------------------------------------------------------------------- liveness

    def check_liveness(self) -> None:
        """Everything is delivered to everybody: who still waits has to wait for somebody."""
        model = self._model
        rosters = next(iter(model.nodes.values())).core.rosters(agreed=True)
        for name, settings in (SETTINGS | PHASERS).items():
            waiting = {n for n, here in model.nodes.items() if here.waiting(name) is not None}
            match settings.parties:
                case AllParties() if settings.policy is Policy.WAIT_FOR_REJOIN:
                    stuck = bool(waiting) and self._oldest_wants(name) <= waiting
                case AllParties():
                    stuck = waiting == set(model.nodes)
                case Count(n=n):
                    stuck = len(waiting) >= n
                case Named(nodes=nodes):
                    stuck = waiting.issuperset(nodes)
                case _:
                    stuck = bool(waiting) and waiting.issuperset(rosters.get(name, ()))
            if stuck:
                raise Violation(f"all parties wait at {name!r} and nobody is released")
        self._check_registrations()
        self._check_ghosts()

    def _oldest_wants(self, name: str) -> frozenset[int]:
        core = next(iter(self._model.nodes.values())).core
        generations = core.open_generations(name)
        return (generations[0].wanted if generations else None) or frozenset()

    def check_agreement(self, here: Node, ordered: Ordered) -> None:
        """After an arrival nothing with other settings is open at its name: both sides know."""
        message = messages.decode(ordered.payloads[0])
        if not isinstance(message, Arrive) or message.view != self._model.view.id:
            return
        for status in here.core.generations():
            if status.name == message.name and status.settings != message.settings.words:
                raise Violation(f"one side of a disagreement waits on at {message.name!r}")

    def _check_registrations(self) -> None:
        """Whoever was told that it is registered no more is not."""
        for here in self._model.nodes.values():
            for name in PHASERS:
                changes = [c for c in here.calls if c.name == name and c.what != "arrive"]
                if (
                    changes
                    and isinstance(changes[-1].outcome, events.Retired)
                    and here.core.registered_with(name) is not None
                ):
                    raise Violation(f"{here.member} left {name!r}, and is registered there")

    def _check_ghosts(self) -> None:
        """Whoever counts in an open generation waits there, or has said that it leaves."""
        for here in self._model.nodes.values():
            for generation in here.core.open_generations():
                for member in generation.marks if not generation.spoiled else ():
                    there = self._model.nodes.get(member.node)
                    if there is None or there.member != member:
                        raise Violation(f"{member} is gone and counts at {generation.name!r}")
                    calls = [c for c in there.calls if c.name == generation.name and c.arrives]
                    if not any(c.waits or c.what != "arrive" for c in calls):
                        raise Violation(f"{member} counts at {generation.name!r}, nobody waits")


def _left(between: list[View], node: int) -> bool:
    """Whether a node was a member, and then that incarnation was not any more."""
    for view in between:
        for member in view.incarnations:
            if member.node == node and member not in between[-1].incarnations:
                return True
    return False


def _verdict(here: Node, outcome: events.Outcome) -> tuple[tuple[str, Position], Verdict] | None:
    match outcome:
        case events.Released(release=release):
            payloads = tuple(sorted(release.payloads.items()))
            verdict = ("released", release.position, release.parties, payloads, release.token)
            return (release.name, release.generation), verdict
        case events.Broken(generation=generation) if generation is not None:
            return (outcome.name, generation), ("broken", outcome.reason, outcome.missing)
        case events.Mismatch(generation=generation) if generation is not None:
            return (outcome.name, generation), ("dissolved", outcome.ours, outcome.theirs)
        case events.TimedOut(generation=generation) if generation is not None:
            # The one who timed out sees what the others are told.
            reason = f"node {here.member.node} timed out"
            return (outcome.name, generation), ("broken", reason, outcome.missing)
        case _:
            return None


def _may_count_in(call: Call, release: events.Release) -> bool:
    if call.name != release.name or not call.arrives:
        return False
    match call.outcome:
        case None | events.Unknown() | events.Retired():
            return True
        case events.Released(release=other):
            return other.generation == release.generation
        case events.Broken(generation=generation) | events.TimedOut(generation=generation):
            return generation == release.generation
        case _:
            return False


assert not {names.base(name) for name in DOUBLES} & SETTINGS.keys(), "names have one use"
