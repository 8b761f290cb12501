"""Nothing is said before it is durable."""

from __future__ import annotations

from phalanx.transport import wire
from phalanx.transport.core.acceptor import Acceptor
from phalanx.transport.core.outputs import Outputs, Persist
from phalanx.transport.events import Member
from phalanx.transport.wire import ViewValue

VALUE = ViewValue(era=1, k=2, members=(Member(1, 1),), continuing=(1,), donor=1, cut=(), reasons={})


def acceptor(*, voter: bool = True, votes_from_ns: int = 0) -> tuple[Acceptor, Outputs]:
    """One with an empty record."""
    outputs = Outputs()
    record = wire.Record(cluster="c", node=1, incarnation=1, voter=voter)
    return Acceptor(record=record, votes_from_ns=votes_from_ns, outputs=outputs), outputs


def writes(outputs: Outputs) -> list[tuple[int, wire.Record]]:
    """What was handed to the disk."""
    found: list[tuple[int, wire.Record]] = []
    for command in outputs.take()[1]:
        assert isinstance(command, Persist)
        record = wire.decode_record(command.data)
        assert record is not None
        found.append((command.token, record))
    return found


def test_a_promise_is_said_only_when_it_is_durable() -> None:
    """A promise forgotten in a crash would let an older ballot decide something else."""
    part, outputs = acceptor()
    part.promise(3, 2, (5, 3), vote=True)
    assert part.take_ready(0) == []
    [(token, record)] = writes(outputs)
    assert record.promised == (5, 3)
    part.persisted(token)
    [reply] = part.take_ready(0)
    assert (reply.node, reply.ballot, reply.vote, reply.accepted) == (3, (5, 3), True, False)
    assert part.take_ready(0) == []


def test_a_report_without_vote_is_said_at_once_and_writes_nothing() -> None:
    """It binds nobody, and the others wait for it."""
    part, outputs = acceptor()
    part.promise(3, 2, (5, 3), vote=False)
    assert [reply.vote for reply in part.take_ready(0)] == [False]
    assert writes(outputs) == []


def test_an_acceptance_waits_for_the_disk_and_for_the_grants() -> None:
    """The proof that the missing members act no more is the time that has passed."""
    part, outputs = acceptor()
    part.accept(3, (5, 3), VALUE, not_before_ns=100)
    [(token, record)] = writes(outputs)
    assert (record.accepted, record.accepted_ballot) == (VALUE, (5, 3))
    assert record.promised == (5, 3)
    part.persisted(token)
    assert part.take_ready(99) == []
    assert [reply.accepted for reply in part.take_ready(100)] == [True]


def test_with_a_failed_disk_there_is_no_vote() -> None:
    """What cannot be made durable must not count; the report still must come."""
    part, _ = acceptor()
    part.promise(3, 2, (5, 3), vote=True)
    part.accept(3, (5, 3), VALUE, not_before_ns=0)
    part.persist_failed()
    assert [(reply.vote, reply.accepted) for reply in part.take_ready(0)] == [(False, False)]
    assert part.votes_in_ns(0) == -1


def test_a_disk_that_works_again_gives_the_vote_back() -> None:
    """A full disk is no reason to stay without a vote for ever."""
    part, outputs = acceptor()
    part.promise(3, 2, (5, 3), vote=True)
    part.persist_failed()
    part.remember({2: (7, 1)})
    part.persisted(writes(outputs)[-1][0])
    assert part.votes_in_ns(0) == 0


def test_a_decision_clears_what_was_promised_for_its_instance() -> None:
    """Ballots of one instance mean nothing in the next; the waiting answers are moot."""
    part, outputs = acceptor(voter=False)
    part.promise(3, 2, (5, 3), vote=True)
    part.decide(VALUE, admitted=True)
    record = writes(outputs)[-1][1]
    assert record.decided == VALUE
    assert (record.promised, record.accepted) == (wire.NO_BALLOT, None)
    assert record.voter
    part.persisted(99)
    assert part.take_ready(0) == []


def test_a_decision_that_leaves_a_node_out_gives_it_no_vote() -> None:
    """A lost record is made good only by a view that admits the node."""
    part, _ = acceptor(voter=False)
    part.decide(VALUE, admitted=False)
    assert part.votes_in_ns(0) == -1


def test_the_first_lease_after_a_restart_is_without_vote() -> None:
    """The grants of the incarnation before are forgotten and must run out."""
    part, _ = acceptor(votes_from_ns=420)
    assert part.votes_in_ns(0) == 420
    assert part.votes_in_ns(419) == 1
    assert part.votes_in_ns(420) == 0


def test_a_durable_vote_makes_a_record_as_good_as_any() -> None:
    """Two of three accept the first view and crash: without their votes nobody goes on."""
    part, outputs = acceptor(voter=False)
    part.accept(1, (1, 1), VALUE, not_before_ns=0)
    assert writes(outputs)[-1][1].voter
