"""Hosts as network namespaces on two switched rails, one process with one driver on each.

Only what the conformance suite needs: a namespace for the switch with a bridge for each rail,
and one for each host. Names carry the process id, so that runs do not meet.
"""

from __future__ import annotations

import ctypes
import ipaddress
import itertools
import os
import pickle
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from phalanx.transport.config import PROFILES, SctpTuning
from phalanx.transport.drivers.base import Driver, Group, Link, LocalEndpoint, PeerEndpoint

from .bench import RAILS, Host, Log

PORT, UDP_PORT, DATAGRAM_PORT, GROUP_PORT = 5405, 9899, 9900, 5407
LENGTH = struct.Struct("=I")
ANSWER_S = 30.0
IP = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin") or "ip"
"""A user's PATH on Debian has no /usr/sbin."""
WORKER = Path(__file__).with_name("worker.py")

_serial = itertools.count(1)


def ip(*arguments: str) -> None:
    """Run `ip`.

    Raises:
        RuntimeError: it failed; with its own words.
    """
    command = [IP, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def peer_of(local: LocalEndpoint) -> PeerEndpoint:
    """The same endpoint as others see it."""
    return PeerEndpoint(
        node=local.node,
        addresses=local.addresses,
        port=local.port,
        udp_port=local.udp_port,
        datagram_port=local.datagram_port,
    )


def _enter(namespace: int) -> None:
    """Have this thread be in another network namespace (`os.setns` is there from 3.12 on)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class RemoteDriver:
    """The calls of `Driver`, carried out in a host's process."""

    def __init__(self, host: NetnsHost) -> None:
        self._host = host

    def __getattr__(self, name: str) -> Any:
        if name in ("capabilities", "missing_rails"):
            return self._host.ask("call", name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            return self._host.ask("call", name, *arguments, **keywords)

        return call


class NetnsHost:
    """One worker process in a namespace; in the test's own one if that is empty."""

    def __init__(self, namespace: str, peer: PeerEndpoint) -> None:
        self._peer = peer
        self._log = Log()
        enter = [IP, "netns", "exec", namespace] if namespace else []
        self._process = subprocess.Popen(
            [*enter, sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    @property
    def driver(self) -> Driver:
        return cast("Driver", RemoteDriver(self))

    @property
    def peer(self) -> PeerEndpoint:
        return self._peer

    @property
    def log(self) -> Log:
        return self._log

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def _read(self, count: int, deadline: float) -> bytes:
        assert self._process.stdout is not None, "it was opened with a pipe"
        data = b""
        while len(data) < count:
            left = deadline - time.monotonic()
            if not select.select([self._process.stdout], [], [], max(0.0, left))[0]:
                raise TimeoutError("the worker does not answer")
            part = self._process.stdout.read(count - len(data))
            if not part:
                raise ConnectionError("the worker has ended")
            data += part
        return data

    def ask(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """One command to the worker; its answer, or the exception that it raised."""
        assert self._process.stdin is not None, "it was opened with a pipe"
        data = memoryview(pickle.dumps((name, arguments, keywords)))
        self._write(LENGTH.pack(len(data)))
        self._write(data)
        deadline = time.monotonic() + ANSWER_S
        size = LENGTH.unpack(self._read(LENGTH.size, deadline))[0]
        kind, value = pickle.loads(self._read(size, deadline))
        if kind == "error":
            raise value
        return value

    def _write(self, data: bytes | memoryview) -> None:
        assert self._process.stdin is not None, "it was opened with a pipe"
        rest = memoryview(data)
        while rest:
            rest = rest[self._process.stdin.write(rest) :]

    def collect(self, seconds: float) -> None:
        for time_ns, one in self.ask("collect", min(seconds, ANSWER_S / 2)):
            self._log.times_ns.append(time_ns)
            self._log.inputs.append(one)

    def read(self, on: bool) -> None:
        self.ask("read", on)

    def stream(self, link: Link, *, count: int, every_ns: int, size: int) -> None:
        self.ask("stream", link, count, every_ns, size)

    def sent(self) -> int:
        return self.ask("sent")

    def fill(self, link: Link, frames: list[bytes]) -> int:
        """Transmit until one is refused; how many were accepted."""
        return self.ask("fill", link, frames)

    def memory_bytes(self) -> int:
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class NetnsBench:
    """A `Bench` on network namespaces; `family` 4, 6, or 46 for rail a on IPv4 and b on IPv6."""

    def __init__(self, factory: str, *, hosts: int = 3, family: int = 4) -> None:
        self.name = factory.rpartition(":")[2]
        self._factory = factory
        self._prefix = f"phx{os.getpid()}x{next(_serial)}"
        self._family = {"a": 6 if family == 6 else 4, "b": 4 if family == 4 else 6}
        self._count = hosts
        self._hosts: list[NetnsHost] = []
        self._absent: set[tuple[int, str]] = set()
        self._faults: set[tuple[int, str]] = set()
        self._holders: list[socket.socket] = []

    # ------------------------------------------------------------------------ namespaces

    def __enter__(self) -> NetnsBench:
        switch = f"{self._prefix}s"
        try:
            ip("netns", "add", switch)
            for rail in RAILS:
                ip("-n", switch, "link", "add", f"br{rail}", "type", "bridge")
                ip("-n", switch, "link", "set", "dev", f"br{rail}", "up")
            for number in range(1, self._count + 1):
                ip("netns", "add", self._namespace(number))
                ip("-n", self._namespace(number), "link", "set", "lo", "up")
                for rail in RAILS:
                    self._plug_in(number, rail)
        except BaseException:
            self._delete()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.reset()
        self._delete()

    def _namespace(self, number: int) -> str:
        return f"{self._prefix}h{number}"

    def _plug_in(self, number: int, rail: str) -> None:
        host, switch, port = self._namespace(number), f"{self._prefix}s", f"{rail}{number}"
        ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", rail, "netns", host)
        ip("-n", switch, "link", "set", "dev", port, "master", f"br{rail}", "up")
        self._address(number, rail)
        ip("-n", host, "link", "set", "dev", rail, "up")

    def _address(self, number: int, rail: str) -> None:
        address = f"{self._ip(number, rail)}/{24 if self._family[rail] == 4 else 64}"
        options = ["nodad"] if self._family[rail] == 6 else []
        ip("-n", self._namespace(number), "addr", "replace", address, "dev", rail, *options)

    def _delete(self) -> None:
        for name in [f"{self._prefix}s", *map(self._namespace, range(1, self._count + 1))]:
            if Path("/run/netns", name).exists():
                ip("netns", "del", name)

    def _ip(self, number: int, rail: str) -> str:
        if self._family[rail] == 4:
            return f"10.{201 if rail == 'a' else 202}.0.{number}"
        return f"fd00:{rail}::{number}"

    # ----------------------------------------------------------------------------- hosts

    def endpoint(self, number: int) -> LocalEndpoint:
        addresses = {rail: self._ip(number, rail) for rail in RAILS}
        prefix = {4: 24, 6: 64}
        return LocalEndpoint(
            node=number,
            addresses=addresses,
            networks={
                rail: ipaddress.ip_network(f"{text}/{prefix[self._family[rail]]}", strict=False)
                for rail, text in addresses.items()
            },
            port=PORT,
            udp_port=UDP_PORT,
            datagram_port=DATAGRAM_PORT,
            groups={rail: self._group(number, rail) for rail in RAILS},
        )

    def _group(self, number: int, rail: str) -> Group:
        if self._family[rail] == 4:
            return Group(f"239.192.0.{RAILS.index(rail) + 1}", GROUP_PORT)
        with self.within(number):
            return Group(f"ff15::{rail}", GROUP_PORT, interface=socket.if_nametoindex(rail))

    @contextmanager
    def within(self, number: int) -> Generator[None]:
        """Sockets that this process makes meanwhile are that host's, and stay so."""
        with Path("/proc/self/ns/net").open("rb") as home:
            with Path("/run/netns", self._namespace(number)).open("rb") as host:
                _enter(host.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def take_address(self, number: int, rail: str) -> None:
        """Until `reset` the host has no address on that rail."""
        self._absent.add((number, rail))
        ip("-n", self._namespace(number), "addr", "flush", "dev", rail)

    def start(
        self,
        number: int,
        *,
        tuning: SctpTuning | None = None,
        absent: Sequence[str] = (),
    ) -> Host:
        namespace, local = self._namespace(number), self.endpoint(number)
        for rail in absent:
            self.take_address(number, rail)
        host = NetnsHost(namespace, peer_of(local))
        self._hosts.append(host)
        host.ask("open", self._factory, local, tuning or PROFILES["lan"].sctp)
        return host

    @staticmethod
    def local_host(factory: str, local: LocalEndpoint) -> Host:
        """A host without a namespace of its own; the caller kills it."""
        host = NetnsHost("", peer_of(local))
        host.ask("open", factory, local, PROFILES["lan"].sctp)
        return host

    def reset(self) -> None:
        for host in self._hosts:
            host.kill()
        self._hosts.clear()
        for number, rail in list(self._faults):
            self.heal(number, rail)
        for number, rail in self._absent:
            self._address(number, rail)
        self._absent.clear()
        for holder in self._holders:
            holder.close()
        self._holders.clear()

    # ---------------------------------------------------------------------------- faults

    def cut(self, number: int, rail: str) -> None:
        """Out of the bridge: the host keeps its carrier and hears nothing any more."""
        self._faults.add((number, rail))
        ip("-n", f"{self._prefix}s", "link", "set", "dev", f"{rail}{number}", "nomaster")

    def link_down(self, number: int, rail: str) -> None:
        self._faults.add((number, rail))
        ip("-n", self._namespace(number), "link", "set", "dev", rail, "down")

    def heal(self, number: int, rail: str) -> None:
        self._faults.discard((number, rail))
        ip("-n", f"{self._prefix}s", "link", "set", "dev", f"{rail}{number}", "master", f"br{rail}")
        ip("-n", self._namespace(number), "link", "set", "dev", rail, "up")
        self._address(number, rail)

    def send_datagram(self, source: int, target: int, payload: bytes) -> None:
        sender = self._socket(source, "a")
        with sender:
            sender.sendto(payload, (self._ip(target, "a"), UDP_PORT))

    def hold_port(self, number: int) -> None:
        holder = self._socket(number, "a")
        holder.bind((self._ip(number, "a"), UDP_PORT))
        self._holders.append(holder)

    def run(self, number: int, *command: str) -> None:
        """Run a command on a host.

        Raises:
            RuntimeError: it failed; with its own words.
        """
        ip("netns", "exec", self._namespace(number), *command)

    def _socket(self, number: int, rail: str) -> socket.socket:
        """A UDP socket of a host: made by a short-lived process there and passed over."""
        family = int(socket.AF_INET if self._family[rail] == 4 else socket.AF_INET6)
        ours, theirs = socket.socketpair()
        code = (
            "import socket, sys\n"
            f"one = socket.socket({family}, socket.SOCK_DGRAM)\n"
            f"socket.send_fds(socket.socket(fileno={theirs.fileno()}), [b'.'], [one.fileno()])\n"
        )
        with ours, theirs:
            subprocess.run(
                [IP, "netns", "exec", self._namespace(number), sys.executable, "-c", code],
                pass_fds=[theirs.fileno()],
                check=True,
            )
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        return socket.socket(fileno=fds[0])
