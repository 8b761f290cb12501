"""What arrivals bring along: all parties are given all of it, or none is released."""

from __future__ import annotations

import pytest

from phalanx.barrier import table
from phalanx.barrier.events import Refused
from phalanx.barrier.generation import PAYLOAD_OWED
from phalanx.barrier.messages import PAYLOAD_BYTES_MAX
from phalanx.transport.errors import UsageError

from .model import Model
from .scenes import drain, released


def test_all_parties_are_given_what_each_has_brought() -> None:
    """An allgather; who has brought nothing is not among them."""
    model = Model({1, 2, 3})
    brought = {1: b"one", 2: b"", 3: bytes(PAYLOAD_BYTES_MAX)}
    calls = [model.arrive(node, payload=payload) for node, payload in brought.items()]
    model.quiesce()
    for call in calls:
        assert released(call).release.payloads == {1: brought[1], 3: brought[3]}


def test_a_payload_past_the_limit_is_refused_at_once() -> None:
    """The caller's mistake; nothing is published."""
    model = Model({1, 2})
    with pytest.raises(UsageError, match=f"at most {PAYLOAD_BYTES_MAX}"):
        model.arrive(1, payload=bytes(PAYLOAD_BYTES_MAX + 1))
    assert model.nodes[1].core.take_entries({}) == []


def test_payloads_of_one_generation_do_not_come_back_in_the_next() -> None:
    """Each use of a name begins with nothing."""
    model = Model({1, 2})
    first = [model.arrive(1, payload=b"x"), model.arrive(2)]
    model.quiesce()
    second = [model.arrive(1), model.arrive(2)]
    model.quiesce()
    assert released(first[1]).release.payloads == {1: b"x"}
    assert released(second[0]).release.payloads == {}


def test_in_a_new_view_each_party_says_its_own_again() -> None:
    """A newcomer that completes the generation is given all of it, too."""
    model = Model({1, 2})
    calls = [model.arrive(1, "three", payload=b"one"), model.arrive(2, "three", payload=b"two")]
    model.quiesce()
    model.install({1, 2, 3})
    calls.append(model.arrive(3, "three", payload=b"three"))
    drain(model, 3)
    model.quiesce()
    for call in calls:
        assert released(call).release.payloads == {1: b"one", 2: b"two", 3: b"three"}


def test_a_carried_generation_is_not_complete_before_its_payloads_are_there() -> None:
    """All have arrived, and the newcomer would be released with less than the others."""
    model = Model({1, 2})
    calls = [model.arrive(1, "three", payload=b"one"), model.arrive(2, "three", payload=b"two")]
    model.quiesce()
    model.install({1, 2, 3})
    model.take(1)
    model.number(1)  # It carries, and has not said its payload again.
    calls.append(model.arrive(3, "three"))
    drain(model, 3)
    while model.deliver(3):
        pass
    assert calls[2].outcome is None
    assert model.nodes[3].core.missing("three") == dict.fromkeys((1, 2), PAYLOAD_OWED)
    model.quiesce()
    assert released(calls[2]).release == released(calls[0]).release


def test_a_payload_survives_several_views_in_which_nothing_is_ordered() -> None:
    """Its party keeps it until it is in the order again."""
    model = Model({1, 2, 3})
    calls = [model.arrive(1, payload=b"one"), model.arrive(2)]
    model.quiesce()
    for joined in ({4}, set[int](), {5}):
        model.install({1, 2, 3} | joined)
    calls.append(model.arrive(3))
    model.quiesce()
    assert released(calls[2]).release.payloads == {1: b"one"}


def test_payloads_that_are_held_are_bounded_and_everybody_refuses_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit is applied in the order, so tables stay equal; room comes back with a release."""
    monkeypatch.setattr(table, "PAYLOADS_BYTES_MAX", 10)
    model = Model({1, 2})
    first = model.arrive(1, "all", payload=bytes(10))
    model.quiesce()
    refused = model.arrive(2, "two", payload=b"1")
    model.quiesce()
    assert isinstance(refused.outcome, Refused)
    assert model.nodes[1].core.stats()["payload_bytes"] == 10
    model.arrive(2, "all")
    model.quiesce()
    assert len(released(first).release.payloads[1]) == 10
    assert model.nodes[2].core.stats()["payload_bytes"] == 0
    again = model.arrive(2, "two", payload=bytes(10))
    model.quiesce()
    assert again.outcome is None
