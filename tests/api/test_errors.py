"""Errors that are kept, and raised for every later call."""

from __future__ import annotations

import asyncio
import traceback

import pytest

from phalanx.transport import errors
from phalanx.transport.errors import (
    BarrierBroken,
    BarrierTimeout,
    ClosedError,
    ConfigError,
    EventsLost,
    EvictedError,
    JoinTimeout,
    NoQuorum,
    PhalanxError,
    Undelivered,
    again,
)
from phalanx.transport.receipts import Ledger
from phalanx.transport.testing.memory import memory_cluster

GUARD_S = 20.0
SPECIAL: list[PhalanxError] = [
    ConfigError(file="f", key="k", problem="is odd", fix="mend it"),
    NoQuorum("alone", outcome="unknown"),
    Undelivered(missing={3: "left"}),
    EventsLost(lost={"Evicted": 1}),
    JoinTimeout("late"),
    BarrierBroken(name="b", reason="r", missing={2: "not arrived"}),
    BarrierTimeout(name="b", timeout_s=1.5, missing={2: "not arrived"}),
]
PLAIN = [
    kind("words")
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, PhalanxError)
    and kind.__init__ in (Exception.__init__, PhalanxError.__init__)
]


@pytest.mark.parametrize("error", [*SPECIAL, *PLAIN], ids=lambda error: type(error).__name__)
def test_a_copy_says_the_same_and_has_no_past(error: PhalanxError) -> None:
    """Whoever catches it finds the words, the attributes and the cause, and its own traceback."""
    cause = OSError(24, "Too many open files")
    try:
        raise error from cause
    except PhalanxError:
        copy = again(error)
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.args == error.args
    assert vars(copy) == vars(error)
    assert copy.__cause__ is cause
    assert copy.__suppress_context__
    assert copy is not error
    assert copy.__traceback__ is None


def test_calls_after_the_end_do_not_lengthen_one_traceback() -> None:
    """Each link of it holds the frame and the arguments of a call that is long over."""

    async def play() -> None:
        async with asyncio.timeout(GUARD_S), memory_cluster(1) as memory:
            cluster = memory.clusters[1]
            await cluster.leave()
            lengths: set[int] = set()
            for _ in range(20):
                with pytest.raises(ClosedError) as closed:
                    await cluster.multicast(b"late")
                lengths.add(len(traceback.extract_tb(closed.value.__traceback__)))
                with pytest.raises(ClosedError) as closed:
                    _ = cluster.view
                assert len(traceback.extract_tb(closed.value.__traceback__)) == 2
            assert len(lengths) == 1

    asyncio.run(play())


def test_receipts_of_a_former_incarnation_have_an_error_for_each_who_asks() -> None:
    """Those who wait and those who come later."""

    async def play() -> None:
        ledger = Ledger()
        waiting = [asyncio.ensure_future(ledger.wait(1, 5)) for _ in range(2)]
        await asyncio.sleep(0)
        ledger.fail(EvictedError("out"), final=True)
        waiting += [asyncio.ensure_future(ledger.wait(1, 5)) for _ in range(2)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [EvictedError] * 4
        assert len(set(map(id, outcomes))) == 4

    asyncio.run(play())


def test_asking_again_and_again_leaves_nothing_behind() -> None:
    """A poll with a short time-out must not fill the memory until the message is settled."""

    async def play() -> None:
        ledger = Ledger()
        steady = asyncio.ensure_future(ledger.wait(2, 60))
        for _ in range(1000):
            with pytest.raises(TimeoutError):
                await ledger.wait(1, 0)
        assert ledger.waiting <= 4
        assert ledger.settle(2, {})
        await steady
        assert ledger.waiting == 0

    asyncio.run(play())
