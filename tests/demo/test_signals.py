"""How programs that build hosts and rails are ended by signals."""

from __future__ import annotations

import signal

import pytest

from phalanx.barrier.demo_signals import Interrupted, finished, ignore_signals, stoppable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_and_the_next_ones_do_not(number: signal.Signals) -> None:
    """What is being removed after the first is removed to the end."""
    before = signal.getsignal(number)
    with stoppable():
        with pytest.raises(Interrupted):
            signal.raise_signal(number)
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(number) is before


def test_what_was_begun_is_finished_first() -> None:
    """A process that nobody has written down would outlive everything."""
    done: list[str] = []

    def start() -> None:
        with finished():
            signal.raise_signal(signal.SIGINT)
            done.append("written down")
        done.append("not reached")

    with stoppable():
        with pytest.raises(Interrupted):
            start()
        # Nothing is left of it: the next one is finished undisturbed.
        with finished():
            done.append("the next")
    assert done == ["written down", "the next"]


def test_a_failure_within_is_the_failure() -> None:
    """Being asked to stop as well does not hide what went wrong."""

    def start() -> None:
        with finished():
            signal.raise_signal(signal.SIGINT)
            raise FileNotFoundError("no such command")

    with stoppable(), pytest.raises(FileNotFoundError):
        start()
    with stoppable(), finished():
        ignore_signals()
        signal.raise_signal(signal.SIGINT)
