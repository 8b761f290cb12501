"""Misuse, limits, the loss of the lease, and entries that make no sense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.barrier import messages, table
from phalanx.barrier.core import (
    WAITS_MAX,
)
from phalanx.barrier.events import Refused, Released, Unknown
from phalanx.barrier.messages import (
    PAYLOAD_BYTES_MAX,
    Arrive,
    Carry,
    Cause,
    Withdraw,
)
from phalanx.barrier.settings import (
    AllParties,
    Count,
    Named,
    Parties,
    Settings,
    named,
)
from phalanx.transport.config import MS, NAME_BYTES_MAX, NODES_MAX
from phalanx.transport.errors import UsageError
from phalanx.transport.events import Member, Position, ViewId

from .model import Model, entry
from .scenes import drain


def test_losing_the_lease_answers_every_wait() -> None:
    """`none` and `unknown` tell whether the arrival may count somewhere."""
    model = Model({1, 2})
    published = model.arrive(1)
    model.take(1)
    held_back = model.arrive(1, "two")
    model.detach(1, "lease lost")
    assert isinstance(published.outcome, Unknown)
    assert isinstance(held_back.outcome, Unknown)
    assert (published.outcome.outcome, held_back.outcome.outcome) == ("unknown", "none")
    assert published.outcome.reason == "lease lost"


@pytest.mark.parametrize(
    ("name", "parties"),
    [
        ("", AllParties()),
        ("x" * (NAME_BYTES_MAX + 1), AllParties()),
        ("ü" * (NAME_BYTES_MAX // 2) + "x", AllParties()),
        ("\ud800", AllParties()),
        ("x", Count(n=0)),
        ("x", Count(n=NODES_MAX + 1)),
        ("x", named({2, 3})),
        ("x", Named(nodes=())),
        ("x", Named(nodes=(2, 1))),
        ("x", named({0, 1})),
        ("x", named(set(range(1, NODES_MAX + 2)))),
    ],
)
def test_misuse_is_refused_at_once(name: str, parties: Parties) -> None:
    """The caller's mistakes raise; they never reach the other nodes."""
    core = Model({1, 2}).nodes[1].core
    with pytest.raises(UsageError):
        core.arrive(name, Settings(parties), deadline_ns=None, now_ns=0)
    assert core.take_entries({}) == []


@pytest.mark.parametrize(
    ("name", "parties"),
    [
        ("x" * NAME_BYTES_MAX, AllParties()),
        ("x", Count(n=1)),
        ("x", Count(n=NODES_MAX)),
        ("x", named(set(range(1, NODES_MAX + 1)))),
    ],
)
def test_usage_at_the_limits_is_understood_by_everybody(name: str, parties: Parties) -> None:
    """What the caller may ask for must also be what the others accept."""
    model = Model({1, 2})
    model.arrive(1, name, parties=parties)
    drain(model, 1)
    model.deliver(2)
    assert "entries_garbage" not in model.nodes[2].core.stats()


def test_a_second_wait_of_one_name_is_refused() -> None:
    """A node arrives once in each generation; two waiters would be two arrivals."""
    model = Model({1, 2})
    model.arrive(1)
    with pytest.raises(UsageError, match="already"):
        model.arrive(1)


def test_open_waits_of_a_node_are_bounded() -> None:
    """Nothing grows without a limit."""
    core = Model({1, 2}).nodes[1].core
    for number in range(WAITS_MAX):
        core.arrive(f"{number}", Settings(), deadline_ns=None, now_ns=0)
    with pytest.raises(UsageError, match=str(WAITS_MAX)):
        core.arrive("one more", Settings(), deadline_ns=None, now_ns=0)


