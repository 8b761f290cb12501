"""What a worker does at barriers: arriving at a time, at many at once, and asking who is there."""

from __future__ import annotations

import asyncio
import time

from phalanx.barrier import Release
from phalanx.barrier.cman import CmanBarriers
from phalanx.barrier.testing.recorder import RecordedBarriers
from phalanx.transport.errors import BarrierBroken, BarrierError, NoQuorum, PhalanxError
from phalanx.transport.events import Position

from .reports import Answer, Arrived, Cman, Meet, MeetAtAll

LOOK_AGAIN_S = 0.002
"""An arrival of somebody else is no event for an application: it can only be looked for."""


async def attend(barriers: RecordedBarriers, order: Meet, answer: Answer) -> Release:
    """Arrive when it is time to, wait, and take it back when it is time for that."""
    if order.at_ns:
        await asyncio.sleep(max(0.0, (order.at_ns - time.monotonic_ns()) / 1e9))
    answer.due_ns = time.monotonic_ns() + int(order.timeout_s * 1e9)
    arrival = await barriers.arrive(
        order.name,
        parties=order.nodes or order.parties,
        timeout=order.timeout_s,
        strength=order.strength,
        policy=order.policy,
        payload=order.payload.encode(),
    )
    later = (order.take_back_after_s, arrival.take_back), (order.cancel_after_s, arrival.cancel)
    loop = asyncio.get_running_loop()
    timers = [loop.call_later(after_s, call) for after_s, call in later if after_s]
    try:
        return await arrival.wait()
    finally:
        for timer in timers:
            timer.cancel()


async def attend_all(barriers: RecordedBarriers, order: MeetAtAll, answer: Answer) -> None:
    """Wait at many barriers at once."""
    answer.due_ns = time.monotonic_ns() + int(order.timeout_s * 1e9)
    names = [f"{order.name}-{number}" for number in range(order.count)]
    if order.backwards:
        names.reverse()
    waits = (barriers.wait(name, timeout=order.timeout_s) for name in names)
    results = await asyncio.gather(*waits, return_exceptions=True)
    answer.outcomes = {name: _in_words(result) for name, result in zip(names, results, strict=True)}


def _in_words(result: Release | BaseException) -> str:
    """What became of it, in words that are the same at every party."""
    match result:
        case Release():
            return f"released {result.generation} {result.position} {result.parties}"
        case BarrierBroken():
            return f"broken {result.generation}: {result.reason}; {result.missing}"
        case PhalanxError():
            return f"{type(result).__name__}: {result}"
        case _:
            raise result


async def arrived(barriers: RecordedBarriers, order: Arrived) -> None:
    """Return when all of them are there."""
    wanted = {name: set(order.nodes) for name in order.names}
    while wanted:
        for status in barriers.barriers.open():
            lacking = wanted.get(status.name)
            if lacking is not None:
                lacking.difference_update(member.node for member in status.arrived)
                if not lacking:
                    del wanted[status.name]
        if wanted:
            await asyncio.sleep(LOOK_AGAIN_S)


async def call_cman(cman: CmanBarriers, order: Cman) -> list[int]:
    """What each of the calls returned."""
    codes: list[int] = []
    for method, arguments in order.calls:
        codes.append(await getattr(cman, method)(*arguments))
    return codes


def note_release(answer: Answer, release: Release) -> None:
    """What a release says."""
    answer.parties = [member.node for member in release.parties]
    answer.incarnations = [member.incarnation for member in release.parties]
    answer.payloads = {node: brought.decode() for node, brought in release.payloads.items()}
    answer.generation = _triple(release.generation)
    answer.position = _triple(release.position)


def note_error(answer: Answer, error: Exception) -> None:
    """What an order has raised."""
    answer.error, answer.text = type(error).__name__, str(error)
    if isinstance(error, BarrierError):
        answer.missing = error.missing
        if error.generation is not None:
            answer.generation = _triple(error.generation)
    if isinstance(error, BarrierBroken):
        answer.reason = error.reason
    if isinstance(error, NoQuorum):
        answer.outcome = error.outcome


def _triple(at: Position) -> tuple[int, int, int]:
    return at.era, at.k, at.index
