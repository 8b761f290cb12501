"""What the parties of a barrier have to agree on: who meets, what a release says, who may leave.

Parties that come to one name with different settings are all told so, at one place of the agreed
order; nobody waits for somebody who waits for somebody else.
"""

from __future__ import annotations

import enum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from phalanx.transport.config import NODE_ID_MAX, NODES_MAX
from phalanx.transport.events import Member

NodeId: TypeAlias = Annotated[int, Meta(ge=1, le=NODE_ID_MAX)]


class Strength(enum.Enum):
    """What a party knows when its wait returns."""

    ARRIVED = "arrived"
    """All parties have arrived."""
    AGREED = "agreed"
    """And every message that they multicast before is delivered here."""
    SAFE = "safe"
    """And every member holds the arrivals and those messages, so that the release also binds
    members that are cut off afterwards. There is a fencing token with it."""

    # Settings are a key that is looked up for each arrival; the hash of `Enum` is made in Python.
    __hash__ = object.__hash__


class Policy(enum.Enum):
    """What becomes of a generation when a party of it leaves the view."""

    BREAK = "break"
    """It is broken for all."""
    SHRINK = "shrink"
    """Who left is no party any more; if all others have arrived, the view itself releases them."""
    WAIT_FOR_REJOIN = "wait_for_rejoin"
    """Its arrival is void, and its node is waited for: the next incarnation has to arrive."""

    __hash__ = object.__hash__


class AllParties(msgspec.Struct, frozen=True, array_like=True, tag="all"):
    """Every member of the view in which the first arrival is ordered."""


class Count(msgspec.Struct, frozen=True, array_like=True, tag="count"):
    """The first `n` distinct members to arrive."""

    n: Annotated[int, Meta(ge=1, le=NODES_MAX)]


class Named(msgspec.Struct, frozen=True, array_like=True, tag="named"):
    """These nodes, whether or not they are members yet; make one with `named`."""

    nodes: Annotated[tuple[NodeId, ...], Meta(min_length=1, max_length=NODES_MAX)]
    """In ascending order."""


class Registered(msgspec.Struct, frozen=True, array_like=True, tag="registered"):
    """Whoever is registered where the first arrival is ordered."""


class Entered(msgspec.Struct, frozen=True, array_like=True, tag="entered"):
    """Exactly these, who have entered together and leave together."""

    members: Annotated[tuple[Member, ...], Meta(min_length=1, max_length=NODES_MAX)]
    """In ascending order."""


Parties: TypeAlias = AllParties | Count | Named | Registered | Entered


class Settings(msgspec.Struct, frozen=True, array_like=True, cache_hash=True):
    """All parties of one name have to give the same."""

    parties: Parties = AllParties()
    strength: Strength = Strength.AGREED
    policy: Policy = Policy.BREAK

    @property
    def words(self) -> str:
        """For error messages: what one side of a disagreement asked for."""
        match self.parties:
            case AllParties():
                who = "all members"
            case Count(n=n):
                who = f"{n} parties"
            case Named(nodes=nodes):
                who = f"nodes {', '.join(map(str, nodes))}"
            case Registered():
                who = "registered parties"
            case Entered(members=members):
                who = f"nodes {', '.join(str(member.node) for member in members)}, which entered"
        said = f"{who}, strength {self.strength.value}"
        if self.policy is not Policy.BREAK:
            said += f", policy {self.policy.value}"
        return said

    @property
    def canonical(self) -> bool:
        """A set is ascending and without repeats, else equal sets would compare as unequal."""
        match self.parties:
            case Named(nodes=nodes):
                return nodes == tuple(sorted(set(nodes)))
            case Entered(members=members):
                return [m.node for m in members] == sorted({m.node for m in members})
            case _:
                return True

    def allows(self, member: Member) -> bool:
        """Whether the member may come with these settings: who is not in its own set can never
        be waited for.
        """
        match self.parties:
            case Named(nodes=nodes):
                return member.node in nodes
            case Entered(members=members):
                return member in members
            case _:
                return True


def named(nodes: frozenset[int] | set[int]) -> Named:
    """The party set of these node ids in its one canonical form."""
    return Named(nodes=tuple(sorted(nodes)))
