"""The lifelines' port: where it listens, and that whatever else arrives there is only counted."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import socket
import struct
from dataclasses import replace

import pytest

from phalanx.transport.drivers import preamble
from phalanx.transport.drivers.lifelines import (
    HALF_OPEN_MAX,
    PREAMBLE_TIMEOUT_NS,
    LifelineEnded,
    LifelineFailed,
    Lifelines,
    LifelineUp,
)
from phalanx.transport.drivers.preamble import PREAMBLE_BYTES, Preamble
from phalanx.transport.errors import AddressMissing, PortTaken

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
    run,
    up,
)

# ---------------------------------------------------------------------------------- addresses


def test_a_taken_port_is_named(make: Make) -> None:
    """Two nodes on one host with the same udp_port are a common mistake."""
    one = make(1)
    other = Lifelines(endpoint(2, port_of(one)), cluster=CLUSTER, incarnation=1, nonce=1)
    with pytest.raises(PortTaken, match=rf"{port_of(one)}.*127\.0\.0\.1"):
        other.open()


def test_a_rail_that_is_absent_is_left_out(make: Make) -> None:
    """It must not stop the others; with none at all there is nothing to do."""
    lifelines = make(1, a=HOST, b="198.51.100.1")
    assert lifelines.missing_rails == ("b",)
    absent = Lifelines(
        endpoint(1, free_port(), a="198.51.100.1"), cluster=CLUSTER, incarnation=1, nonce=1
    )
    with pytest.raises(AddressMissing, match=r"198\.51\.100\.1"):
        absent.open()


def test_the_port_is_free_again_at_once(make: Make) -> None:
    """A restarted node must not wait for its former connections to leave the kernel."""
    low, high = make(1), make(2)
    join(low, high)
    high.farewell()
    high.close()  # the port's connection is in FIN_WAIT, for its peer has read nothing yet
    join(make(1), make(2, port=port_of(high)))


def test_nothing_is_left_open(make: Make) -> None:
    """Descriptors leak one at a time until a node that ran for months stops."""
    before = len(os.listdir("/proc/self/fd"))
    low, high = make(1), make(2)
    for _ in range(10):
        join(low, high)
    low.connect(2, "a", HOST, free_port())
    low.farewell()
    low.close()
    high.close()
    assert len(os.listdir("/proc/self/fd")) == before


# ------------------------------------------------------------------------------------ garbage


def stranger(lifelines: Lifelines) -> socket.socket:
    return socket.create_connection((HOST, port_of(lifelines)), timeout=DEADLINE_S)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


GOOD = Preamble(cluster=CLUSTER, node=1, incarnation=1, nonce=100)


def test_a_preamble_is_what_it_was() -> None:
    """Pinned byte by byte: two versions of the program may meet."""
    largest = Preamble(cluster=2**64 - 1, node=2**31 - 1, incarnation=2**64 - 1, nonce=2**64 - 1)
    for said in (GOOD, largest):
        assert preamble.unpack(preamble.pack(said)) == said
    assert preamble.pack(GOOD).hex() == (
        "50484c4c" "0001" "0028" "1122334455667788" "00000001"
        "0000000000000001" "0000000000000064" "89d316b4"
    )  # fmt: skip
    assert len(preamble.pack(GOOD)) == PREAMBLE_BYTES


def test_a_damaged_preamble_is_none() -> None:
    """Any bit, any length."""
    packed = preamble.pack(GOOD)
    for length in range(len(packed)):
        assert preamble.unpack(packed[:length]) is None
    assert preamble.unpack(packed + b"\0") is None
    for bit in range(len(packed) * 8):
        damaged = bytearray(packed)
        damaged[bit // 8] ^= 1 << bit % 8
        assert preamble.unpack(bytes(damaged)) is None


REFUSED = {
    "random bytes": (random.Random(1).randbytes(PREAMBLE_BYTES), "bad_preamble"),
    "many random bytes": (random.Random(2).randbytes(100_000), "bad_preamble"),
    "text": (b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n      ", "bad_preamble"),
    "other cluster": (preamble.pack(replace(GOOD, cluster=CLUSTER + 1)), "other_cluster"),
    "nobody": (preamble.pack(replace(GOOD, node=0)), "wrong_peer"),
    "ourselves": (preamble.pack(replace(GOOD, node=2)), "wrong_peer"),
    "a higher id": (preamble.pack(replace(GOOD, node=3)), "wrong_peer"),
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_garbage_is_counted_and_reset(make: Make, kind: str) -> None:
    """What the network sends never raises, and strangers learn nothing."""
    said, counter = REFUSED[kind]
    high = make(2)
    with stranger(high) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(said)
        assert run(high, until=counted(high, counter)) == []
        with pytest.raises(ConnectionError):
            assert not sock.recv(1), "a refused connection is reset, not ended"
    join(make(1), high)


@pytest.mark.parametrize("sent", [0, 1, PREAMBLE_BYTES - 1])
def test_half_a_preamble_is_counted(make: Make, sent: int) -> None:
    """Port scanners connect and leave; an end before the preamble is nobody's death."""
    high = make(2)
    with stranger(high) as sock:
        sock.sendall(preamble.pack(GOOD)[:sent])
    assert run(high, until=counted(high, "ended_without_preamble")) == []
    sock = stranger(high)
    sock.sendall(preamble.pack(GOOD)[:sent])
    run(high, until=counted(high, "accepted", 2))
    reset(sock)
    assert run(high, until=counted(high, "reset_without_preamble")) == []


