"""Network namespaces by hand: commands in them, sockets in them, and waiting for a carrier.

A socket belongs for its whole life to the namespace in which it was opened. So a thread that
enters a namespace, opens a socket and ends gives us sockets on any host of the lab without
starting a process there.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import selectors
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from .lab_state import LabError, LabState, LabUnavailable

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS = 0x8913
_IFF_RUNNING = 0x40
_RTMGRP_LINK = 1
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_COMMAND_TIMEOUT_S = 20.0
_PROBE_EVERY_S = 0.02
_libc = ctypes.CDLL(None, use_errno=True)


def tool(name: str) -> str:
    """The path of a system command; a user's PATH on Debian has no /usr/sbin.

    Raises:
        LabUnavailable: it is not installed.
    """
    found = find_tool(name)
    if found is None:
        packages = {"ip": "iproute2", "iptables-restore": "iptables", "nft": "nftables"}
        package = packages.get(name, "util-linux")
        raise LabUnavailable(f"the command {name!r} is missing; install the package {package}")
    return found


def find_tool(name: str) -> str | None:
    """The path of a system command; None if it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")


def command(argv: Sequence[str], text: str = "") -> None:
    """Run one command with that standard input.

    Raises:
        LabError: it failed or took too long.
    """
    try:
        done = subprocess.run(
            argv,
            input=text,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=_COMMAND_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)}: no end after {_COMMAND_TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {done.stdout.strip() or f'exit {done.returncode}'}")


def ip_batch(lines: Iterable[str], *, namespace: str = "", force: bool = False) -> None:
    """Run many `ip` commands in one process; with `force`, go on after one that fails."""
    argv = [tool("ip"), *(["-n", namespace] if namespace else []), *(["-force"] if force else [])]
    command([*argv, "-batch", "-"], "".join(f"{line}\n" for line in lines))


def enter(state: LabState, namespace: str) -> list[str]:
    """The beginning of a command that runs in a namespace; both ways exec, so the pid stays."""
    if state.executor == "ip":
        return [tool("ip"), "netns", "exec", namespace]
    return [tool("nsenter"), f"--net=/run/netns/{namespace}", "--"]


def choose_executor(namespace: str) -> str:
    """How commands enter namespaces here, found by trying.

    `ip netns exec` gives a command its own /sys; some containers forbid to mount that.

    Raises:
        LabError: neither way works.
    """
    try:
        command([tool("ip"), "netns", "exec", namespace, "true"])
    except LabError:
        command([tool("nsenter"), f"--net=/run/netns/{namespace}", "--", "true"])
        return "nsenter"
    return "ip"


def remove_namespaces(namespaces: Sequence[str]) -> None:
    """Remove those named namespaces that exist.

    Raises:
        LabError: one could not be removed.
    """
    present = [name for name in namespaces if os.path.exists(f"/run/netns/{name}")]
    if present:
        ip_batch((f"netns delete {name}" for name in present), force=True)


def in_namespace(namespace: str, action: Callable[[], T]) -> T:
    """Do `action` in a thread of its own that has entered the named network namespace.

    Raises:
        LabError: there is no such namespace, or it may not be entered.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def enter_and_act() -> None:
        try:
            handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(handle, _CLONE_NEWNET) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code))
            finally:
                os.close(handle)
        except OSError as error:
            trouble = LabError(f"cannot enter the network namespace {namespace}: {error}")
            trouble.__cause__ = error
            errors.append(trouble)
            return
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter_and_act, name=f"netns {namespace}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


# ----------------------------------------------------------------------------------- carrier


def carrier(namespace: str, interface: str) -> bool:
    """Whether an interface is up and sees a carrier."""

    def running() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            return _running(probe, interface)

    return in_namespace(namespace, running)


def _running(probe: socket.socket, interface: str) -> bool:
    request = struct.pack("16sh14x", interface.encode(), 0)
    answer = fcntl.ioctl(probe, _SIOCGIFFLAGS, request)
    return bool(struct.unpack_from("16xh", answer)[0] & _IFF_RUNNING)


def await_carrier(namespace: str, interface: str, *, present: bool, timeout_s: float) -> None:
    """Return once the interface has (or has lost) its carrier; woken by rtnetlink.

    Raises:
        LabError: it did not happen in time.
    """
    deadline = time.monotonic() + timeout_s

    def watch() -> bool:
        family, kind = socket.AF_NETLINK, socket.SOCK_RAW
        with (
            socket.socket(family, kind, socket.NETLINK_ROUTE) as events,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
        ):
            events.bind((0, _RTMGRP_LINK))
            # Listen first, then look: a change between the two wakes us.
            while _running(probe, interface) != present:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([events], [], [], left)[0]:
                    return False
                events.recv(65536)
            return True

    if not in_namespace(namespace, watch):
        state = "no carrier" if present else "still a carrier"
        raise LabError(f"{namespace}: {interface} has {state} after {timeout_s:g} s")


# -------------------------------------------------------------------------------- real traffic


def udp_sockets(namespace: str, addresses: Sequence[str]) -> list[socket.socket]:
    """One non-blocking UDP socket per address, on a free port, in that namespace."""

    def open_all() -> list[socket.socket]:
        opened: list[socket.socket] = []
        for address in addresses:
            six = ":" in address
            endpoint = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
            # The address may not be usable before its interface has a carrier.
            if six:
                endpoint.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            else:
                endpoint.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            endpoint.setblocking(False)
            endpoint.bind((address, 0))
            opened.append(endpoint)
        return opened

    return in_namespace(namespace, open_all)


def await_echoes(
    hubs: Sequence[socket.socket],
    spokes: Sequence[tuple[socket.socket, int, str]],
    *,
    timeout_s: float,
) -> list[str]:
    """Let each spoke send to its hub until it has an answer from it.

    `spokes` are (socket, index of its hub, what it stands for). Returns what the spokes without
    an answer in time stand for: empty if all have one.
    """
    deadline = time.monotonic() + timeout_s
    waiting = {spoke: (hubs[hub].getsockname(), label) for spoke, hub, label in spokes}
    next_probe = 0.0
    with selectors.DefaultSelector() as selector:
        for endpoint in (*hubs, *waiting):
            selector.register(endpoint, selectors.EVENT_READ, endpoint in waiting)
        while waiting and (now := time.monotonic()) < deadline:
            if now >= next_probe:
                next_probe = now + _PROBE_EVERY_S
                for spoke, (hub_name, _) in waiting.items():
                    _send(spoke, hub_name)
            for key, _ in selector.select(max(0.0, min(next_probe, deadline) - time.monotonic())):
                arrived = key.fileobj
                assert isinstance(arrived, socket.socket), "only sockets are registered"
                try:
                    _, source = arrived.recvfrom(64)
                except OSError:
                    continue  # an unreachable notice of an earlier probe
                if key.data:
                    waiting.pop(arrived, None)
                else:
                    _send(arrived, source)
    return [label for _, label in waiting.values()]


def _send(endpoint: socket.socket, target: Any) -> None:
    try:
        endpoint.sendto(b"phalanx-lab", target)
    except OSError:
        return  # no route or no carrier yet: the next probe tries again
