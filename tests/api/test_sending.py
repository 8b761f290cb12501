"""Accepting messages: for whom, in which order, and what callers who wait are told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from phalanx.transport import (
    EvictedError,
    Lane,
    Member,
    NoQuorum,
    Overloaded,
    Receipt,
    Undelivered,
    UsageError,
    View,
    ViewId,
)
from phalanx.transport.calls import Home
from phalanx.transport.runtime import Runtime
from phalanx.transport.sending import Sending
from phalanx.transport.testing.memory import MemoryCluster, memory_cluster, memory_config
from phalanx.transport.waiting_line import AT_ONCE

GUARD_S = 20.0
ALL = 0


def view(k: int, *members: tuple[int, int]) -> View:
    """View number k of these (node, incarnation)."""
    return View(id=ViewId(1, k), incarnations=tuple(Member(*member) for member in members))


class Core:
    """What `Sending` asks of a runtime and its endpoint: here `room` messages are accepted."""

    def __init__(self) -> None:
        self.view = view(1, (1, 1), (2, 1), (3, 1))
        self.room = 0
        self.attempts = 0
        self.accepted: list[tuple[int, bytes]] = []
        self.home = Home()
        self.trouble: Exception | None = None
        runtime = cast(Runtime, self)
        self.sending = Sending(memory_config(), runtime, self.home, self._check_state)

    @property
    def endpoint(self) -> Core:
        return self

    def kick(self) -> None:
        """Nothing waits for a turn of the pump here."""

    def _check_state(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def submit(
        self, addressee: int, lane: Lane, channel: bytes, payload: bytes, *, safe: bool = False
    ) -> int:
        del lane, channel, safe
        self.attempts += 1
        if not self.room:
            return 0
        self.room -= 1
        self.accepted.append((addressee, payload))
        return len(self.accepted)

    def give_room(self, messages: int, addressee: int = ALL) -> None:
        """The core says that there is room again."""
        self.room = messages
        self.sending.room(addressee, Lane.FIFO)

    def sends(
        self, *payloads: bytes, to: int = ALL, wait: bool = True, timeout: float = 10
    ) -> asyncio.Task[Receipt]:
        """A task that sends these in one call."""
        call = self.sending.send(to, list(payloads), "", "fifo", wait=wait, timeout=timeout)
        return asyncio.ensure_future(call)

    @property
    def payloads(self) -> list[bytes]:
        """What was accepted, in order."""
        return [payload for _, payload in self.accepted]


def scene(body: Callable[[Core], Coroutine[Any, Any, None]]) -> None:
    """Run a scene over a core that accepts as much as it says."""

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await body(Core())

    asyncio.run(guarded())


async def turns(count: int = 5) -> None:
    """Let every task run until it waits."""
    for _ in range(count):
        await asyncio.sleep(0)


async def failed(task: asyncio.Task[Receipt]) -> str:
    """How a call ended that must not succeed."""
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(outcome, Exception)
    return f"{type(outcome).__name__}: {outcome}"


# -------------------------------------------------------------------------------- for whom


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (((1, 1), (2, 1)), "node 3 is not a member of view 1.2"),
        (((1, 1), (2, 1), (3, 2)), "node 3 left the view before there was room"),
    ],
)
def test_a_send_that_waited_is_accepted_for_the_member_it_meant_or_not_at_all(
    members: tuple[tuple[int, int], ...], words: str
) -> None:
    """Nothing would ever settle what is accepted for nobody, and a newcomer is another node."""

    async def body(core: Core) -> None:
        waiting = [core.sends(b"x", to=3), core.sends(b"y", to=3)]
        to_all = core.sends(b"z")
        await turns()
        core.view = view(2, *members)
        core.room = 10
        core.sending.view_installed()
        for task in waiting:
            assert words in await failed(task)
        await to_all
        assert core.accepted == [(ALL, b"z")]

    scene(body)


def test_sends_to_a_member_that_vanishes_are_settled_or_refused() -> None:
    """Over a whole cluster: each call has an outcome, and none of them is for a ghost."""

    async def body(memory: MemoryCluster) -> None:
        one = memory.clusters[1]
        for rail in "ab":
            memory.network.cut(3, rail)
        calls = (one.send(3, bytes(100_000), timeout=6) for _ in range(40))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        receipts = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
        refused = [outcome for outcome in outcomes if isinstance(outcome, UsageError)]
        assert len(receipts) + len(refused) == 40
        assert {str(error) for error in refused} == {
            f"node 3 is not a member of view {one.view.id}"
        }
        for receipt in receipts:
            with pytest.raises(Undelivered) as lost:
                await receipt.held(timeout=5)
            assert lost.value.missing == {3: "unreachable"}

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S), memory_cluster(3) as memory:
            await body(memory)

    asyncio.run(guarded())


def test_a_receipt_belongs_to_the_incarnation_that_accepted_its_message() -> None:
    """The next one counts from 1 again: its news would settle what it never had."""

    async def body(core: Core) -> None:
        waiting = core.sends(b"x")
        await turns()
        core.give_room(1)
        while not core.accepted:
            await asyncio.sleep(0)
            if core.accepted:  # in the same turn of the loop, before the caller runs
                core.sending.begin_anew(EvictedError("out"))
        receipt = await waiting
        with pytest.raises(EvictedError):
            await receipt.held(timeout=1)

    scene(body)


# --------------------------------------------------------------------------------- the order


def test_those_who_wait_for_room_are_served_in_the_order_they_came() -> None:
    """FIFO per sender: whoever called first is first, however the calls were woken."""

    async def body(core: Core) -> None:
        waiting = [core.sends(b"%d" % number) for number in range(7)]
        await turns()
        core.give_room(2)
        await turns()
        assert [task.done() for task in waiting] == [True] * 2 + [False] * 5
        core.give_room(3)
        late = core.sends(b"7")
        await turns()
        core.give_room(9)
        await asyncio.gather(*waiting, late)
        assert core.payloads == [b"%d" % number for number in range(8)]

    scene(body)


def test_nobody_overtakes_those_who_wait() -> None:
    """A call that does not wait is refused, and one that does goes to the end of the line."""

    async def body(core: Core) -> None:
        first = core.sends(b"first")
        await turns()
        core.room = 1  # and the core has not said so yet
        assert "others wait for room" in await failed(core.sends(b"hasty", wait=False))
        second = core.sends(b"second")
        await turns()
        assert core.payloads == []
        core.give_room(2)
        await asyncio.gather(first, second)
        assert core.payloads == [b"first", b"second"]
        core.room = 1
        await core.sends(b"hasty", wait=False)

    scene(body)


def test_the_messages_of_one_call_stay_together() -> None:
    """A call that has begun is the first of the line until its last message is accepted."""

    async def body(core: Core) -> None:
        core.room = 1
        many = core.sends(b"a", b"b", b"c")
        one = core.sends(b"d")
        await turns()
        core.give_room(1)
        await turns()
        core.give_room(5)
        await asyncio.gather(many, one)
        assert core.payloads == [b"a", b"b", b"c", b"d"]

    scene(body)


def test_a_herd_costs_one_attempt_each_and_one_for_each_time_there_is_no_room() -> None:
    """If room woke everybody, the loop would stand still long enough for an eviction."""

    async def body(core: Core) -> None:
        herd, at_a_time = 1000, 25
        waiting = [core.sends(b"x") for _ in range(herd)]
        await turns()
        while not all(task.done() for task in waiting):
            core.give_room(at_a_time)
            await turns()
        assert len(core.accepted) == herd
        assert core.attempts <= herd + herd // at_a_time + 1

    scene(body)


@pytest.mark.parametrize("which", [0, 1])
def test_whoever_is_cancelled_leaves_the_line_to_the_others(which: int) -> None:
    """Neither the first nor another one may take the room, or the news of it, along."""

    async def body(core: Core) -> None:
        waiting = [core.sends(b"%d" % number) for number in range(3)]
        await turns()
        waiting[which].cancel()
        core.give_room(9)
        await asyncio.gather(*waiting, return_exceptions=True)
        assert core.payloads == [b"%d" % number for number in range(3) if number != which]

    scene(body)


def test_a_caller_that_failed_does_not_stop_those_behind_it() -> None:
    """The first may send to a former member; those behind it to a member."""

    async def body(core: Core) -> None:
        waiting = [core.sends(b"0", timeout=0), core.sends(b"1")]
        assert "no room before the deadline" in await failed(waiting[0])
        core.give_room(9)
        await waiting[1]
        assert core.payloads == [b"1"]

    scene(body)


# ---------------------------------------------------------------------------- what they are told


def test_a_herd_whose_time_is_over_is_told_in_pieces() -> None:
    """Ten thousand callers with one deadline must not keep the loop from its heartbeats."""

    async def body(core: Core) -> None:
        waiting = [core.sends(b"x", timeout=0) for _ in range(10 * AT_ONCE)]
        done_by_turn: list[int] = []
        while not all(task.done() for task in waiting):
            await asyncio.sleep(0)
            done_by_turn.append(sum(task.done() for task in waiting))
        steps = [after - before for before, after in itertools.pairwise(done_by_turn)]
        assert max(steps) <= AT_ONCE
        for task in waiting:
            assert "Overloaded" in await failed(task)

    scene(body)


def test_an_overloaded_call_says_how_far_it_got() -> None:
    """Of many messages some may be accepted: the caller knows which to send again."""

    async def body(core: Core) -> None:
        core.room = 2
        assert "for message 3 of 4" in await failed(core.sends(*[b"x"] * 4, wait=False))
        core.room = 1
        assert "for message 2 of 4" in await failed(core.sends(*[b"x"] * 4, timeout=0))

    scene(body)


def test_each_of_those_who_wait_gets_an_error_of_its_own() -> None:
    """One object raised in many tasks has a traceback of all of them."""

    async def body(core: Core) -> None:
        waiting = [core.sends(b"x") for _ in range(3)]
        await turns()
        core.sending.lose_primary("alone")
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [NoQuorum] * 3
        assert len(set(map(id, outcomes))) == 3
        core.room = 1
        await core.sends(b"y")

    scene(body)


def test_who_waits_is_told_when_this_node_may_not_send_any_more() -> None:
    """What is true on entry need not be true when there is room."""

    async def body(core: Core) -> None:
        waiting = core.sends(b"x")
        await turns()
        core.trouble = NoQuorum("alone")
        core.give_room(1)
        assert await failed(waiting) == "NoQuorum: alone"
        assert core.payloads == []

    scene(body)


@pytest.mark.parametrize(
    ("channel", "lane", "timeout", "words"),
    [
        ("\ud800", "fifo", 1, "UTF-8"),
        (b"abc", "fifo", 1, "a channel is a str, not bytes"),
        (None, "fifo", 1, "a channel is a str, not NoneType"),
        ("", ["fifo"], 1, "lane"),
        ("", None, 1, "lane"),
        ("", "fifo", "1", "a timeout is 0 or more seconds"),
        ("", "fifo", float("nan"), "a timeout is 0 or more seconds"),
    ],
)
def test_arguments_of_the_wrong_kind_are_the_callers_mistake(
    channel: Any, lane: Any, timeout: Any, words: str
) -> None:
    """Whoever catches the errors of this library catches all of them."""

    async def body(core: Core) -> None:
        with pytest.raises(UsageError, match=words):
            await core.sending.send(ALL, [b"x"], channel, lane, wait=True, timeout=timeout)

    scene(body)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), 10**400])
def test_any_number_is_a_time_out(timeout: float) -> None:
    """What is left of a deadline may be negative, and an infinite time is a long one."""

    async def body(core: Core) -> None:
        core.room = 1
        await core.sends(b"x", timeout=timeout)

    scene(body)


def test_overloaded_is_what_a_time_out_of_zero_gives() -> None:
    """The other side of the rule above."""

    async def body(core: Core) -> None:
        with pytest.raises(Overloaded):
            await core.sends(b"x", timeout=-1)

    scene(body)
