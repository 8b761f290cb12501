"""An end of file on a lifeline proves a death; nothing else does, and nothing fakes one.

Everything runs over real loopback sockets, and deaths are deaths of real processes.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from phalanx.transport.drivers.lifelines import (
    LifelineEnded,
    LifelineFailed,
    Lifelines,
    LifelineUp,
)
from phalanx.transport.errors import UsageError

from .lifeline_bench import (
    CLUSTER,
    DEADLINE_S,
    HOST,
    Make,
    count,
    counted,
    ended,
    endpoint,
    free_port,
    join,
    port_of,
    quiet,
    run,
    up,
)

# ----------------------------------------------------------------------- how one comes and goes


def test_both_ends_learn_who_the_other_is(make: Make) -> None:
    """Who a peer is comes from what it says, never from its address."""
    low, high = make(1), make(2, incarnation=7)
    low.connect(2, "a", HOST, port_of(high))
    assert run(high, low, until=count(LifelineUp)) == [up(1)]
    assert run(low, high, until=count(LifelineUp)) == [up(2, incarnation=7)]
    assert quiet(low)
    assert quiet(high)


def test_a_lifeline_works_over_ipv6(make: Make) -> None:
    """Rails may be either."""
    low, high = make(1, a="::1"), make(2, a="::1")
    low.connect(2, "a", "::1", port_of(high))
    assert run(low, high, until=count(LifelineUp)) == [up(2)]


def test_each_rail_has_its_own_lifeline(make: Make) -> None:
    """A death is proven by an end on every rail that is up, so rails are told apart."""
    low = make(1, a="127.0.0.1", b="127.0.1.1")
    high = make(2, a="127.0.0.2", b="127.0.1.2")
    low.connect(2, "a", "127.0.0.2", port_of(high))
    low.connect(2, "b", "127.0.1.2", port_of(high))
    notices = run(high, low, until=count(LifelineUp, 2))
    assert sorted(notices, key=str) == [up(1), up(1, rail="b")]
    run(low, high, until=counted(low, "up", 2))
    low.drop(2, "b")
    assert run(high, until=count(LifelineEnded)) == [ended(1, rail="b", fin=False)]
    assert quiet(high)


def test_close_is_a_reset_and_proves_nothing(make: Make) -> None:
    """A node may close what it holds and go on acting."""
    for closing, watching, who in ((0, 1, 1), (1, 0, 2)):
        pair = make(1), make(2)
        join(*pair)
        pair[closing].close()
        assert run(pair[watching], until=count(LifelineEnded))[-1] == ended(who, fin=False)


def test_drop_is_a_reset_and_says_nothing_here(make: Make) -> None:
    """Whoever drops a lifeline knows it."""
    low, high = make(1), make(2)
    join(low, high)
    low.poll()
    high.drop(1, "a")
    high.drop(1, "a")
    high.drop(9, "none")
    assert run(low, until=count(LifelineEnded)) == [ended(2, fin=False)]
    assert quiet(high)


def test_farewell_is_an_end_of_file(make: Make) -> None:
    """A node that stepped down acts no more: its peers need not wait for its lease."""
    for leaving, watching, who in ((0, 1, 1), (1, 0, 2)):
        pair = make(1), make(2)
        join(*pair)
        pair[leaving].farewell()
        pair[leaving].close()
        assert run(pair[watching], until=count(LifelineEnded))[-1] == ended(who, fin=True)
        pair[watching].close()


def test_after_the_farewell_nothing_is_begun(make: Make) -> None:
    """A new lifeline would take the proof back."""
    low, high = make(1), make(2)
    join(low, high)
    high.farewell()
    with pytest.raises(UsageError, match="farewell"):
        high.connect(3, "a", HOST, 1)
    low.connect(2, "a", HOST, port_of(high))
    notices = run(low, until=count(LifelineFailed))
    assert notices[-1] == LifelineFailed(peer=2, rail="a")
    assert high.poll() == []


def test_nobody_there_is_a_failure(make: Make) -> None:
    """Port closed, no such rail here: each attempt has one end."""
    low = make(1)
    low.connect(2, "a", HOST, free_port())
    assert run(low, until=count(LifelineFailed)) == [LifelineFailed(peer=2, rail="a")]
    low.connect(2, "b", HOST, 1)
    assert run(low, until=count(LifelineFailed)) == [LifelineFailed(peer=2, rail="b")]


def test_an_answer_of_the_wrong_node_is_a_failure(make: Make) -> None:
    """An address may have gone over to another host."""
    low, high = make(1), make(3)
    low.connect(2, "a", HOST, port_of(high))
    assert run(low, high, until=count(LifelineFailed)) == [LifelineFailed(peer=2, rail="a")]
    assert low.stats()["wrong_peer"] == 1


def test_calls_that_can_never_work_are_refused(make: Make) -> None:
    """The caller's mistakes are raised at once."""
    two = make(2)
    for peer, address, port in ((2, HOST, 1), (1, HOST, 1), (3, "localhost", 1), (3, HOST, 0)):
        with pytest.raises(UsageError):
            two.connect(peer, "a", address, port)
    with pytest.raises(UsageError):
        two.open()
    two.close()
    two.close()
    for use in (two.fileno, two.poll, two.farewell, lambda: two.drop(3, "a")):
        with pytest.raises(UsageError):
            use()


