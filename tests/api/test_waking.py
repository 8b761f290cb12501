"""Who waits goes on within the turn that wakes it, and otherwise as with a future."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable

import pytest

from phalanx.barrier import Barriers
from phalanx.transport.pump import Pump
from phalanx.transport.testing.memory import memory_cluster
from phalanx.transport.waking import Waiter, Waking


def turn(waking: Waking, *woken: Waiter) -> None:
    """A callback of the event loop that wakes them."""

    waking.begin()
    for waiter in woken:
        waiter.wake()
    waking.end()


async def all_wait() -> None:
    """One turn of the event loop: every task that has been made runs until it waits."""
    await asyncio.sleep(0)


async def waits(waiter: Waiter, told: Callable[[], object]) -> None:
    """A task that says so when it goes on."""
    await waiter
    told()


def test_a_turn_ends_with_the_tasks_that_it_wakes_in_their_order() -> None:
    """None of them runs within it, and none waits for the event loop."""

    async def scene() -> None:
        waking = Waking(asyncio.get_running_loop())
        said: list[str] = []
        waiters = {name: Waiter(waking) for name in "abc"}
        tasks = [
            asyncio.create_task(waits(waiter, lambda name=name: said.append(name)))
            for name, waiter in waiters.items()
        ]
        await all_wait()

        def callback() -> None:
            waking.begin()
            waiters["b"].wake()
            waiters["a"].wake()
            said.append("turn")
            waking.end()
            said.append("callback")

        asyncio.get_running_loop().call_soon(callback)
        await all_wait()
        assert said == ["turn", "b", "a", "callback"]
        waiters["c"].wake()
        assert len(said) == 4, "a task that wakes another one runs on"
        await asyncio.gather(*tasks)
        assert said[4:] == ["c"]

    asyncio.run(scene())


def test_who_is_woken_before_it_waits_does_not_wait() -> None:
    """And waking twice is waking once."""

    async def scene() -> None:
        waiter = Waiter(Waking(asyncio.get_running_loop()))
        assert not waiter.done()
        waiter.wake()
        waiter.wake()
        assert waiter.done()
        async with asyncio.timeout(5):
            await waiter
        assert not waiter.cancelled()

    asyncio.run(scene())


def test_cancelling_the_task_ends_the_wait_with_its_message() -> None:
    """Also while it is about to go on: whoever cancels is obeyed."""

    async def scene() -> None:
        waking = Waking(asyncio.get_running_loop())
        waiter = Waiter(waking)
        task = asyncio.create_task(waits(waiter, lambda: None))
        await all_wait()
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert waiter.cancelled()
        turn(waking, waiter)  # too late
        with pytest.raises(asyncio.CancelledError):
            waiter.result()

        late = Waiter(waking)
        said: list[str] = []
        task = asyncio.create_task(waits(late, lambda: said.append("on")))
        await all_wait()
        late.wake()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert said == []

    asyncio.run(scene())


def test_a_deadline_of_asyncio_ends_the_wait() -> None:
    """As callers use it."""

    async def scene() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Waiter(Waking(asyncio.get_running_loop()))

    asyncio.run(scene())


def test_a_task_goes_on_in_its_own_context() -> None:
    """Not in that of the callback that wakes it."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")

    async def scene() -> None:
        waking = Waking(asyncio.get_running_loop())
        waiter, seen = Waiter(waking), list[str]()

        async def task() -> None:
            variable.set("the task's")
            await waits(waiter, lambda: seen.append(variable.get()))

        running = asyncio.create_task(task())
        await all_wait()
        asyncio.get_running_loop().call_soon(turn, waking, waiter)
        await running
        assert seen == ["the task's"]

    asyncio.run(scene())


def test_a_task_that_ends_the_program_leaves_the_others_a_turn() -> None:
    """`SystemExit` goes through the callback to the event loop; who was woken as well goes on."""
    said: list[str] = []

    def stop() -> None:
        raise SystemExit(3)

    async def scene(tasks: list[asyncio.Task[None]]) -> None:
        waking = Waking(asyncio.get_running_loop())
        first, second = Waiter(waking), Waiter(waking)
        tasks.append(asyncio.create_task(waits(first, stop)))
        tasks.append(asyncio.create_task(waits(second, lambda: said.append("heard"))))
        await all_wait()
        asyncio.get_running_loop().call_soon(turn, waking, first, second)
        await all_wait()

    with asyncio.Runner() as runner:
        tasks: list[asyncio.Task[None]] = []
        with pytest.raises(SystemExit):
            runner.run(scene(tasks))
        runner.get_loop().run_until_complete(tasks[1])
        assert said == ["heard"]
        assert isinstance(tasks[0].exception(), SystemExit)


def test_a_callback_can_be_taken_back() -> None:
    """As with any future."""

    async def scene() -> None:
        waking = Waking(asyncio.get_running_loop())
        waiter, called = Waiter(waking), list[Waiter]()
        waiter.add_done_callback(called.append)
        waiter.add_done_callback(called.append)
        assert waiter.remove_done_callback(called.append) == 2
        waiter.add_done_callback(called.append)
        assert waiter.get_loop() is asyncio.get_running_loop()
        turn(waking, waiter)
        assert called == [waiter]
        waiter.add_done_callback(called.append)
        await all_wait()
        assert called == [waiter, waiter]

    asyncio.run(scene())


def test_a_wait_within_a_deadline_ends_with_the_first_of_both() -> None:
    """Whichever that is."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        waking = Waking(loop)
        late, woken = Waiter(waking), Waiter(waking)
        with pytest.raises(TimeoutError):
            await late.within(loop.time())
        assert late.done()
        assert not late.cancelled()
        loop.call_soon(woken.wake)
        await woken.within(loop.time() + 3600)

    asyncio.run(scene())


def test_what_a_woken_task_asks_for_goes_out_in_the_turn_that_woke_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two that meet back to back the one that came first is woken by what it hears."""
    halves: list[bool] = []
    original = Pump.put_out

    def put_out(self: Pump, *, more: bool = False) -> int | None:
        halves.append(more)
        return original(self, more=more)

    async def scene() -> None:
        async with asyncio.timeout(30), memory_cluster(2) as memory:
            monkeypatch.setattr(Pump, "put_out", put_out)
            services = [Barriers(cluster) for cluster in memory.clusters.values()]
            await asyncio.gather(*(loops(service) for service in services))
            monkeypatch.undo()

    async def loops(service: Barriers) -> None:
        for _ in range(100):
            await service.wait("x", timeout=10)

    asyncio.run(scene())
    assert halves.count(True) >= 90


def test_deadlines_are_kept_in_whatever_order_they_are_asked_for() -> None:
    """All share one timer, and who is woken in time is none of its business."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        waking, begun = Waking(loop), loop.time()
        over: list[str] = []

        async def wait(name: str, waiter: Waiter, after_s: float) -> None:
            with pytest.raises(TimeoutError):
                await waiter.within(begun + after_s)
            assert loop.time() >= begun + after_s - 0.001
            over.append(name)

        woken = Waiter(waking)
        goes_on = asyncio.create_task(woken.within(begun + 0.01))
        tasks = [
            asyncio.create_task(wait(name, Waiter(waking), after_s))
            for name, after_s in (("last", 0.09), ("first", 0.03), ("second", 0.06))
        ]
        await all_wait()
        woken.wake()
        await goes_on
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert over == ["first", "second", "last"]

    asyncio.run(scene())
