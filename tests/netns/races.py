"""The last arrival against somebody's deadline, or against somebody who gives up."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

from .harness import MS, Fleet, S, now_ns
from .outcomes import Triple, answers, await_arrivals, begin, same_outcome
from .reports import Answer

LEAD_NS = 5 * MS
"""From the orders to the second arrival, so that both hosts have theirs in time."""
PATIENCE_S = 0.015
"""From the second arrival to its deadline, or to the moment of giving up."""
STEP_NS = MS // 4
DITHER_NS = MS // 2
FOREVER_S = 10.0


class Tally(NamedTuple):
    """How often each side of a race has won."""

    released: int
    broken: int
    disturbed: int
    """Races in which a process stood still for so long that its lease ran out."""


class Staircase:
    """When the last one comes: earlier after it was late, later after it was in time.

    So it comes to the moment at which either may happen, on whatever machine, and stays there.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._level_ns = 0
        self.tally = Tally(0, 0, 0)

    def offset_ns(self) -> int:
        """After the deadline, or before it if negative."""
        return self._level_ns + self._random.randint(-DITHER_NS, DITHER_NS)

    def note(self, *, released: bool) -> None:
        """How the race ended."""
        self._level_ns += STEP_NS if released else -STEP_NS
        done = self.tally
        self.tally = done._replace(
            released=done.released + released, broken=done.broken + (not released)
        )

    def note_disturbed(self) -> None:
        """There was no race."""
        self.tally = self.tally._replace(disturbed=self.tally.disturbed + 1)


def race(fleet: Fleet, kind: str, rounds: int, seed: int) -> Tally:
    """Race again and again at one name; all parties have to be told the same each time.

    Two arrive, and as the third arrives the deadline of the second passes (`timeout`), or it takes
    its arrival back (`take back`) or gives it up (`cancel`).
    """
    stairs, last = Staircase(seed), (0, 0, 0)
    for number in range(rounds):
        turned = number % len(fleet.hosts)
        hosts = [*fleet.hosts[turned:], *fleet.hosts[:turned]]
        last = _race_once(fleet, kind, hosts, stairs, last)
    return stairs.tally


def _is_disturbed(told: Mapping[str, Answer]) -> bool:
    """Whether a view, or the lack of one, has ended it; what all must see then is judged later."""
    return any(it.error == "NoQuorum" or "left the view" in it.reason for it in told.values())


def _race_once(
    fleet: Fleet, kind: str, hosts: list[str], stairs: Staircase, last: Triple
) -> Triple:
    """The generation of the last meeting of this round, which is one of all."""
    hasty, patient, late = hosts
    name = f"race: {kind}"
    orders = {
        "timeout": {"timeout_s": PATIENCE_S},
        "take back": {"timeout_s": FOREVER_S, "take_back_after_s": PATIENCE_S},
        "cancel": {"timeout_s": FOREVER_S, "cancel_after_s": PATIENCE_S},
    }
    asked = begin(fleet, [patient], name, timeout_s=FOREVER_S)
    await_arrivals(fleet, name, [patient], at=[hasty])
    at_ns = now_ns() + LEAD_NS
    asked |= begin(fleet, [hasty], name, at_ns=at_ns, **orders[kind])
    coming_ns = at_ns + int(PATIENCE_S * S) + stairs.offset_ns()
    waits = begin(fleet, [late], name, at_ns=coming_ns, timeout_s=FOREVER_S)
    told = answers(fleet, asked)
    if _is_disturbed(told):
        return _go_on(fleet, stairs, waits, last)
    if kind == "cancel" and told[hasty].generation == (0, 0, 0):
        # It has given up and waits for no outcome: the others are told one.
        assert told.pop(hasty).error == "BarrierBroken"
    outcome = same_outcome(told)
    assert outcome.generation > last, "a generation is used once"
    if outcome.released:
        told |= answers(fleet, waits)
        if _is_disturbed(told):
            return _go_on(fleet, stairs, {}, last)
        assert same_outcome(told) == outcome
        stairs.note(released=True)
        return outcome.generation
    node = fleet[hasty].id
    if hasty in told:
        assert told[hasty].error == ("BarrierTimeout" if kind == "timeout" else "BarrierBroken")
    how = f"node {node} timed out" if kind == "timeout" else f"cancelled by node {node}"
    assert outcome.reason == how
    assert outcome.missing == {fleet[late].id: "not arrived"}
    # Who came too late waits in the next generation, and no longer than until the others come.
    again = begin(fleet, [hasty, patient], name, timeout_s=FOREVER_S)
    told = answers(fleet, again | waits)
    if _is_disturbed(told):
        return _go_on(fleet, stairs, {}, last)
    after = same_outcome(told)
    assert after.released
    stairs.note(released=False)
    assert after.generation > outcome.generation
    return after.generation


def _go_on(fleet: Fleet, stairs: Staircase, waits: Mapping[str, int], last: Triple) -> Triple:
    """Let everything end that still waits, and everybody be there again."""
    stairs.note_disturbed()
    answers(fleet, waits)
    fleet.await_whole()
    return last