# ------------------------------------------------------------------------------- replacement


def test_a_second_lifeline_of_the_same_start_replaces_the_older(make: Make) -> None:
    """The older one's path may be dead without either side knowing yet."""
    low, high = make(1), make(2)
    join(low, high)
    low.connect(2, "a", HOST, port_of(high))
    notices = run(high, low, until=count(LifelineUp))
    assert notices == [ended(1, fin=False), up(1)]
    notices = run(low, high, until=count(LifelineUp))
    assert notices[-1] == up(2)
    assert quiet(high)


def test_a_restarted_peer_replaces_its_former_start(make: Make) -> None:
    """A higher incarnation goes over a connection of the former one that never ended."""
    old, high, new = make(1, incarnation=4), make(2), make(1, incarnation=5)
    join(old, high)
    new.connect(2, "a", HOST, port_of(high))
    notices = run(high, new, until=count(LifelineUp))
    assert notices == [ended(1, incarnation=4, fin=False), up(1, incarnation=5)]


def test_the_end_of_a_former_start_is_not_lost_by_its_replacement(make: Make) -> None:
    """A killed process may be back before its end of file was read."""
    old, high, new = make(1, incarnation=4), make(2), make(1, incarnation=5)
    join(old, high)
    new.connect(2, "a", HOST, port_of(high))
    # The new connection has introduced itself and is accepted before the old one ends, so that
    # its bytes are handled first in the round that has both.
    run(new, until=lambda _notices: not select.select([new], [], [], 0.05)[0])
    high.poll()
    old.farewell()
    notices = run(high, new, until=count(LifelineUp))
    assert notices == [ended(1, incarnation=4, fin=True), up(1, incarnation=5)]


def test_a_former_start_does_not_replace_a_later_one(make: Make) -> None:
    """It is dead; its connection was under way."""
    old, high, new = make(1, incarnation=4), make(2), make(1, incarnation=5)
    join(new, high)
    old.connect(2, "a", HOST, port_of(high))
    assert run(old, high, until=count(LifelineFailed)) == [LifelineFailed(peer=2, rail="a")]
    assert high.stats()["stale_incarnation"] == 1
    assert quiet(high)


# ------------------------------------------------------------------------- deaths of processes

PEER = """
import asyncio, gc, ipaddress, os, select, subprocess, sys
from phalanx.transport.drivers.base import LocalEndpoint
from phalanx.transport.drivers.lifelines import Lifelines, LifelineUp

mode, node, cluster, port, peer_port = sys.argv[1], *map(int, sys.argv[2:])
local = LocalEndpoint(
    node=node, addresses={"a": "127.0.0.1"}, port=1, udp_port=port,
    networks={"a": ipaddress.ip_network("127.0.0.0/8")},
)
lifelines = Lifelines(local, cluster=cluster, incarnation=1, nonce=node * 100)
lifelines.open()
if node == 1:
    lifelines.connect(2, "a", "127.0.0.1", peer_port)
print(0, flush=True)
notices = []
while not any(isinstance(notice, LifelineUp) for notice in notices):
    select.select([lifelines], [], [], 20)
    notices += lifelines.poll()
if mode == "fork":
    child = os.fork()
    if child == 0:
        lifelines.close()
        sys.stdin.read()
        os._exit(0)
    print(child, flush=True)
elif mode == "fork-forgotten":
    del lifelines
    gc.collect()
    child = os.fork()
    if child == 0:
        sys.stdin.read()
        os._exit(0)
    print(child, flush=True)
elif mode == "exec":
    print(subprocess.Popen(["cat"], close_fds=False, stdout=subprocess.DEVNULL).pid, flush=True)
elif mode == "forget":
    del lifelines
    gc.collect()
elif mode == "loop":
    async def main():
        asyncio.get_running_loop().add_reader(lifelines.fileno(), lifelines.poll)
        await asyncio.sleep(0)
    asyncio.run(main())
elif mode == "child-dies":
    child = os.fork()
    if child == 0:
        lifelines.close()
        del lifelines
        sys.exit(0)
    os.waitpid(child, 0)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
print("ready", flush=True)
sys.stdin.read()
if mode == "exit":
    sys.exit(0)
"""


