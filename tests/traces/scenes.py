"""The scenes, in the order in which a reader meets the protocol.

A docstring is the head of the text; what it promises is asserted, so that a text that is written
anew cannot lose its point.
"""

from __future__ import annotations

from phalanx.transport import wire
from phalanx.transport.core.outputs import Left, RecordLost, Settled
from phalanx.transport.events import (
    Member,
    PathChanged,
    PrimaryLost,
    RailState,
    ViewInstalled,
)
from phalanx.transport.testing.history import Opened

from .stage import Playbill, Stage

BILL = Playbill()


@BILL.scene("section 2 (first start)")
def first_start(stage: Stage) -> None:
    """Three nodes without a record are started, and say HELLO on each association. As all that
    are configured are there, and only then, 1 proposes the first view: nobody has anything to
    close or to hold. A view is acted in once a quorum has granted a heartbeat that was sent in
    it.
    """
    stage.begin()
    stage.start(1, 2, 3)
    stage.agree(1, 2, 3)
    assert len(stage.of(wire.Prepare)) == 2, "one attempt"
    assert not stage.of(wire.Hold)
    assert stage.views(1) == [(1, 2, 3)]


@BILL.scene("section 2 (steps 1 and 2) and section 3 (leases)")
def a_node_joins(stage: Stage) -> None:
    """Node 1 comes back to two that have gone on without it. Its HELLO has a higher incarnation,
    and INSTALL tells it the view that it has missed. L must be steady for half of the hold-down
    time, for others may be about to join too. 2 proposes: it is the lowest that continues. 1
    reports without vote, for in the first lease after its start it may have forgotten what it
    granted.
    """
    stage.started(1)
    stage.begin()
    stage.start(1)
    stage.agree(1, 2, 3)
    assert stage.of(wire.Install)[0].value.members == (Member(2, 1), Member(3, 1))
    [prepared] = stage.when("PREPARE")
    assert 50 < prepared < 60
    assert [m.vote for m in stage.of(wire.Promise, 1, 3)] == [False, True]
    assert stage.nodes[1].told(ViewInstalled)[0].joined == (1, 2, 3)
    assert stage.nodes[2].told(ViewInstalled)[-1].joined == (1,)
    assert stage.view(2).incarnations[0] == Member(1, 2)


@BILL.scene("section 4")
def a_message_is_held_by_all(stage: Stage) -> None:
    """A message goes to each member in a batch of the same number, and is delivered at once; its
    sender is given it too. At most 2 ms later everybody tells everybody what it holds: the sender
    settles the receipt, the others forget what they have kept for each other.
    """
    stage.started()
    stage.begin(wire.Ack)
    message = stage.multicast(1)
    stage.until(lambda: stage.nodes[1].told(Settled))
    stage.pass_ms(3)
    assert all(stage.delivered(node) == [message] for node in (1, 2, 3))
    assert [dict(item.missing) for item in stage.nodes[1].told(Settled)] == [{}]


@BILL.scene("section 2 (leaving)")
def an_orderly_leave(stage: Stage) -> None:
    """The proposer leaves with a message on its way. It waits until all hold that, steps down and
    says FAREWELL, which is as good as a proof of its death: the others wait for nothing, 2
    proposes, and the reason is in the view.
    """
    stage.started()
    stage.begin(wire.Ack)
    stage.multicast(1)
    stage.leave(1)
    took_ns = stage.agree(2, 3)
    assert [item.acknowledged for item in stage.nodes[1].told(Left)] == [True]
    assert stage.left(2) == {1: "left in good order"}
    assert took_ns < 10_000_000
    stage.kill(1)


