"""A barrier over bare UDP: its coordinator, or one of its parties.

`python -m peers.udp_party ADDRESS PORT NODES` coordinates until it is ended; with RANK TASK behind
the port it is a party. Both are started by `udp.py`. A datagram that is lost is said again.
"""

from __future__ import annotations

import functools
import socket
import struct
import sys

import msgspec

from .lines import Task
from .rounds import live

ROUND = struct.Struct("=II")
"""A rank and a round."""
AGAIN_S = 0.25
_TRIES_MAX = 80


def coordinate(address: str, port: int, nodes: int) -> None:
    """Until somebody ends it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind((address, port))
        number, parties, released = 0, dict[int, tuple[str, int]](), b""
        while True:
            message, party = end.recvfrom(ROUND.size)
            rank, told = ROUND.unpack(message)
            if told < number:
                end.sendto(released, party)
                continue
            parties[rank] = party
            if len(parties) == nodes:
                released = ROUND.pack(0, number)
                for each in parties.values():
                    end.sendto(released, each)
                number += 1
                parties.clear()


def meet(end: socket.socket, rank: int, number: int) -> None:
    """One round.

    Raises:
        TimeoutError: nobody answers.
    """
    arrival = ROUND.pack(rank, number)
    for _ in range(_TRIES_MAX):
        end.send(arrival)
        try:
            while ROUND.unpack(end.recv(ROUND.size))[1] != number:
                pass  # said twice
        except TimeoutError:
            continue
        return
    raise TimeoutError(f"nobody released round {number} within {_TRIES_MAX * AGAIN_S:g} s")


def take_part(address: str, port: int, rank: int, task: Task) -> None:
    """The whole life of a party."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.connect((address, port))
        end.settimeout(AGAIN_S)
        live(task.count, lambda number: functools.partial(meet, end, rank, number))


def main() -> None:
    """What the arguments say."""
    address, port, *rest = sys.argv[1:]
    if len(rest) == 1:
        coordinate(address, int(port), int(rest[0]))
    else:
        rank, text = rest
        take_part(address, int(port), int(rank), msgspec.json.decode(text, type=Task))


if __name__ == "__main__":
    main()
