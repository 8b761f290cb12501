"""One member of `bench/spread.py`: barriers one after the other over a bare UDP socket.

The task comes as a line of JSON on standard input; the member says `ready` once its socket is
there, begins when it reads another line, says its times, and answers until its input ends.
"""

from __future__ import annotations

import select
import socket
import sys
import time

import msgspec

from phalanx.barrier.testing.large import decode, encode
from phalanx.transport.core.ranks import RankSet
from phalanx.transport.core.spread import Forward, Kind, Spread, make

GIVE_UP_S = 0.05
"""A datagram was lost, or a process has not been let on the processor for long."""
TRIES_MAX = 200
"""After so many give-ups, ten seconds, of one barrier somebody is no longer there."""
DATAGRAM_BYTES_MAX = 2048


class Task(msgspec.Struct, frozen=True):
    """What a member has to do."""

    rank: int
    addresses: list[str]
    """By rank."""
    port: int
    blocks: list[tuple[Kind, int]]
    """Schedules in turn, with how many barriers."""


class Times(msgspec.Struct, frozen=True):
    """What it measured: from its arrival to its release, in nanoseconds."""

    blocks: list[list[int]]
    gave_up: int


class Member:
    """A rank with its socket."""

    def __init__(self, task: Task) -> None:
        self._n = len(task.addresses)
        self._rank = task.rank
        self._peers = [(address, task.port) for address in task.addresses]
        self._rank_of = {address: rank for rank, address in enumerate(task.addresses)}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(self._peers[task.rank])
        self._socket.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(self._socket, select.EPOLLIN)
        self._generation = 0
        self._spread: Spread | None = None
        self._previous: Spread | None = None
        self._early: list[tuple[int, bytes]] = []
        self.gave_up = 0

    def meet(self, kind: Kind) -> int:
        """One barrier; returns how long it took."""
        self._generation += 1
        self._previous = self._spread
        spread = self._spread = make(kind, n=self._n, rank=self._rank, wanted=self._n)
        early, self._early = self._early, []
        begun_ns = time.perf_counter_ns()
        last_try = self.gave_up + TRIES_MAX
        self._send(spread.held(RankSet.one(self._rank)), self._generation)
        for source, payload in early:
            self._take(source, payload)
        while not spread.complete:
            if self._epoll.poll(GIVE_UP_S):
                self._receive()
            elif self.gave_up == last_try:
                raise SystemExit(f"rank {self._rank}: {spread.missing()} are missing")
            else:
                self.gave_up += 1
                self._send(spread.give_up(), self._generation)
        return time.perf_counter_ns() - begun_ns

    def answer_until(self, descriptor: int) -> None:
        """Tell who lost something of the last barrier, until there is no more input."""
        self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLHUP)
        while all(ready != descriptor for ready, _ in self._epoll.poll()):
            self._receive()

    def _receive(self) -> None:
        while True:
            try:
                payload, (address, _) = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                return
            self._take(self._rank_of[address], payload)

    def _take(self, source: int, payload: bytes) -> None:
        message = decode(payload, self._n)
        assert message is not None, "nobody else sends to this port"
        told, ranks = message
        if told.generation > self._generation:
            # Who was released sooner has arrived at the next barrier.
            self._early.append((source, payload))
            return
        spread = self._spread if told.generation == self._generation else self._previous
        if spread is None or told.generation < self._generation - 1:
            return
        self._send(spread.held(ranks), told.generation)
        if told.asks:
            self._send(spread.asked(source, ranks), told.generation)

    def _send(self, forwards: list[Forward], generation: int) -> None:
        for forward in forwards:
            payload = encode(forward.what, self._n, asks=forward.asks, generation=generation)
            for target in forward.to:
                self._socket.sendto(payload, self._peers[target])


def main() -> None:
    """Do what standard input says."""
    task = msgspec.json.decode(sys.stdin.readline(), type=Task)
    member = Member(task)
    print("ready", flush=True)
    sys.stdin.readline()
    blocks = [[member.meet(kind) for _ in range(count)] for kind, count in task.blocks]
    print(msgspec.json.encode(Times(blocks, member.gave_up)).decode(), flush=True)
    member.answer_until(sys.stdin.fileno())


if __name__ == "__main__":
    main()
