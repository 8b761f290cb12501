"""One end of a ZeroMQ connection (PUSH to PULL over TCP): the first member sends to the other one.

`python -m peers.zmq_member ADDRESS PORT NODE TASK` is started by `zeromq.py`. It does not use
asyncio, which would cost what ZeroMQ's own threads save.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from typing import Any, Protocol

import msgspec

from .flood import CALL_MESSAGES, Tally, make_messages, step_of
from .lines import DRAIN_S, Delivered, Ready, Sent, Task, hear, say, until_ns
from .pair import SENDER

COPY_BELOW_BYTES = 1 << 14
"""Below it a copy costs less than telling that the original is free again."""
CONNECT_S = 20.0
_LOOK_MS = 10


class Socket(Protocol):
    """The part of pyzmq's that is used."""

    def connect(self, address: str) -> object: ...
    def bind(self, address: str) -> object: ...
    def poll(self, timeout_ms: int, flags: int) -> int: ...
    def send(self, data: bytes, *, copy: bool) -> object: ...
    def recv(self, flags: int) -> bytes: ...


def send(socket: Socket, task: Task) -> int:
    """Flat out until the window ends; returns how many messages were sent."""
    ends_ns = time.monotonic_ns() + task.warm_up_ns + task.window_ns
    sent, copy = 0, task.size_bytes < COPY_BELOW_BYTES
    step = step_of(task.size_bytes)
    while time.monotonic_ns() < ends_ns:
        for message in make_messages(SENDER, sent + 1, step, task.size_bytes):
            socket.send(message, copy=copy)
        sent += step
    return sent


class Receiver:
    """Takes what comes, while another thread listens to whoever started this."""

    def __init__(self, zmq: Any, socket: Socket, task: Task) -> None:
        self._socket = socket
        self._nothing: type[Exception] = zmq.Again
        self._readable: int = zmq.POLLIN
        self._at_once: int = zmq.NOBLOCK
        self._task = task
        self._tally = Tally(task.nodes, task.size_bytes)
        self._wanted: int | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        self._wanted = int(hear("drain")[SENDER - 1])

    def _take(self) -> int:
        """What lies there, and the wait for it if nothing does; returns how many messages."""
        socket = self._socket
        if not socket.poll(_LOOK_MS, self._readable):
            return 0
        payloads: list[bytes] = []
        try:
            while len(payloads) < CALL_MESSAGES:
                payloads.append(socket.recv(self._at_once))
        except self._nothing:
            pass
        return self._tally.take(SENDER, payloads)

    def run(self) -> Delivered:
        """Until everything has come that was sent."""
        tally, task = self._tally, self._task
        begins_ns = time.monotonic_ns() + task.warm_up_ns
        ends_ns = begins_ns + task.window_ns
        gives_up_ns = ends_ns + int(DRAIN_S * 1e9)
        said, delivered = False, 0
        while self._wanted is None or tally.got[SENDER] < self._wanted:
            count = self._take()
            now_ns = time.monotonic_ns()
            if begins_ns <= now_ns < ends_ns:
                delivered += count
            if now_ns >= ends_ns and not said:
                said = True
                say(Sent(sent=0))
            if now_ns >= gives_up_ns:
                break
        return Delivered(
            delivered=delivered,
            total=tally.got[SENDER],
            gaps=tally.gaps,
            complete=tally.got[SENDER] == self._wanted,
            hash=f"{tally.hash:08x}",
        )


def main(address: str, port: int, node: int, task: Task) -> None:
    """From connecting to the end."""
    zmq: Any = importlib.import_module("zmq")
    sends = node == SENDER
    with zmq.Context() as context, context.socket(zmq.PUSH if sends else zmq.PULL) as socket:
        if sends:
            socket.connect(f"tcp://{address}:{port}")
            if not socket.poll(int(CONNECT_S * 1000), zmq.POLLOUT):
                raise SystemExit(f"nobody listens at {address}, port {port}")
        else:
            socket.bind(f"tcp://{address}:{port}")
        say(Ready())
        time.sleep(until_ns(hear("go")))  # all members begin at that moment
        if sends:
            say(Sent(sent=send(socket, task)))
            hear("drain")
            say(Delivered(delivered=0, total=0, gaps=0, complete=True, hash=""))
        else:
            say(Receiver(zmq, socket, task).run())
        hear("end")


if __name__ == "__main__":
    main(
        sys.argv[1],
        int(sys.argv[2]),
        int(sys.argv[3]),
        msgspec.json.decode(sys.argv[4], type=Task),
    )
