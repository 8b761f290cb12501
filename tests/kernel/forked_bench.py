"""The bench of the conformance suite with hosts that are forked instead of started.

Starting Python takes two seconds in the guest, and the suite starts about a hundred hosts.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from typing import cast

from phalanx.transport.config import PROFILES, SctpTuning
from phalanx.transport.drivers.base import PeerEndpoint
from phalanx.transport.drivers.sctp_wire import IPPROTO_SCTP

from ..drivers.bench import Host, Log
from ..drivers.netns_bench import PORT, NetnsBench, NetnsHost
from ..drivers.worker import Worker
from .lab import entered

KERNEL_SCTP = "phalanx.transport.drivers.kernel_sctp:KernelSctp"


class Forked:
    """What is used of `subprocess.Popen`, for a child that goes on in our own code."""

    def __init__(self, namespace: str) -> None:
        requests, to_child = os.pipe()
        from_child, answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _work(namespace, requests, answers)
        os.close(requests)
        os.close(answers)
        self.stdin = io.FileIO(to_child, "w")
        self.stdout = io.FileIO(from_child, "r")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        os.waitpid(self.pid, 0)


def _work(namespace: str, requests: int, answers: int) -> None:
    """Be a worker until told to exit; never returns."""
    try:
        os.dup2(requests, 0)
        os.dup2(answers, 1)
        # A pipe end of another worker that stays open here would hide that worker's death.
        os.closerange(3, 1024)
        with entered(namespace):
            Worker().run()
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(0)


class ForkedHost(NetnsHost):
    """One forked worker in a namespace."""

    def __init__(self, namespace: str, peer: PeerEndpoint) -> None:
        self._peer = peer
        self._log = Log()
        self._process = cast("subprocess.Popen[bytes]", Forked(namespace))
        self._killed = False

    def kill(self) -> None:
        if not self._killed:
            self._killed = True
            super().kill()


class KernelBench(NetnsBench):
    """Three hosts for drivers on the kernel's SCTP."""

    def __init__(self, *, family: int = 4) -> None:
        super().__init__(KERNEL_SCTP, family=family)

    def start(
        self,
        number: int,
        *,
        tuning: SctpTuning | None = None,
        absent: Sequence[str] = (),
    ) -> Host:
        namespace, local = self._namespace(number), self.endpoint(number)
        self._remove_addresses(number, absent)
        peer = PeerEndpoint(
            node=number, addresses=local.addresses, port=local.port, udp_port=local.udp_port
        )
        host = ForkedHost(namespace, peer)
        self._hosts.append(host)
        host.ask("open", self._factory, local, tuning or PROFILES["lan"].sctp)
        return host

    def _remove_addresses(self, number: int, rails: Sequence[str]) -> None:
        for rail in rails:
            self._absent.add((number, rail))
            command = ["ip", "-n", self._namespace(number), "addr", "flush", "dev", rail]
            subprocess.run(command, check=True)

    def hold_port(self, number: int) -> None:
        """Another listener on the SCTP port itself: there is no encapsulation here."""
        with entered(self._namespace(number)):
            holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_SCTP)
        holder.bind((self._ip(number, "a"), PORT))
        holder.listen()
        self._holders.append(holder)