@BILL.scene("section 3 (proof of death) and section 2")
def a_crash_is_proven(stage: Stage) -> None:
    """When a process dies its kernel ends its lifelines in good order. That proves the death,
    nobody has to wait for a lease: two round trips and two writes after it the others act in the
    next view. The message that the dead one has sent last reached both, so nobody lacks anything.
    """
    stage.started()
    stage.begin()
    message = stage.multicast(3)
    stage.pass_ms(0.15)
    stage.kill(3)
    took_ns = stage.agree(1, 2)
    assert took_ns < 6_000_000
    assert stage.left(1) == {3: "its process died"}
    assert stage.delivered(1) == stage.delivered(2) == [message]
    assert len(stage.of(wire.Prepare)) == 1
    assert not stage.of(wire.Hold)


@BILL.scene("section 2 (step 1) and section 3 (suspicion, leases)")
def a_host_vanishes(stage: Stage) -> None:
    """A host without power ends no lifeline: there is only its silence. The view works on, and 1
    still multicasts in it. After 250 ms of silence the rows leave 3 out and its grants are
    stopped; PREPARE waits until the last grant has run out, for 3 might act until then.
    """
    stage.started()
    stage.begin(wire.Row)
    stage.vanish(3)
    stage.pass_ms(100)
    message = stage.multicast(1)
    took_ns = stage.agree(1, 2)
    assert stage.left(1) == {3: "unreachable"}
    assert stage.delivered(2) == [message]
    assert 400_000_000 < took_ns + 100_000_000 < 700_000_000
    assert any(row.grants.get(3) for row in stage.of(wire.Row)), "grants had to run out"
    assert len(stage.of(wire.Prepare)) == 1


@BILL.scene("section 2 (steps 1 and 2)", nodes=5)
def the_proposer_dies_in_prepare(stage: Stage) -> None:
    """5 is dead, and 1 dies after its PREPARE, before the promises are durable. Whoever has it
    has closed the view, and stays so; the proof of the second death makes 2 the proposer, with a
    higher ballot and a smaller L. Nothing had been accepted, so the value is its own.
    """
    stage.started()
    stage.begin()
    stage.kill(5)
    stage.pass_ms(0.5)
    stage.kill(1)
    stage.agree(2, 3, 4)
    assert [m.ballot for m in stage.of(wire.Prepare, 1)] == [(1, 1)] * 3
    assert [m.ballot for m in stage.of(wire.Prepare, 2)] == [(2, 2)] * 2
    assert not stage.of(wire.Accept, 1)
    assert stage.left(2) == {1: "its process died", 5: "its process died"}
    assert stage.views(2)[-2:] == [(1, 2, 3, 4, 5), (2, 3, 4)]


@BILL.scene("section 2 (step 4)", nodes=5)
def the_proposer_dies_in_the_flush(stage: Stage) -> None:
    """The last message of 5 has reached only 4, and so has the proof of its death, of which the
    others hear by the row of 4. By the promises they lack the message: HOLD, FETCH, the batch,
    HELD. The proposer dies in the middle of that. 2 begins anew, and asks for whatever is lacking
    still.
    """
    stage.started()
    for other in (1, 2, 3):
        stage.simulation.cut_pair(5, other)
    stage.begin()
    message = stage.multicast(5)
    stage.pass_ms(0.15)
    stage.dies_before(1, wire.Hold, to=3)
    stage.kill(5)
    stage.agree(2, 3, 4)
    assert [m.ballot[1] for m in stage.of(wire.Hold)] == [1, 2]
    assert [m.first for m in stage.of(wire.Fetch)] == [1, 1], "one by 2 and one by 3"
    assert stage.of(wire.Fetch, 3)
    assert all(stage.delivered(node) == [message] for node in (2, 3, 4))