def test_open_names_are_bounded_and_everybody_refuses_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit is applied in the order, so tables stay equal."""
    monkeypatch.setattr(table, "OPEN_NAMES_MAX", 2)
    model = Model({1, 2})
    calls = [model.arrive(1, name, parties=AllParties()) for name in ("a", "b", "c")]
    model.quiesce()
    assert [type(call.outcome) for call in calls] == [type(None), type(None), Refused]
    other = model.arrive(2, "a", parties=AllParties())
    model.quiesce()
    assert isinstance(other.outcome, Released)
    again = model.arrive(1, "c", parties=AllParties())
    model.quiesce()
    assert again.outcome is None


def test_open_generations_of_one_name_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each view may bring newcomers that overtake; that must end somewhere."""
    monkeypatch.setattr(table, "OPEN_GENERATIONS_PER_NAME_MAX", 2)
    model = Model({1, 2})
    model.arrive(1)
    model.quiesce()
    model.install({1, 2, 3})
    second = model.arrive(3)
    model.quiesce()
    model.install({1, 2, 3, 4})
    model.quiesce()
    third = model.arrive(4)
    model.quiesce()
    assert second.outcome is None
    assert isinstance(third.outcome, Refused)


def test_entries_of_strangers_and_of_other_views_are_void() -> None:
    """An entry counts in the view in which it was made, from a member of it."""
    model = Model({1, 2})
    model.arrive(1, "two")
    payload = model.nodes[1].core.take_entries({})[0].payload
    core = model.nodes[2].core
    for stranger in (Member(9, 1), Member(1, 2)):
        core.ordered([entry(stranger, payload, model.view.id, 1)], now_ns=0)
    assert core.generations() == []
    assert core.stats()["entries_stale"] == 2


VIEW = ViewId(1, 1)
BAD_CARRIED = messages.Carried(
    opened=Position(1, 0, 1),
    settings=Settings(Count(n=1)),
    wanted=(),
    size=1,
    arrived=(Member(1, 1),),
)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\xa5hello",
        b"\x93\xa6arrive\x01\x02",
        b"\x91\xa7unknown",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000,
        messages.encode(Withdraw(view=VIEW, name="", cause=Cause.CANCEL)),
        messages.encode(Withdraw(view=VIEW, name="ü" * 65, cause=Cause.CANCEL)),
        messages.encode(Carry(view=VIEW, name="x", generations=(BAD_CARRIED,))),
        messages.encode(Arrive(VIEW, "x", Settings(), bytes(PAYLOAD_BYTES_MAX + 1))),
        *(
            messages.encode(Arrive(view=VIEW, name="x", settings=Settings(parties)))
            for parties in (Count(n=0), Count(n=65), Named(nodes=(1, 1)), named({0, 1}))
        ),
    ],
)
def test_garbage_is_counted_and_changes_nothing(payload: bytes) -> None:
    """What the network sends never raises."""
    model = Model({1, 2})
    model.order(1, payload)
    model.deliver(1)
    model.deliver(2)
    assert model.nodes[2].core.stats()["entries_garbage"] == 1
    assert model.nodes[2].core.generations() == []


def test_a_carried_generation_of_nobody_here_is_not_adopted() -> None:
    """It could never be released, and no honest member carries it."""
    model = Model({1, 2})
    carried = messages.Carried(
        opened=Position(1, 0, 1),
        settings=Settings(Count(n=2)),
        wanted=(),
        size=2,
        arrived=(Member(7, 1),),
    )
    model.order(1, messages.encode(Carry(view=VIEW, name="x", generations=(carried,))))
    model.deliver(2)
    assert model.nodes[2].core.generations() == []
    assert model.nodes[2].core.stats()["copies_refused"] == 1


@given(payload=st.binary(max_size=200), cut=st.integers(0, 80), flip=st.integers(0, 600))
def test_no_bytes_raise_out_of_the_core(payload: bytes, cut: int, flip: int) -> None:
    """Random, cut and bit-flipped entries are all survived."""
    model = Model({1, 2})
    model.arrive(1)
    good = bytearray(model.nodes[1].core.take_entries({})[0].payload)
    good[flip // 8 % len(good)] ^= 1 << flip % 8
    for damaged in (payload, bytes(good), bytes(good[:cut])):
        model.order(1, damaged)
        model.deliver(2)
    assert model.nodes[2].cursor == 3


def test_waking_early_and_often_is_harmless() -> None:
    """Timers are asked for by `next_deadline`; who wakes too often changes nothing."""
    model = Model({1, 2})
    call = model.arrive(1, timeout_ns=50 * MS)
    for _ in range(3):
        model.pass_time(16 * MS)
    assert call.outcome is None
    assert model.nodes[1].core.next_deadline() == 50 * MS
