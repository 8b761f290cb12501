"""The core of ordered channels against a model of the agreed order, by schedule and at random."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phalanx.barrier.channel_messages import CONTROL, Can, Have, Part, Take, encode
from phalanx.barrier.order import CHANNELS_MAX, ChannelsCore
from phalanx.transport.config import MS
from phalanx.transport.errors import UsageError
from phalanx.transport.events import Position

from .order_model import CONFIG, Application, OrderModel

STATEFUL = {"s": True, "t": True, "p": False}
"""The channels of random schedules, and whether their applications have state."""


def opened(model: OrderModel, *nodes: int, name: str = "s") -> list[Application]:
    """A channel with state, open on some nodes one after the other."""
    applications: list[Application] = []
    for node in nodes:
        applications.append(model.open(node, name, stateful=STATEFUL[name]))
        model.quiesce()
    return applications


# ------------------------------------------------------------------------------- by schedule


def test_who_opens_late_has_the_state_of_that_place() -> None:
    """And nothing twice: what is in the state is not delivered again."""
    model = OrderModel((1, 2, 3))
    first, second = opened(model, 1, 2)
    model.publish(1, "s", 3)
    model.quiesce()
    (third,) = opened(model, 3)
    model.publish(2, "s", 2)
    model.finish()
    assert (first.taken, second.taken, third.taken) == (0, 1, 1)
    assert first.digest == third.digest


def test_before_the_first_view_an_opening_waits() -> None:
    """A program may open its channels as soon as it has joined; the order comes later."""
    model = OrderModel((1, 2))
    opened(model, 1)
    core = ChannelsCore(CONFIG, 3)
    core.open("s", takes=True, gives=True)
    core.wake(0)
    assert not core.take_items()
    assert core.next_deadline() is None
    assert not core.take_entries({})


def test_two_that_open_at_once_do_not_wait_for_each_other() -> None:
    """Of two openings one comes first, and that one has nobody to ask."""
    model = OrderModel((1, 2))
    for node in (1, 2):
        model.open(node, "s", stateful=True)
    model.publish(1, "s")
    model.finish()
    assert sorted(model.nodes[n].applications["s"].taken for n in (1, 2)) == [0, 1]


def test_a_state_has_what_was_held_back_before_its_place() -> None:
    """A mark that overtook a safe entry would give a state without it."""
    model = OrderModel((1, 2, 3))
    (first,) = opened(model, 1)
    model.publish(1, "s", safe=True)
    late = model.open(2, "s", stateful=True)
    for node in (1, 2):
        model.take(node)
        model.number(node)
    for node in (1, 2, 3):
        model.deliver(node)
    model.deliver(1)
    assert not first.read()
    model.publish(1, "s")
    model.finish()
    assert late.taken == 1


@pytest.mark.parametrize("how", ["leaves", "fails", "begins anew", "closes"])
@pytest.mark.parametrize("after", range(12))
def test_a_donor_that_is_gone_in_the_middle_is_replaced(how: str, after: int) -> None:
    """At every step: another one gives its state, of another place."""
    model = OrderModel((1, 2, 3))
    opened(model, 1, 2)
    model.publish(2, "s", 3)
    model.quiesce()
    late = model.open(3, "s", stateful=True)
    model.publish(3, "s")
    steps = [
        (3, model.take),
        (3, model.number),
        (1, model.deliver),
        (1, model.take),
        (1, model.number),
        (3, model.deliver),
        (3, model.deliver),
        (3, model.take),
        (3, model.number),
        (1, model.deliver),
        (1, model.deliver),
    ]
    for node, step in steps[:after]:
        step(node)
    model.read(1, "s")
    if after > 10:
        model.take(1)
    if how == "closes":
        model.close(1, "s")
    elif how == "leaves":
        model.change_view((2, 3))
    else:
        restarted, anew = ((1,), ()) if how == "fails" else ((), (1,))
        model.change_view((1, 2, 3), restarted=restarted, anew=anew)
    model.publish(2, "s")
    model.finish()
    assert late.digest == model.nodes[2].applications["s"].digest
    assert late.taken


def test_who_has_asked_and_closes_keeps_nobody_waiting() -> None:
    """Everybody who could give state waits at that place to be told that it need not."""
    for steps in range(5):
        model = OrderModel((1, 2))
        opened(model, 1)
        model.open(2, "s", stateful=True)
        order = [(2, model.take), (2, model.number), (2, model.deliver), (1, model.deliver)]
        for node, step in order[:steps]:
            step(node)
        model.close(2, "s")
        model.publish(1, "s")
        model.finish()
        model.open(2, "s", stateful=True)
        model.finish()


def test_who_closes_and_opens_again_at_once_begins_where_it_opened_last() -> None:
    """The first opening is on its way then, and is not taken for the second."""
    model = OrderModel((1, 2))
    opened(model, 1)
    model.open(2, "s", stateful=True)
    model.take(2)
    model.close(2, "s")
    again = model.open(2, "s", stateful=True)
    model.publish(1, "s")
    model.finish()
    assert again.taken == 1


def test_a_member_without_channels_is_waited_for_only_so_long() -> None:
    """It never answers; and one that can give its state is taken at once."""
    model = OrderModel((1, 2, 3), unlayered=(3,))
    (first,) = opened(model, 1)
    model.pass_time(CONFIG.timing.call_timeout_ns - 1)
    assert not first.read()
    model.pass_time(1)
    assert first.read()
    (second,) = opened(model, 2)
    assert second.taken == 1
    model.finish()


def test_an_answer_that_comes_too_late_is_told_so() -> None:
    """Its mark would hold up its reader for ever."""
    model = OrderModel((1, 2, 3), unlayered=(3,))
    model.too_slow = True
    opened(model, 1)
    model.pass_time(CONFIG.timing.call_timeout_ns)
    model.quiesce()
    late = model.open(2, "s", stateful=True)
    model.take(2)
    model.number(2)
    for node in (2, 1):
        model.deliver(node)
    model.pass_time(CONFIG.timing.call_timeout_ns)
    model.publish(1, "s")
    model.finish()
    assert late.taken == 0


def test_a_view_change_while_asking_again_decides_nothing() -> None:
    """The opening that is on its way counts, not the one whose donor is gone."""
    model = OrderModel((1, 2, 3, 4))
    opened(model, 1, 2)
    model.publish(1, "s", 2)
    model.quiesce()
    late = model.open(3, "s", stateful=True)
    for node, step in [(3, model.take), (3, model.number)]:
        step(node)
    for node in (1, 2, 3):
        model.deliver(node)
    for node in (1, 2, 4):
        model.take(node)
        model.number(node)
    while model.deliver(3):
        pass
    model.change_view((2, 3, 4))
    model.change_view((2, 3))
    model.finish()
    assert late.taken == 1


def test_who_asks_again_has_to_refuse_those_who_asked_it_meanwhile() -> None:
    """The state it then takes is of a later place than the one that they need."""
    model = OrderModel((1, 2, 3, 4))
    opened(model, 1, 4)
    model.publish(1, "s", 2)
    model.quiesce()
    second = model.open(2, "s", stateful=True)
    for node in (2, 1, 2):
        model.take(node)
        while model.number(node):
            pass
        for other in model.nodes:
            while model.deliver(other):
                pass
    model.change_view((2, 3, 4))
    third = model.open(3, "s", stateful=True)
    for node in (3, 2, 3):
        model.take(node)
        while model.number(node):
            pass
        for other in model.nodes:
            while model.deliver(other):
                pass
    model.publish(3, "s")
    model.finish()
    assert (second.taken, third.taken) == (1, 1)


def test_safe_entries_are_held_back_with_what_is_behind_them_and_released_by_a_view() -> None:
    """Who goes on holds all of them; the one that is gone never said so."""
    model = OrderModel((1, 2, 3))
    one, two = opened(model, 1, 2, name="p")
    model.publish(1, "p", safe=True)
    model.publish(1, "p")
    for _ in range(2):
        model.number(1)
        for node in (1, 2):
            model.deliver(node)
            model.tell_stable(node)
    assert not one.read()
    assert model.nodes[1].core.stats()["held_back"] == 2
    model.change_view((1, 2))
    assert one.read()
    assert two.read()
    assert one.last == two.last
    model.finish()


def test_all_start_over_from_the_one_whose_state_counts() -> None:
    """It goes on without a break, also with what it had held back; the others begin anew."""
    model = OrderModel((1, 2, 3))
    one, two, three = opened(model, 1, 2, 3)
    model.publish(2, "s", 2)
    model.publish(2, "s", safe=True)
    for _ in range(2):
        model.number(2)
        model.deliver(3)
    model.change_view((1, 2, 3), start_over=3)
    model.publish(1, "s")
    model.finish()
    assert (one.taken, two.taken, three.taken) == (1, 2, 1)


def test_nobody_asks_in_the_new_order_for_what_was_asked_in_the_old_one() -> None:
    """The donor of a start over waits at no mark of somebody who begins anew."""
    model = OrderModel((1, 2))
    opened(model, 1)
    model.open(2, "s", stateful=True)
    model.take(2)
    model.number(2)
    model.deliver(1)
    model.change_view((1, 2), start_over=1)
    model.publish(1, "s")
    model.finish()


def test_what_nobody_asked_for_changes_nothing() -> None:
    """Garbage, answers to nobody, parts of other states."""
    model = OrderModel((1, 2, 3))
    opened(model, 1, 2)
    place = Position(1, 1, 1)
    for payload in (
        b"",
        b"\xff" * 40,
        encode(Have("s", place, 1, Can.GIVE)),
        encode(Have("nobody", place, 3, Can.GIVE)),
        encode(Take("s", place, 2)),
        encode(Part("s", place, 1, b"x")),
    ):
        model.say(3, payload)
    for payload in (b"\x01", encode(Take("s", place, 2)), encode(Part("s", place, 1, b"x"))):
        model.nodes[1].directed.append((3, payload))
    model.publish(1, "s")
    model.finish()
    stats = model.nodes[1].core.stats()
    assert (stats["entries_garbage"], stats["parts_unasked"]) == (5, 1)


@pytest.mark.parametrize(("size", "fits"), [(100, True), (101, False)])
def test_a_state_that_is_too_large_is_not_taken(size: int, fits: bool) -> None:
    """At the limit it is, one byte past it the application is told how large it would be."""
    config = replace(CONFIG, limits=replace(CONFIG.limits, state_bytes_max=100))
    model = OrderModel((1, 2), config=config)
    (first,) = opened(model, 1)
    first.padding = bytes(size - 64)
    (second,) = opened(model, 2)
    (made,) = second.made
    assert (len(made.state or b""), made.too_large) == ((size, 0) if fits else (0, size))


def test_as_many_channels_as_a_node_may_have() -> None:
    """And not one more."""
    core = ChannelsCore(CONFIG, 1)
    for number in range(CHANNELS_MAX):
        core.open(f"{number}", takes=False, gives=False)
    with pytest.raises(UsageError, match="256 channels"):
        core.open("one more", takes=False, gives=False)
    core.close("0")
    core.open("one more", takes=False, gives=False)
    with pytest.raises(UsageError, match="open on this node already"):
        core.open("one more", takes=False, gives=False)


def test_it_owns_what_programs_name_and_its_own_entries() -> None:
    """Channels of other layers begin with an exclamation mark, too."""
    core = ChannelsCore(CONFIG, 1)
    assert core.owns("any")
    assert core.owns(CONTROL)
    assert not core.owns("!barrier")


# --------------------------------------------------------------------------------- at random


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_nothing_breaks_it(draw: random.Random) -> None:
    """Openings, closings, entries, views, in any order and with any delay."""
    play(draw)


@pytest.mark.parametrize("seed", range(150))
def test_nothing_breaks_it_in_long_runs(seed: int) -> None:
    """The same, longer, out of a seed."""
    play(random.Random(seed), steps=400)


def play(draw: random.Random, *, steps: int = 60) -> OrderModel:
    """A random schedule, and its end."""
    nodes = range(1, draw.randrange(3, 6))
    model = OrderModel(nodes, unlayered=(5,) if draw.random() < 0.2 else ())
    for _ in range(steps):
        node = draw.choice(list(model.nodes))
        _act(model, draw, node)
    model.finish()
    return model


def _act(model: OrderModel, draw: random.Random, node: int) -> None:
    here = model.nodes[node]
    what = draw.random()
    name = draw.choice(sorted(STATEFUL))
    if what < 0.1:
        if name not in here.applications and here.layered:
            model.open(node, name, stateful=STATEFUL[name])
        elif draw.random() < 0.3 and name in here.applications:
            model.close(node, name)
    elif what < 0.25:
        model.publish(node, name, draw.choice((1, 1, 3)), safe=draw.random() < 0.3)
    elif what < 0.35:
        model.take(node)
    elif what < 0.5:
        model.number(node)
    elif what < 0.7:
        for _ in range(draw.randrange(1, 5)):
            model.deliver(node)
    elif what < 0.76:
        model.tell_stable(node)
    elif what < 0.82:
        model.direct(node)
    elif what < 0.92:
        if name in here.applications:
            model.read(node, name, draw.choice((1, 2, 1000)))
    elif what < 0.93:
        # In one run less than what a member is given to answer.
        model.pass_time(draw.choice((1, 100, 1000)) * MS)
    elif what < 0.95:
        model.quiesce()
    elif what < 0.97:
        _change_view(model, draw)


def _change_view(model: OrderModel, draw: random.Random) -> None:
    present = list(model.nodes)
    if draw.random() < 0.2:
        model.change_view(present, start_over=draw.choice(present), more=draw.randrange(3))
        return
    gone = draw.sample(present, draw.randrange(len(present)))
    stay = [node for node in present if node not in gone]
    back = [node for node in gone if draw.random() < 0.5]
    new = [node for node in (*model.away, 6) if node not in present and draw.random() < 0.5]
    restarted = [node for node in gone if draw.random() < 0.5]
    anew = [node for node in gone if node not in restarted]
    model.change_view((*stay, *back, *new), restarted=restarted, anew=anew, more=draw.randrange(3))
