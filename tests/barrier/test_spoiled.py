"""What is left behind in a double barrier: the leaving that it breaks, and what it must not hit."""

from __future__ import annotations

import pytest

from phalanx.barrier import names, table
from phalanx.transport.events import Position

from .model import Call, Model
from .scenes import broken, released

ENTER = names.enter_name("job")


def entered(model: Model, *nodes: int) -> list[Call]:
    """Enter a double barrier together."""
    calls = [model.arrive(node, ENTER) for node in nodes]
    model.quiesce()
    return calls


def test_who_leaves_by_an_exception_breaks_the_leaving_for_all_the_others() -> None:
    """Also for those who come to it later: nobody goes on as if all had been well."""
    model = Model({1, 2, 3})
    entered(model, 1, 2, 3)
    early = model.leave(1, ENTER)
    model.quiesce()
    model.leave(2, ENTER, spoil="node 2 has left by an exception: ValueError")
    model.quiesce()
    late = model.leave(3, ENTER)
    model.quiesce()
    assert broken(early).reason == broken(late).reason
    assert broken(early).reason == "node 2 has left by an exception: ValueError"
    assert broken(early).generation == broken(late).generation
    assert model.nodes[1].core.generations() == []


@pytest.mark.parametrize("told", [True, False])
def test_who_left_the_view_since_it_entered_breaks_the_leaving(told: bool) -> None:
    """It will not come, whether or not somebody waited already when it went."""
    model = Model({1, 2, 3})
    entered(model, 1, 2, 3)
    early = model.leave(1, ENTER) if told else None
    model.quiesce()
    model.install({1, 2})
    late = [model.leave(node, ENTER) for node in ((2,) if told else (1, 2))]
    model.quiesce()
    for call in late:
        assert broken(call).reason == "node 3 left the view since it entered"
    if early is not None:
        assert broken(early).reason == "node 3 left the view: crashed"
    else:
        assert model.nodes[1].core.generations() == [], "all that were left have been told"


def test_what_is_left_behind_in_one_use_of_a_double_barrier_hits_no_later_one() -> None:
    """One party has failed and the other never came to the leaving."""
    model = Model({1, 2})
    entered(model, 1, 2)
    model.leave(1, ENTER, spoil="a reason")
    model.quiesce()
    del model.nodes[2].entered[ENTER]
    entered(model, 1, 2)
    calls = [model.leave(node, ENTER) for node in (1, 2)]
    model.quiesce()
    assert released(calls[0]).release == released(calls[1]).release


def test_spoiled_generations_that_nobody_comes_to_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would fill the table for ever; the oldest is given up at all members alike."""
    monkeypatch.setattr(table, "SPOILED_MAX", 2)
    model = Model({1, 2})
    for _ in range(4):
        entered(model, 1, 2)
        model.leave(1, ENTER, spoil="a reason")
        del model.nodes[2].entered[ENTER]
        model.quiesce()
    assert len(model.nodes[1].core.generations()) == 2
    assert model.nodes[1].core.generations() == model.nodes[2].core.generations()


def test_a_name_of_a_user_never_meets_a_double_barrier() -> None:
    """What is put before the name of a double barrier is nothing that a user may write."""
    for name in (ENTER, names.leave_name("job", Position(1, 1, 1))):
        assert names.base(name) == "job"
        assert not name.isprintable()
        assert names.problem(name) is None
    assert names.shown(ENTER) == "job (enter)"
