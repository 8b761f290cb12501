"""What is said at a meeting and kept until all have said it: passed on as one, and never lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from phalanx.barrier.testing.meetings import arrive
from phalanx.transport.config import MS
from phalanx.transport.core import choir, delivery
from phalanx.transport.core.delivery import Delivery
from phalanx.transport.core.framing import HEADER_BYTES
from phalanx.transport.core.outputs import Ordered
from phalanx.transport.drivers.in_process_datagrams import DatagramTrouble
from phalanx.transport.events import Lane
from phalanx.transport.testing.barrier_checkers import BARRIERS, Outcome
from phalanx.transport.testing.simulation import SimulatedNode

from .scenes import Talk, casting, converge, finish

NODES = 5
RELAY = 1


class Singing:
    """A cluster in which it is noted how many batches were taken in by themselves after all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, trouble: DatagramTrouble | None = None):
        self.released: list[int] = []
        self.meetings = 0
        original = choir.release

        def release(here: Delivery, now_ns: int) -> None:
            kept = len(here.ordered.choir.kept)
            if kept:
                self.released.append(kept)
            original(here, now_ns)

        monkeypatch.setattr(choir, "release", release)
        monkeypatch.setattr(delivery, "release", release)
        self.simulation = casting(NODES, trouble)

    @property
    def nodes(self) -> dict[int, SimulatedNode]:
        """By number."""
        return self.simulation.nodes

    @property
    def kept(self) -> int:
        """How many batches are kept at the relay now."""
        return len(self.nodes[RELAY].endpoint.delivery.ordered.choir.kept)

    def arrive(self, *nodes: int) -> None:
        """They arrive at a barrier of all."""
        for node in nodes:
            arrive(self.nodes[node], "x", None)

    def released_all(self, within_ns: int) -> None:
        """All that run have been released at the barrier of all once more."""
        running = self.simulation.running()
        self.meetings += 1
        self.simulation.run_until(
            lambda: all(_releases(node) >= self.meetings for node in running), within_ns
        )

    def until_kept(self, count: int) -> None:
        """So many have spoken."""
        self.simulation.run_until(lambda: self.kept == count, 8 * MS)

    def finish(self) -> None:
        """Nothing is kept, and all guarantees held."""
        finish(self.simulation, BARRIERS)
        assert not any(it.endpoint.delivery.ordered.choir.kept for it in self.simulation.running())


def _releases(node: SimulatedNode) -> int:
    released = [it for it in node.told(Outcome) if it.verdict == "released"]
    return len(released)


@pytest.fixture
def singing(monkeypatch: pytest.MonkeyPatch) -> Singing:
    """Datagrams arrive."""
    return Singing(monkeypatch)


@pytest.mark.parametrize("last", range(1, NODES + 1))
def test_all_that_is_said_alike_is_taken_at_once(singing: Singing, last: int) -> None:
    """Whoever is the last to arrive, the relay itself too."""
    for _ in range(6):
        others = [node for node in singing.nodes if node != last]
        singing.arrive(*others)
        singing.until_kept(NODES - 1 - (last != RELAY))
        singing.arrive(last)
        singing.released_all(8 * MS)
    assert singing.released == []
    singing.finish()


def _says_otherwise(singing: Singing) -> None:
    arrive(singing.nodes[3], "x", None, b"with something")


def _says_more(singing: Singing) -> None:
    Talk(singing.simulation).say(singing.nodes[4], Lane.ORDERED)
    singing.arrive(3)


def _relay_says_more(singing: Singing) -> None:
    Talk(singing.simulation).say(singing.nodes[RELAY], Lane.ORDERED)
    singing.arrive(3)


def _is_late(singing: Singing) -> None:
    singing.simulation.run_for(30 * MS)
    singing.arrive(3)


def _is_at_another(singing: Singing) -> None:
    arrive(singing.nodes[3], "y", None)
    singing.simulation.run_for(2 * MS)
    singing.arrive(3)