@BILL.scene("section 2 (steps 3 and 5)", nodes=5)
def the_proposer_dies_in_accept(stage: Stage) -> None:
    """1 dies when only 2 has its ACCEPT, which 2 has made durable: the view might have been
    decided by others as well. So 2, the next proposer, finds it in the promises (its own) and
    adopts it, with the dead 1 in it. The view after that follows at once, without 1.
    """
    stage.started()
    stage.begin()
    stage.dies_before(1, wire.Accept, to=3)
    stage.kill(5)
    stage.agree(2, 3, 4)
    assert stage.views(2)[-3:] == [(1, 2, 3, 4, 5), (1, 2, 3, 4), (2, 3, 4)]
    assert all(stage.views(node) == stage.views(2) for node in (3, 4))
    [proposed] = stage.of(wire.Accept, 1)
    adopted = stage.of(wire.Accept, 2)[:2]
    assert [m.value for m in adopted] == [proposed.value] * 2, "2 proposes what 1 has proposed"
    assert all(m.ballot > proposed.ballot for m in adopted)


@BILL.scene("sections 2 and 3 (leases, rejoining)")
def a_partition_and_its_end(stage: Stage) -> None:
    """3 is cut off. When its lease has run out it acts no more and says PrimaryLost, and only
    after that do the others act in a view without it. When the rails work again it learns that it
    was left out, and comes back as a newcomer with a new incarnation.
    """
    stage.started()
    stage.let_them_come_back()
    stage.begin()
    stage.say("3 is cut off")
    stage.simulation.isolate(3)
    stage.agree(1, 2)
    assert stage.nodes[3].told(PrimaryLost)
    assert stage.nodes[3].life.acts[-1].until_ns <= stage.nodes[1].life.acts[-1].from_ns
    stage.say("the rails work again")
    stage.simulation.heal_all()
    stage.agree(1, 2, 3)
    assert len(stage.evicted(3)) == 1
    assert stage.view(1).incarnations[2] == Member(3, 2)


@BILL.scene("section 3 (suspicion) and section 4")
def a_rail_is_cut(stage: Stage) -> None:
    """One of two rails of 3 is cut, with messages on their way. SCTP sends again over the other
    after its retransmission time-out, and the paths are first suspect, then down. No view changes
    and nothing is lost; when the rail is back it takes five clean probes to be primary again.
    """
    stage.started()
    stage.begin()
    stage.say("rail a of 3 is cut")
    stage.simulation.cut_rail(3, "a")
    sent = [stage.multicast(3), stage.multicast(1)]
    stage.pass_ms(300)
    stage.say("rail a of 3 works again")
    stage.simulation.heal_rail(3, "a")
    stage.pass_ms(400)
    assert all(sorted(stage.delivered(node)) == sorted(sent) for node in (1, 2, 3))
    assert all(stage.views(node) == [(1, 2, 3)] for node in (1, 2, 3))
    changes = [(c.rail, c.state) for c in stage.nodes[1].told(PathChanged) if c.peer == 3]
    assert changes[:3] == [
        ("b", RailState.UP),  # which is primary from now on
        ("a", RailState.SUSPECT),
        ("a", RailState.DOWN),
    ]
    assert changes[3:] == [("a", RailState.UP)] * 2, "it works, and then it is primary again"


@BILL.scene("section 2 (steps 1 and 2)")
def a_one_way_cut(stage: Stage) -> None:
    """What 3 sends to 2 is lost, on all rails; all else works. Neither gets answers of the other,
    so by the rows they do not reach each other, and one must go: L is the largest mutual clique
    with the lowest ids. 3 hears of that from 1, which it still reaches.
    """
    stage.started()
    stage.begin()
    stage.say("nothing of 3 comes to 2 any more")
    for rail in stage.network.rails:
        stage.network.cut(3, 2, rail)
    stage.agree(1, 2)
    assert stage.nodes[3].life.acts[-1].until_ns <= stage.nodes[1].life.acts[-1].from_ns
    stage.pass_ms(1)
    assert len(stage.evicted(3)) == 1
    assert stage.left(1) == {3: "unreachable"}