def test_a_preamble_may_come_in_pieces(make: Make) -> None:
    """TCP keeps no borders."""
    high = make(2)
    with stranger(high) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in preamble.pack(GOOD)[:-1]:
            sock.sendall(bytes([byte]))
            run(high, until=lambda _notices: not select.select([high], [], [], 0.001)[0])
        sock.sendall(preamble.pack(GOOD)[-1:])
        assert run(high, until=count(LifelineUp)) == [up(1)]
        assert preamble.unpack(sock.recv(PREAMBLE_BYTES)) == Preamble(
            cluster=CLUSTER, node=2, incarnation=1, nonce=200
        )


def test_bytes_after_the_preamble_are_no_proof(make: Make) -> None:
    """Whoever speaks here is not what this program takes it for."""
    high = make(2)
    with stranger(high) as sock:
        sock.sendall(preamble.pack(GOOD) + b"x")
    notices = run(high, until=count(LifelineEnded))
    assert notices == [up(1), ended(1, fin=False)]
    assert high.stats()["unexpected_bytes"] == 1


def test_a_preamble_followed_by_a_reset_is_no_proof(make: Make) -> None:
    """An error that one call reports turns into an end of file for the next: it is never read."""
    for _ in range(50):
        high = make(2)
        sock = stranger(high)
        sock.sendall(preamble.pack(GOOD))
        reset(sock)
        run(high, until=lambda _notices, high=high: gone(high))
        assert "ended_fin" not in high.stats()
        high.close()


def gone(lifelines: Lifelines) -> bool:
    counters = lifelines.stats()
    return "ended_other" in counters or "reset_without_preamble" in counters


def test_a_half_open_connection_is_reset_at_its_deadline(make: Make) -> None:
    """Time is given from outside; one nanosecond before the deadline nothing happens."""
    high = make(2)
    with stranger(high) as sock:
        run(high, until=counted(high, "accepted"))
        deadline = high.expire(1000)
        assert deadline == 1000 + PREAMBLE_TIMEOUT_NS
        assert high.expire(deadline - 1) == deadline
        assert high.expire(deadline) is None
        assert high.stats()["preamble_overdue"] == 1
        with pytest.raises(ConnectionError):
            sock.recv(1)


def test_an_attempt_without_an_answer_fails_at_its_deadline(make: Make) -> None:
    """A listener that accepts and says nothing must not hold a peer's lifeline back."""
    low = make(1)
    with socket.create_server((HOST, 0)) as silent:
        low.connect(2, "a", HOST, silent.getsockname()[1])
        run(low, until=lambda _notices: not select.select([low], [], [], 0.05)[0])
        deadline = low.expire(0)
        assert deadline == PREAMBLE_TIMEOUT_NS
        assert low.expire(deadline) is None
    assert run(low, until=count(LifelineFailed)) == [LifelineFailed(peer=2, rail="a")]


def test_half_open_max(make: Make) -> None:
    """A flood of connections takes a bounded number of descriptors; the oldest goes first."""
    high = make(2)
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(stranger(high)) for _ in range(HALF_OPEN_MAX)]
        run(high, until=counted(high, "accepted", HALF_OPEN_MAX))
        assert "half_open_dropped" not in high.stats()
        stack.enter_context(stranger(high))
        run(high, until=counted(high, "accepted", HALF_OPEN_MAX + 1))
        assert high.stats()["half_open_dropped"] == 1
        with pytest.raises(ConnectionError):
            strangers[0].recv(1)
        join(make(1), high)


def test_a_lack_of_descriptors_is_waited_out(make: Make) -> None:
    """The connection stays in the queue; without a pause the pump would spin on it."""
    high = make(2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with stranger(high):
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            high.poll()
            assert high.stats() == {"accept_failed": 1}
            assert not select.select([high], [], [], 0)[0]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        high.expire(0)
        run(high, until=counted(high, "accepted"))
