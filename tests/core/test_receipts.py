"""Receipts say what became of a message: once, and truly."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from phalanx.transport.errors import NoQuorum, Undelivered
from phalanx.transport.receipts import LOSSES_KEPT, Ledger, Receipt


def run(work: Coroutine[None, None, None]) -> None:
    """In a loop of its own, and never for ever."""

    async def bounded() -> None:
        async with asyncio.timeout(5):
            await work

    asyncio.run(bounded())


def test_a_receipt_waits_for_its_last_message() -> None:
    """One receipt may stand for many messages."""

    async def work() -> None:
        ledger = Ledger()
        receipt = Receipt(ledger, 3, 5, 5.0)
        waiting = asyncio.create_task(receipt.held())
        await asyncio.sleep(0)
        assert not ledger.settle(4, {})
        assert not receipt.settled
        assert ledger.settle(5, {})
        await waiting
        assert receipt.settled
        await receipt.held()

    run(work())


def test_only_losses_inside_of_a_receipt_are_its_own() -> None:
    """The message before and the one after have fates of their own."""

    async def work() -> None:
        ledger = Ledger()
        ledger.settle(3, {})
        ledger.settle(5, {7: "left the view"})
        ledger.settle(9, {})
        for first, last in ((1, 3), (6, 9)):
            await Receipt(ledger, first, last, 1.0).held()
        for first, last in ((4, 4), (5, 5), (3, 4), (5, 6), (1, 9)):
            with pytest.raises(Undelivered) as caught:
                await Receipt(ledger, first, last, 1.0).held()
            assert caught.value.missing == {7: "left the view"}

    run(work())


def test_waiters_are_woken_in_the_order_of_tokens() -> None:
    """Whoever waits for less must not wait longer."""

    async def work() -> None:
        ledger = Ledger()
        order: list[int] = []

        async def wait(token: int) -> None:
            await ledger.wait(token, 5.0)
            order.append(token)

        async with asyncio.TaskGroup() as group:
            for token in (3, 1, 2):
                group.create_task(wait(token))
            await asyncio.sleep(0)
            for token in (1, 2, 3):
                ledger.settle(token, {})
                await asyncio.sleep(0)
        assert order == [1, 2, 3]

    run(work())


@pytest.mark.parametrize("final", [True, False])
def test_a_failure_reaches_everybody_who_waits(final: bool) -> None:
    """No hang: the lease is gone; what was settled before stays settled.

    After a final failure nobody can wait any more; after a lost lease there may be a new one.
    """

    async def work() -> None:
        ledger = Ledger()
        ledger.settle(1, {})
        waiting = [asyncio.create_task(ledger.wait(token, 5.0)) for token in (2, 3)]
        await asyncio.sleep(0)
        ledger.fail(NoQuorum("gone"), final=final)
        for task in waiting:
            with pytest.raises(NoQuorum):
                await task
        await ledger.wait(1, 5.0)
        with pytest.raises(NoQuorum if final else TimeoutError):
            await ledger.wait(4, 0.0)

    run(work())


def test_a_wait_has_a_deadline_and_a_cancelled_one_leaves_nothing_behind() -> None:
    """Every await has a deadline; what nobody waits for any more must not be woken."""

    async def work() -> None:
        ledger = Ledger()
        with pytest.raises(TimeoutError):
            await ledger.wait(1, 0.0)
        assert not ledger.settle(1, {})

    run(work())


def test_losses_are_remembered_up_to_a_limit() -> None:
    """Late questions are answered, but memory is bounded."""
    ledger = Ledger()
    for token in range(1, LOSSES_KEPT + 2):
        ledger.settle(token, {token: "gone"})
    assert ledger.missing(1, 1) == {}
    assert ledger.missing(2, 2) == {2: "gone"}
    assert ledger.missing(LOSSES_KEPT + 1, LOSSES_KEPT + 1) == {LOSSES_KEPT + 1: "gone"}
