"""The checkers of ordered channels find what is made for them to find."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from phalanx.barrier.testing.channels import Channels
from phalanx.barrier.testing.plan import draw_plan
from phalanx.transport.config import MS
from phalanx.transport.events import Position
from phalanx.transport.testing import channel_checkers, guarantees
from phalanx.transport.testing.checkers import Checker
from phalanx.transport.testing.history import Opened, Placed, Read, Unheld
from phalanx.transport.testing.lives import records_of
from phalanx.transport.testing.simulated_node import Life
from phalanx.transport.testing.simulation import Simulation, simulated_config

from .breaches import Breach, Tale, change, evidence, nth, places
from .scenes import converge


@pytest.fixture(scope="module")
def lives() -> list[Life]:
    """A good run: two channels at three nodes, one of which opens late and then dies."""
    simulation = Simulation(simulated_config(3))
    plan = replace(
        draw_plan(0, 3),
        channels_open_ns=((0, 0), (0, 0), (60 * MS, 60 * MS)),
        channels_read_ns=(50_000, 1 * MS, 50_000),
        channel_state_bytes=0,
        safe_share=0.5,
    )
    channels = Channels(simulation, plan)
    simulation.start_all()
    converge(simulation, 1, 2, 3)
    count = 0
    for rest in ((1, 2, 3), (1, 2)):
        for _ in range(20):
            for node in rest:
                count += 1
                channels.publish(simulation.nodes[node], b"%d of %d" % (count, node))
            simulation.run_for(5 * MS)
        if len(rest) == 3:
            simulation.nodes[3].kill()
            converge(simulation, 1, 2)
    simulation.run_for(100 * MS)
    assert not channels.unread()
    return simulation.lives


@pytest.fixture
def tales(lives: list[Life]) -> list[Tale]:
    """Its histories, to be changed."""
    return [records_of(life) for life in lives]


def reads(tale: Tale, channel: str = "with state") -> list[int]:
    """Where entries of a channel are read."""
    return [p for p, it in enumerate(tale) if isinstance(it, Read) and it.channel == channel]


def another_entry(tales: list[Tale]) -> None:
    """Two read different entries at one position."""
    place = reads(tales[0])[3]
    change(tales[0], place, messages=(b"another",))


def a_gap(tales: list[Tale]) -> None:
    """One does not read what is there."""
    del tales[0][reads(tales[0], "without")[2]]


def swapped(tales: list[Tale]) -> None:
    """One reads in another order."""
    one, other = reads(tales[1], "without")[2:4]
    tales[1][one], tales[1][other] = tales[1][other], tales[1][one]


def before_its_opening(tales: list[Tale]) -> None:
    """What is in the state is delivered again."""
    read = tales[1][reads(tales[1])[2]]
    assert isinstance(read, Read)
    for place in places(tales[1], Opened):
        change(tales[1], place, position=read.first)


def in_another_place(tales: list[Tale]) -> None:
    """A publisher is told the place of another entry."""
    one, other = places(tales[0], Placed)[1:3]
    there = tales[0][other]
    assert isinstance(there, Placed)
    change(tales[0], one, position=there.position)


def another_state(tales: list[Tale]) -> None:
    """The same entries make different states."""
    change(tales[1], reads(tales[1])[-1], digest=b"another")


def a_state_ignored(tales: list[Tale]) -> None:
    """A late one begins with nothing."""
    for place in places(tales[2], Opened):
        opened = tales[2][place]
        if isinstance(opened, Opened) and opened.channel == "with state":
            assert not opened.alone
            change(tales[2], place, alone=True)


def held_by_some(tales: list[Tale]) -> None:
    """Who looks into all nodes sees one that lacks it."""
    read = nth(tales[0], Read)
    tales[0].append(Unheld(read.at_ns, read.messages[0], ()))


def lost_by_one_that_went_on(tales: list[Tale]) -> None:
    """Safe for one, and another of the same view goes on without it."""
    known = evidence(tales).sent
    first_view = evidence(tales).histories[0].stays[0].view
    message = next(m for m, s in known.items() if s.safe and s.sender.node == 3)
    assert first_view is not None
    for place, record in enumerate(tales[1]):
        messages = getattr(record, "messages", ())
        if message in messages and not isinstance(record, Read):
            rest = tuple(it for it in messages if it != message)
            tales[1][place] = msgspec.structs.replace(record, messages=rest)


def not_read_to_the_end(tales: list[Tale]) -> None:
    """The last entry is there, and nobody reads it."""
    del tales[0][reads(tales[0])[-1]]


def of_another_sender(tales: list[Tale]) -> None:
    """An entry is said to be of who did not publish it."""
    place = reads(tales[0])[3]
    read = tales[0][place]
    assert isinstance(read, Read)
    change(tales[0], place, sender=read.sender % 3 + 1)


def read_twice(tales: list[Tale]) -> None:
    """An entry comes once more, at a later place."""
    one, other = reads(tales[1], "without")[2:4]
    read = tales[1][one]
    assert isinstance(read, Read)
    change(tales[1], other, sender=read.sender, messages=read.messages)


def one_senders_swapped(tales: list[Tale]) -> None:
    """What one sender published comes in another order, at places that grow."""
    own = [p for p in reads(tales[1], "without") if getattr(tales[1][p], "sender", 0) == 1]
    one, other = (tales[1][place] for place in own[2:4])
    assert isinstance(one, Read)
    assert isinstance(other, Read)
    change(tales[1], own[2], messages=other.messages)
    change(tales[1], own[3], messages=one.messages)


CHANNEL_BREACHES: list[tuple[Checker, Breach]] = [
    (channel_checkers.channel_entries, another_entry),
    (channel_checkers.channel_entries, of_another_sender),
    (channel_checkers.channel_entries, read_twice),
    (channel_checkers.channel_entries, one_senders_swapped),
    (channel_checkers.channel_order, another_entry),
    (channel_checkers.channel_order, a_gap),
    (channel_checkers.channel_order, swapped),
    (channel_checkers.channel_order, before_its_opening),
    (channel_checkers.channel_order, in_another_place),
    (channel_checkers.channel_state, another_state),
    (channel_checkers.channel_state, a_state_ignored),
    (channel_checkers.safe_delivery, held_by_some),
    (channel_checkers.safe_delivery, lost_by_one_that_went_on),
    (channel_checkers.all_read, not_read_to_the_end),
]


@pytest.mark.parametrize(("checker", "breach"), CHANNEL_BREACHES)
def test_each_breach_is_found_by_its_checker(
    tales: list[Tale], checker: Checker, breach: Breach
) -> None:
    """The good run has none; the same run with one thing wrong has one."""
    assert list(checker(evidence(tales))) == []
    breach(tales)
    assert list(checker(evidence(tales))) != []


def test_the_state_of_an_earlier_life_is_nobodys(tales: list[Tale]) -> None:
    """What an evicted node had it opens anew, and may read the rest of it only then."""
    a_state_ignored(tales)
    for tale in tales[:2]:
        for place in places(tale, Opened):
            change(tale, place, position=Position(1, 0, 1))
    assert list(channel_checkers.channel_state(evidence(tales))) == []


def test_a_run_with_channels_puts_order_and_safety_to_the_test(tales: list[Tale]) -> None:
    """Somebody opens late and takes state, and what is safe is read everywhere."""
    found = {f.guarantee.number: f for f in guarantees.judge(evidence(tales), quiet=True)}
    assert (found[6].verdict, found[7].verdict) == ("held", "held")
    assert found[7].checked > 20
    late = {it.channel: it for it in tales[2] if isinstance(it, Opened)}
    assert late["with state"].line
    assert not late["with state"].alone
    assert not late["without"].line
