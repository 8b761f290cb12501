"""Three nodes on two rails while nothing is wrong."""

from __future__ import annotations

import pytest

from .harness import Fleet
from .reports import Burst, Meet

pytestmark = pytest.mark.netns


def test_three_streams_arrive_everywhere_once_and_in_order(trio: Fleet) -> None:
    """Integrity, FIFO and guaranteed delivery, each node a sender and a receiver of all."""
    trio.stream(500)
    trio.flow(500)
    looks = trio.settle()
    for look in looks.values():
        assert look.marks == looks["alpha"].marks
        for received in look.received.values():
            assert received.count == received.last - received.first + 1
    assert sum(received.count for received in looks["alpha"].received.values()) >= 1500


def test_all_messages_sent_before_a_barrier_are_there_when_it_opens(trio: Fleet) -> None:
    """The barrier's cut: what was sent before arriving is in every queue, to be had at once."""
    generations: set[tuple[int, int, int]] = set()
    for number in range(10):
        order = Meet(name="cut", before=20)
        arrivals = {host: trio[host].begin(order) for host in trio.hosts}
        answers = {host: trio[host].result(asked) for host, asked in arrivals.items()}
        for answer in answers.values():
            assert not answer.error, answer.text
            assert answer.parties == [1, 2, 3]
            held = {key.split(".")[0]: last for key, last in answer.marks.items()}
            for host, other in answers.items():
                assert held[str(trio[host].id)] >= other.sent, f"round {number}"
        assert len({(answer.generation, answer.position) for answer in answers.values()}) == 1
        generations.add(answers["alpha"].generation)
    assert len(generations) == 10, "each use of the name is a generation of its own"
    trio.settle()


def test_a_receipt_says_that_every_addressee_holds_the_message(trio: Fleet) -> None:
    """`held` returns for multicasts and for directed messages, large ones too."""
    for order in (
        Burst(count=3, held=True),
        Burst(count=3, to=3, held=True),
        Burst(count=2, size=1 << 20, held=True),
    ):
        trio["alpha"].ask(order)
    trio.settle()