@BILL.scene("section 4")
def an_association_is_reset(stage: Stage) -> None:
    """An association is lost though its paths work, with one message in it, and another message
    is sent before there is a new one. After the HELLOs the first acknowledgement says where to go
    on: what is lacking is sent again, once, and no view changes.
    """
    stage.started()
    stage.begin(wire.Ack)
    first = stage.multicast(1)
    stage.pass_ms(0.05)
    stage.say("the kernel of 2 resets its association with 1")
    stage.network.reset(2, 1)
    second = stage.multicast(1)
    stage.pass_ms(10)
    assert stage.delivered(2) == [first, second]
    assert all(stage.views(node) == [(1, 2, 3)] for node in (1, 2, 3))


@BILL.scene("section 2 (steps 1 and 3)", nodes=7)
def two_join_while_one_dies(stage: Stage) -> None:
    """1 and 2 come back, one after the other, and are let in together. 5 dies when it is asked
    for its promise, so that L shrinks in the middle of the change: the attempt is given up, the
    next has a higher ballot, and one view brings all three news. Everybody has closed its view
    only once.
    """
    stage.started(1, 2)
    stage.begin()
    stage.start(2)
    stage.pass_ms(20)
    stage.start(1)
    stage.dies_before(5, wire.Promise, to=3)
    stage.agree(1, 2, 3, 4, 6, 7)
    before, after = stage.nodes[3].views()[-2:]
    assert (before.members, after.members) == ((3, 4, 5, 6, 7), (1, 2, 3, 4, 6, 7))
    assert stage.left(3) == {5: "its process died"}
    assert stage.nodes[3].told(ViewInstalled)[-1].joined == (1, 2)
    assert sorted({m.ballot for m in stage.of(wire.Prepare)}) == [(1, 3), (2, 3)]
    assert len(stage.when("closes V1.2")) == 2, "the proposer, and all others at one time"


@BILL.scene("section 5 and section 6")
def a_barrier_is_released(stage: Stage) -> None:
    """Three arrive, 1 after it has sent a message. Arrivals are entries of the agreed order. Who
    is about to arrive as well leaves the epoch open for a moment, so that all three fall into one,
    which each closes with its own; all deliver them at the same positions. The third decides.
    Nobody is released before it has the message, to which the arrival of 1 points.
    """
    stage.started()
    stage.begin()
    message = stage.multicast(1)
    for node in (1, 2, 3):
        stage.wait(node, "stage")
        stage.pass_ms(0.15)
    stage.until(lambda: all(stage.verdicts(node) for node in (1, 2, 3)))
    assert all(stage.verdicts(node) == ["released"] for node in (1, 2, 3))
    assert stage.delivered(3) == [message]


@BILL.scene("section 6")
def a_barrier_is_broken_by_a_crash(stage: Stage) -> None:
    """1 and 2 wait for 3, which dies. Its departure from the view breaks the generation: both
    hear it right after the view, with the name and the reason, long before any deadline.
    """
    stage.started()
    stage.begin()
    stage.wait(1, "stage")
    stage.wait(2, "stage")
    stage.pass_ms(1)
    stage.kill(3)
    stage.agree(1, 2)
    assert len(stage.verdicts(1)) == 1
    assert stage.verdicts(1) == stage.verdicts(2)
    assert "3: 'left the view" in stage.verdicts(1)[0]


@BILL.scene("section 6")
def a_deadline_becomes_a_withdrawal(stage: Stage) -> None:
    """2 waits for 3 ms only. Its deadline is no decision of its own: it publishes a withdrawal,
    and all who wait return what the order says. So 1, which has no deadline, hears it as well,
    and 3, which arrives a little later, is the first of the next generation.
    """
    stage.started()
    stage.begin()
    stage.wait(1, "stage")
    stage.wait(2, "stage", timeout_ms=3)
    stage.pass_ms(3.3)
    stage.wait(3, "stage")
    stage.pass_ms(5)
    assert stage.verdicts(1) == stage.verdicts(2) == ["taken back"]
    assert stage.verdicts(3) == []


