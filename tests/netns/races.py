"""The last arrival against somebody's deadline, or against somebody who gives up."""

from __future__ import annotations

import random
from typing import NamedTuple

from .harness import MS, Fleet, S, now_ns
from .outcomes import Triple, answers, await_arrivals, begin, same_outcome

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


class Staircase:
    """When the last one comes: earlier after it was late, later after it was in time.

    So it comes to the moment at which either may happen, on whatever machine, and stays there.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._level_ns = 0
        self.tally = Tally(0, 0)

    def offset_ns(self) -> int:
        """After the deadline, or before it if negative."""
        return self._level_ns + self._random.randint(-DITHER_NS, DITHER_NS)

    def note(self, *, released: bool) -> None:
        """How the race ended."""
        self._level_ns += STEP_NS if released else -STEP_NS
        done = self.tally
        self.tally = Tally(done.released + released, done.broken + (not released))


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
    if kind == "cancel" and told[hasty].generation == (0, 0, 0):
        # It has given up and waits for no outcome: the others are told one.
        assert told.pop(hasty).error == "BarrierBroken"
    outcome = same_outcome(told)
    assert outcome.generation > last, "a generation is used once"
    stairs.note(released=outcome.released)
    if outcome.released:
        assert same_outcome(told | answers(fleet, waits)) == outcome
        return outcome.generation
    node = fleet[hasty].id
    if hasty in told:
        assert told[hasty].error == ("BarrierTimeout" if kind == "timeout" else "BarrierBroken")
    how = f"node {node} timed out" if kind == "timeout" else f"cancelled by node {node}"
    assert outcome.reason == how
    assert outcome.missing == {fleet[late].id: "not arrived"}
    # Who came too late waits in the next generation, and no longer than until the others come.
    again = begin(fleet, [hasty, patient], name, timeout_s=FOREVER_S)
    after = same_outcome(answers(fleet, again | waits))
    assert after.released
    assert after.generation > outcome.generation
    return after.generation