@pytest.mark.parametrize(
    "happens", [_says_otherwise, _says_more, _relay_says_more, _is_late, _is_at_another]
)
@pytest.mark.parametrize("relay_has_spoken", [False, True])
def test_whatever_else_happens_all_are_taken_one_by_one(
    singing: Singing, happens: Callable[[Singing], None], relay_has_spoken: bool
) -> None:
    """Somebody says something else, or nothing for too long."""
    singing.arrive(2, 4, 5)
    if relay_has_spoken:
        singing.arrive(RELAY)
    singing.until_kept(3)
    happens(singing)
    singing.arrive(RELAY)
    singing.released_all(80 * MS)
    assert singing.released != []
    singing.finish()


@pytest.mark.parametrize("dies", [3, 4, RELAY])
def test_what_is_kept_is_not_lost_by_a_view_change(singing: Singing, dies: int) -> None:
    """A party dies while the others have spoken, or the one that keeps what they said."""
    singing.arrive(2, 4, 5)
    singing.until_kept(3)
    singing.nodes[dies].kill()
    rest = [node for node in singing.nodes if node != dies]
    converge(singing.simulation, *rest)
    singing.simulation.run_for(100 * MS)
    for node in (2, 4, 5):
        if node != dies:
            assert singing.nodes[node].told(Outcome)[-1].verdict.startswith("broken")
    held = {node: len(singing.nodes[node].told(Ordered)) for node in rest}
    singing.arrive(*rest)
    singing.released_all(80 * MS)
    assert all(len(singing.nodes[node].told(Ordered)) > held[node] for node in rest)
    singing.finish()


@pytest.mark.parametrize("seed", range(4))
def test_among_lost_doubled_and_late_datagrams_it_is_as_before(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What comes twice, over the association or not at all ends in the same order at all."""
    trouble = DatagramTrouble(lost=0.1 * seed, doubled=0.3, late=0.3)
    singing = Singing(monkeypatch, trouble)
    talk = Talk(singing.simulation)
    for turn in range(15):
        singing.arrive(*singing.nodes)
        if turn % 3 == 2:
            talk.everybody(4 * MS)
        singing.released_all(600 * MS)
    singing.finish()


@pytest.mark.parametrize("kept", [0, 1])
def test_damage_in_what_is_said_raises_nothing(singing: Singing, kept: int) -> None:
    """Cut short or changed at any place, before anything is kept and while something is."""
    relay, sender = singing.nodes[RELAY].endpoint, singing.nodes[4].endpoint
    said: list[bytes] = []
    singing.simulation.network.tap = lambda _source, frame: said.append(frame)
    singing.arrive(3)
    singing.until_kept(1)
    body = next(frame for frame in said if b"!barrier" in frame)[HEADER_BYTES:]
    now_ns = singing.nodes[RELAY].clock()
    if not kept:
        choir.release(relay.delivery, now_ns)
    # As the fourth member would say it: nobody has said anything else before.
    own = body[:8] + (4).to_bytes(4, "little") + body[12:]
    spoilt = [own[:size] for size in range(len(own))]
    spoilt += [own[:at] + bytes([own[at] ^ 0xFF]) + own[at + 1 :] for at in range(len(own))]
    for each in spoilt:
        relay.receive_datagram(4, "a", sender.framer.data(each, b"", addressee=0), now_ns, 0, 0)
    assert relay.delivery.view is not None


def test_what_a_member_would_say_is_kept(singing: Singing) -> None:
    """The one before means something only if what is not damaged is kept."""
    relay, sender = singing.nodes[RELAY].endpoint, singing.nodes[4].endpoint
    said: list[bytes] = []
    singing.simulation.network.tap = lambda _source, frame: said.append(frame)
    singing.arrive(3)
    singing.until_kept(1)
    body = next(frame for frame in said if b"!barrier" in frame)[HEADER_BYTES:]
    own = sender.framer.data(body[:8] + (4).to_bytes(4, "little") + body[12:], b"", addressee=0)
    relay.receive_datagram(4, "a", own, singing.nodes[RELAY].clock(), 0, 0)
    assert singing.kept == 2