class Peer:
    """A node in a process of its own, with a lifeline to node 2: node 1 connects, 3 accepts."""

    def __init__(self, two: Lifelines, mode: str, node: int) -> None:
        port = free_port()
        arguments = [mode, str(node), str(CLUSTER), str(port), str(port_of(two))]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PEER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # else a line may wait in a buffer that select does not see
        )
        assert self._line() == b"0\n"
        if node > 2:
            two.connect(node, "a", HOST, port)
        assert run(two, until=count(LifelineUp)) == [up(node)]
        self.child = 0
        while (line := self._line()) != b"ready\n":
            self.child = int(line)

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], DEADLINE_S)[0], "the peer is stuck"
        return self.process.stdout.readline()

    def kill(self) -> float:
        """SIGKILL; returns when."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGKILL)
        return started

    def close(self) -> None:
        self.process.kill()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()  # ends a child that outlived it
        self.process.stdout.close()
        self.process.wait(DEADLINE_S)


Start = Callable[..., Peer]


@pytest.fixture
def start() -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def starter(two: Lifelines, mode: str = "plain", node: int = 1) -> Peer:
            return stack.enter_context(contextlib.closing(Peer(two, mode, node)))

        yield starter


@pytest.mark.parametrize("node", [1, 3])
def test_a_killed_process_is_proven_dead_within_100_ms(make: Make, start: Start, node: int) -> None:
    """No time-out is involved: the kernel says it."""
    two = make(2)
    peer = start(two, node=node)
    killed = peer.kill()
    assert run(two, until=count(LifelineEnded)) == [ended(node, fin=True)]
    assert time.monotonic() - killed < 0.1


def test_a_process_that_exits_is_proven_dead(make: Make, start: Start) -> None:
    """However it ends: here without a farewell or a close."""
    high = make(2)
    peer = start(high, "exit")
    assert peer.process.stdin is not None
    peer.process.stdin.close()
    assert run(high, until=count(LifelineEnded)) == [ended(1, fin=True)]


def test_a_stopped_process_is_not_dead(make: Make, start: Start) -> None:
    """It may be continued and act: only its lease says when it does not."""
    high = make(2)
    peer = start(high)
    peer.process.send_signal(signal.SIGSTOP)
    assert quiet(high, 0.3)
    peer.process.send_signal(signal.SIGCONT)
    assert quiet(high)
    peer.kill()
    assert run(high, until=count(LifelineEnded)) == [ended(1, fin=True)]


@pytest.mark.parametrize("node", [1, 3])
@pytest.mark.parametrize("mode", ["fork", "fork-forgotten", "exec"])
def test_a_child_that_outlives_the_process_does_not_delay_the_proof(
    make: Make, start: Start, mode: str, node: int
) -> None:
    """A descriptor left in a child would hold the connection open for its life."""
    two = make(2)
    peer = start(two, mode, node)
    assert quiet(two), "the child's end of the descriptors is not the parent's"
    killed = peer.kill()
    assert run(two, until=count(LifelineEnded)) == [ended(node, fin=True)]
    assert time.monotonic() - killed < 0.1
    os.kill(peer.child, 0)  # raises if the child is gone: then this test would show nothing


@pytest.mark.parametrize("mode", ["forget", "loop", "child-dies"])
def test_a_living_process_never_sends_a_fin(make: Make, start: Start, mode: str) -> None:
    """Neither a forgotten object, nor a closed event loop, nor a dying child is a death."""
    high = make(2)
    peer = start(high, mode)
    assert quiet(high, 0.3)
    peer.kill()
    assert run(high, until=count(LifelineEnded)) == [ended(1, fin=True)]


def test_a_forgotten_object_ends_nothing(make: Make) -> None:
    """The same in this process, where the peer object goes while the other side watches."""
    high = make(2)
    low = Lifelines(endpoint(1, free_port()), cluster=CLUSTER, incarnation=1, nonce=100)
    low.open()
    join(low, high)
    forgotten = weakref.ref(low)
    del low
    gc.collect()
    assert quiet(high)
    high.close()
    held = forgotten()
    assert held is not None, "a forked child has to tell it"
    held.close()