@BILL.scene("section 2 (primary rule)")
def all_start_over(stage: Stage) -> None:
    """All crash at once, so that nobody carries the state of the view. Two of three would be a
    majority, and yet they must wait: only all that are configured may start over together. The
    view says that nobody continues.
    """
    stage.started()
    for node in (1, 2, 3):
        stage.nodes[node].kill()
    stage.begin()
    stage.start(2, 3)
    stage.pass_ms(1000)
    assert stage.views(2) == stage.views(3) == []
    stage.start(1)
    stage.agree(1, 2, 3)
    assert [m.members for m in stage.of(wire.Prepare, 2, 3)] == []
    assert all(stage.nodes[node].told(ViewInstalled)[-1].started_over for node in (1, 2, 3))
    assert stage.view(1).continuing == ()


@BILL.scene("section 2 (a lost record)")
def a_record_is_lost(stage: Stage) -> None:
    """Somebody deletes the record of 1, which then takes the number of its first start again. Its
    peers remember that number with another nonce: they refuse it, and their HELLO says why.
    Readmitted, it takes a higher number and has no vote until a view has let it in.
    """
    stage.started(1)
    stage.let_them_come_back()
    stage.begin()
    stage.say("the record of 1 is deleted")
    stage.nodes[1].disk.lose()
    stage.start(1)
    stage.agree(1, 2, 3)
    lives = [life for life in stage.simulation.lives if life.member.node == 1]
    assert [life.member.incarnation for life in lives] == [1, 1, 2]
    assert any(isinstance(item, RecordLost) for _, item in lives[1].history)
    assert not stage.evicted(1), "it is not for the cluster to let it in again"
    assert stage.of(wire.Refuse, 2)
    assert [m.vote for m in stage.of(wire.Promise, 1)] == [False]
    assert stage.nodes[1].endpoint.acceptor.record.voter, "the view has admitted it"


@BILL.scene("section 5")
def a_channel_is_opened_late(stage: Stage) -> None:
    """1 has an ordered channel open and has published on it. 3 opens it, too: its opening has a
    place in the order like any entry. What was published before is in the state that 1 gives it,
    as of that place; what 2 publishes meanwhile comes behind it. 2 has not opened the channel,
    reads nothing of it, and says that it can give nothing.
    """
    stage.started()
    for node in (1, 2):
        stage.channels.open(stage.nodes[node], "with state" if node == 1 else "without")
    stage.pass_ms(5)
    stage.publish(1, "with state")
    stage.pass_ms(60)
    stage.begin()
    stage.open(3, "with state")
    stage.pass_ms(0.15)
    stage.publish(2, "with state")
    stage.until(lambda: stage.has_read(3, "with state"))
    stage.pass_ms(1)
    assert stage.has_read(3, "with state") == [b"message 2"]
    assert stage.has_read(1, "with state") == [b"message 1", b"message 2"]
    assert [item.alone for item in stage.nodes[3].told(Opened)] == [False]


@BILL.scene("section 5")
def an_entry_is_safe(stage: Stage) -> None:
    """1 publishes an entry that is to be safe. It has its place in the order like any other, but
    nobody reads it yet: who has all of its epoch says so at once, in an acknowledgement, and it is
    read where all have said so. Its publisher is told the place at that time.
    """
    stage.started()
    for node in (1, 2, 3):
        stage.channels.open(stage.nodes[node], "without")
    stage.pass_ms(60)
    stage.begin(wire.Ack)
    stage.publish(1, "without", safe=True)
    stage.until(lambda: all(stage.has_read(node, "without") for node in (1, 2, 3)))
    stage.pass_ms(1)
    assert max(stage.when("delivers at position")) < min(stage.when("reads 'without' at"))
    assert stage.when("is told that") == [min(stage.when("reads 'without' at"))]


SCENES = tuple(BILL.scenes)
