"""The thread of the durable record."""

from __future__ import annotations

import threading

import pytest

from phalanx.transport.writer import Writer


def test_calls_are_made_in_order_and_their_results_come_back() -> None:
    """A record must never be overwritten by the one before it."""
    writer = Writer("writer")
    made: list[int] = []
    futures = [writer.submit(made.append, number) for number in range(100)]
    writer.submit(int, "x", base=36).result(5)
    assert made == list(range(100))
    assert all(future.done() for future in futures)
    failing = writer.submit(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        failing.result(5)
    writer.shutdown()
    assert "writer" not in [thread.name for thread in threading.enumerate()]


def test_what_was_handed_over_is_done_before_the_end() -> None:
    """And one that had nothing to do ends as well, without a thread."""
    begun, go_on = threading.Event(), threading.Event()
    writer = Writer("writer")

    def block() -> None:
        begun.set()
        go_on.wait(5)

    writer.submit(block)
    assert begun.wait(5)
    dropped, last = writer.submit(int), writer.submit(int, 7)
    assert dropped.cancel()
    writer.shutdown(wait=False)
    go_on.set()
    assert last.result(5) == 7
    Writer("idle").shutdown()
