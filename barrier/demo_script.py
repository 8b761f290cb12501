"""What happens in the demo, and when: a rail drops, a cable comes out, a process dies.

Where there is something beside SCTP to fall back to, SCTP is blocked for a while, too.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

WINDOW_S = 2.0
"""A gap is looked for from the fault to this long after it."""


class Act(enum.Enum):
    """What is done to the cluster."""

    DROP = "drop"
    HEAL_DROP = "heal_drop"
    LINK_DOWN = "link_down"
    HEAL_LINK = "heal_link"
    BLOCK = "block"
    UNBLOCK = "unblock"
    KILL = "kill"
    RESTART = "restart"


FULL_SECONDS = 15.0
_PLAN: tuple[tuple[float, Act], ...] = (
    (2.5, Act.DROP),
    (5.0, Act.HEAL_DROP),
    (6.0, Act.LINK_DOWN),
    (8.5, Act.HEAL_LINK),
    (9.5, Act.KILL),
    (11.5, Act.RESTART),
)
"""For a run of `FULL_SECONDS`; other lengths are stretched."""
_PLAN_WITH_BLOCK: tuple[tuple[float, Act], ...] = (
    (2.0, Act.DROP),
    (4.0, Act.HEAL_DROP),
    (4.7, Act.LINK_DOWN),
    (6.7, Act.HEAL_LINK),
    (7.4, Act.BLOCK),
    (9.4, Act.UNBLOCK),
    (10.7, Act.KILL),
    (12.7, Act.RESTART),
)
_LINK_ACTS = frozenset({Act.DROP, Act.HEAL_DROP, Act.LINK_DOWN, Act.HEAL_LINK})
_RAIL_ACTS = _LINK_ACTS | {Act.BLOCK, Act.UNBLOCK}
"""What is done to the network, and needs a lab."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The acts with their times in seconds after the traffic has begun, and what is left out."""

    acts: tuple[tuple[float, Act], ...]
    left_out: tuple[str, ...]


def make_plan(
    *, seconds: float, nodes: int, rails: int, breakable: bool, fallback: bool = False
) -> Plan:
    """The acts that make sense with so many nodes and rails, and with or without a fallback."""
    left_out: list[str] = []
    plan = _PLAN_WITH_BLOCK if fallback else _PLAN
    acts = [(at * seconds / FULL_SECONDS, act) for at, act in plan]
    if not breakable:
        left_out.append("the rails are not broken: on the loopback interface there are none")
        acts = [(at, act) for at, act in acts if act not in _RAIL_ACTS]
    elif rails < 2:
        left_out.append("the rails are not broken: with one rail nothing could take over")
        acts = [(at, act) for at, act in acts if act not in _LINK_ACTS]
    if nodes < 3:
        left_out.append(
            "no process is killed: with fewer than three nodes the rest has no majority"
        )
        acts = [(at, act) for at, act in acts if act in _RAIL_ACTS]
    return Plan(acts=tuple(acts), left_out=tuple(left_out))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that was done, for the summary and the picture."""

    act: Act
    at_ns: int
    """Just before it was done."""
    words: str
