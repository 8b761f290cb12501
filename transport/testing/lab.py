"""Hosts and rails on one machine: a cluster's networks, to be cut, dropped and healed at will.

A host is a network namespace, a rail is a bridge in a switch namespace of its own (nothing is
made in the machine's own namespace), and one veth pair is the cable between them. On a host the
cable of rail "a" is the interface `rail-a` with the address 10.71.0.N/24 (rail "b": 10.72.0.N),
where N is the node id, from 1. Hosts are called alpha, bravo, charlie, ...

    with Lab(hosts=3, rails=("a", "b")) as lab:
        server = lab.spawn("alpha", ["iperf3", "-s"])
        lab.drop("a", "bravo")        # silently: nobody is told
        lab.heal("a", "bravo")
        lab.cut("b", "charlie")       # the cable is out: charlie sees its carrier vanish

`ensure_privileges` starts a program again in a user namespace where it may not do this.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ..errors import UsageError
from . import lab_filters, lab_netns, lab_plan, lab_processes, lab_state
from .lab_privileges import capability, current_anchor, ensure_privileges, require
from .lab_processes import freeze, thaw
from .lab_state import Fault, LabError, LabState, LabUnavailable, lab_names
from .lab_toml import cluster_file

__all__ = [
    "Fault",
    "Lab",
    "LabError",
    "LabState",
    "LabUnavailable",
    "capability",
    "ensure_privileges",
    "freeze",
    "lab_names",
    "thaw",
]

T = TypeVar("T")

_MTU_MIN = 576
_CARRIER_TIMEOUT_S = 5.0
_counter = itertools.count(1)


class Lab:
    """Hosts and rails; a context manager that brings them up and takes them down.

    Operations take a host by name or by node id. They act at once, return when the kernel has
    done it, and may be called from any thread and, for one lab, from several processes.

    Args:
        hosts: number of hosts, 1 to 64.
        rails: names of the rails, up to 8.
        name: tells labs apart; by default one that no other lab of this machine has.
        mtu: of every rail, in bytes.
        ipv6: give every host fdNN::N/64 on the rails too. Without it rails carry no IPv6.
        offload: False makes every packet on a rail at most `mtu` bytes long even where the
            sender lets the kernel segment, so that loss is counted per real packet. Slower.
        filters: "iptables", "nft" or "auto" (see `lab_filters`).

    Raises:
        UsageError: names or numbers out of range.
    """

    def __init__(
        self,
        hosts: int = 3,
        rails: Sequence[str] = ("a", "b"),
        name: str | None = None,
        *,
        mtu: int = 1500,
        ipv6: bool = False,
        offload: bool = True,
        filters: str = "auto",
    ) -> None:
        if name is None:
            name = f"{os.getpid()}-{next(_counter)}"
        if not _MTU_MIN <= mtu <= 65535 or (ipv6 and mtu < 1280):
            raise UsageError(f"mtu {mtu}: use {1280 if ipv6 else _MTU_MIN} to 65535 bytes")
        if filters not in ("auto", "iptables", "nft"):
            raise UsageError(f'filters {filters!r}: use "auto", "iptables" or "nft"')
        self._state = lab_state.new_state(hosts, tuple(rails), name)
        self._state.mtu, self._state.ipv6, self._state.offload = mtu, ipv6, offload
        self._state.filters = filters
        self._children: list[subprocess.Popen[Any]] = []

    @classmethod
    def open(cls, name: str) -> Lab:
        """An existing lab, built by this or another process.

        Raises:
            LabError: there is no such lab.
        """
        with lab_state.locked():
            state = lab_state.load(name)
        if state is None:
            known = ", ".join(lab_names()) or "none"
            raise LabError(
                f"there is no lab {name!r} (labs up now: {known}); phalanx lab up makes one"
            )
        lab = cls(1, ("a",), name)
        lab._state = state
        return lab

    def __enter__(self) -> Lab:
        return self.up()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    # ----------------------------------------------------------------------------- what it is

    @property
    def name(self) -> str:
        """The lab's name."""
        return self._state.name

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts; the node id of the first is 1."""
        return tuple(self._state.hosts)

    @property
    def rails(self) -> tuple[str, ...]:
        """The names of the rails."""
        return tuple(self._state.rails)

    @property
    def state(self) -> LabState:
        """What is up and what is broken now, by whichever process.

        Raises:
            LabError: the lab is not up.
        """
        with lab_state.locked():
            return self._load()

    def address(self, rail: str, host: str | int, *, ipv6: bool = False) -> str:
        """The address of a host on a rail."""
        return self._state.address(rail, host, ipv6=ipv6)

    def node_id(self, host: str | int) -> int:
        """The node id of a host, from 1."""
        return self._state.number(self._state.host(host))

    def namespace(self, host: str | int) -> str:
        """The host's network namespace, as `ip netns` shows it."""
        return self._state.namespace(self._state.host(host))

    def interface(self, rail: str) -> str:
        """The name of the rail's interface, the same on every host."""
        return f"rail-{self._state.rail(rail)}"

    def carrier(self, rail: str, host: str | int) -> bool:
        """Whether the host's interface on that rail is up and sees a carrier."""
        return lab_netns.carrier(self.namespace(host), self.interface(rail))

    # ------------------------------------------------------------------------------ up and down

    def up(self) -> Lab:
        """Build everything and return when packets have crossed every rail to every host.

        Raises:
            LabUnavailable: this machine or user cannot build namespaces.
            LabError: the lab is up already, or a step failed (nothing is left behind then).
        """
        require()
        state = self._state
        if state.filters == "auto":
            state.filters = lab_filters.choose()
        state.anchor, state.holder = current_anchor()
        with lab_state.locked():
            if lab_state.load(state.name) is not None:
                raise LabError(
                    f"lab {state.name!r} is up already; take it down first (phalanx lab down)"
                )
            # Written before anything exists, so that a crash leaves nothing unknown.
            lab_state.save(state)
        try:
            self._build()
            self.wait_ready()
        except BaseException:
            self.down()
            raise
        return self

    def _build(self) -> None:
        state = self._state
        lab_netns.ip_batch(f"netns add {namespace}" for namespace in state.namespaces)
        state.executor = lab_netns.choose_executor(state.switch)
        self._change(lambda current: setattr(current, "executor", state.executor))
        lab_netns.ip_batch(lab_plan.switch_lines(state), namespace=state.switch)
        for host in state.hosts:
            lab_netns.ip_batch(lab_plan.host_lines(state, host), namespace=state.namespace(host))

    def wait_ready(self, timeout: float = 10.0) -> None:
        """Return when every host has exchanged a packet with the first one on every rail.

        Raises:
            LabError: some have not within `timeout` seconds; the message names them.
        """
        state = self._state
        kinds = (False, True) if state.ipv6 else (False,)
        ends = [(rail, ipv6) for rail in state.rails for ipv6 in kinds]
        with contextlib.ExitStack() as stack:
            opened: list[list[socket.socket]] = []
            for host in state.hosts:
                addresses = [state.address(rail, host, ipv6=ipv6) for rail, ipv6 in ends]
                opened.append(lab_netns.udp_sockets(state.namespace(host), addresses))
                for endpoint in opened[-1]:
                    stack.enter_context(endpoint)
            spokes = [
                (endpoint, index, f"rail {ends[index][0]} at {host}")
                for host, endpoints in zip(state.hosts[1:], opened[1:], strict=True)
                for index, endpoint in enumerate(endpoints)
            ]
            silent = lab_netns.await_echoes(opened[0], spokes, timeout_s=timeout)
        if silent:
            raise LabError(f"no traffic after {timeout:g} s: {', '.join(silent)}")

    def down(self) -> None:
        """End what the lab started and remove its namespaces and its file; idempotent.

        Takes a few seconds at most, even with processes that are stopped or ignore SIGTERM.

        Raises:
            LabError: a process could not be ended or a namespace not be removed.
        """
        with lab_state.locked():
            state = lab_state.load(self.name)
            try:
                lab_processes.end(state.processes if state else [], self._children)
            finally:
                if state is not None:
                    lab_netns.remove_namespaces(state.namespaces)
                    lab_state.forget(state.name)
        self._children.clear()
        if state is not None and state.holder and state.anchor is not None:
            lab_processes.end([state.anchor], [])

    # ------------------------------------------------------------------------------ processes

    def command(self, host: str | int, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on a host; it execs, so the pid stays the same."""
        return [*lab_netns.enter(self._state, self.namespace(host)), *argv]

    def spawn(self, host: str | int, argv: Sequence[str], **popen: Any) -> subprocess.Popen[Any]:
        """Start a process on a host; it ends with the lab at the latest.

        `popen` are the arguments of `subprocess.Popen`. The process leads a session of its own
        (so a Ctrl-C in the terminal is left to the caller) unless `start_new_session=False`;
        the session's other processes end with it, if it still runs when the lab goes down.

        Raises:
            FileNotFoundError: there is no such command.
        """
        path = (popen.get("env") or os.environ).get("PATH", os.defpath)
        if shutil.which(argv[0], path=path) is None:
            raise FileNotFoundError(f"no command {argv[0]!r}")
        popen.setdefault("start_new_session", True)
        with lab_state.locked():
            state = self._load()
            process: subprocess.Popen[Any] = subprocess.Popen(self.command(host, argv), **popen)
            self._children = [*(c for c in self._children if c.poll() is None), process]
            self._adopt(state, process.pid, group=bool(popen["start_new_session"]))
        return process

    def run(
        self,
        host: str | int,
        argv: Sequence[str],
        timeout: float = 30.0,
        *,
        check: bool = True,
        text: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host to its end, with `text` as its input; output is captured.

        Raises:
            subprocess.CalledProcessError: it ended with another status than 0, if `check`.
            subprocess.TimeoutExpired: it was killed after `timeout` seconds.
        """
        return subprocess.run(
            self.command(host, argv),
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=check,
            env=env,
        )

    def adopt(self, pid: int) -> None:
        """Let a process that this user started on a host end with the lab, too."""
        with lab_state.locked():
            self._adopt(self._load(), pid, group=False)

    def _adopt(self, state: LabState, pid: int, *, group: bool) -> None:
        process = lab_state.identify(pid, group=group)
        assert process is not None, "a child stays in /proc until it is waited for"
        state.processes = [*filter(lab_state.exists, state.processes), process]
        lab_state.save(state)

    def socket(
        self, host: str | int, family: int = socket.AF_INET, kind: int = socket.SOCK_DGRAM
    ) -> socket.socket:
        """A socket of this process that lives on a host, for tests without processes there."""
        return lab_netns.in_namespace(self.namespace(host), lambda: socket.socket(family, kind))

    def within(self, host: str | int, action: Callable[[], T]) -> T:
        """Call `action` in a thread that is on that host: what it opens lives there."""
        return lab_netns.in_namespace(self.namespace(host), action)

    # --------------------------------------------------------------------------------- faults

    def cut(self, rail: str, host: str | int, how: str = "link") -> None:
        """Take a host's link down; the host is told.

        `how` is "link": the cable is pulled at the switch, the host sees its carrier vanish; or
        "interface": the host's own interface is taken down, with its routes.
        """
        if how not in ("link", "interface"):
            raise UsageError(f'cut how={how!r}: use "link" or "interface"')
        with self._changing() as state:
            fault, name = state.fault(rail, host), state.host(host)
            fault.cut = how
            if how == "link":
                self._link(state.switch, state.port(rail, name), "down")
            else:
                self._link(state.namespace(name), f"rail-{rail}", "down")
            self._await_carrier(state, rail, name, present=False)

    def drop(self, rail: str, host: str | int, direction: str = "both") -> None:
        """Drop every packet silently: no one is told, the carrier stays.

        `direction` is seen from the host: "in", "out" or "both".
        """
        inward, outward = _directions(direction)
        with self._changing() as state:
            fault = state.fault(rail, host)
            fault.drop_in, fault.drop_out = inward, outward
            lab_filters.apply(state, state.host(host))

    def loss(self, rail: str, host: str | int, percent: float, direction: str = "both") -> None:
        """Drop that share of packets at random, each one on its own; 0 ends it.

        In direction "both" a packet there and its answer have two chances to be lost. Outgoing
        packets are counted before the kernel segments them (see `offload`).
        """
        if not 0 <= percent <= 100:
            raise UsageError(f"loss of {percent} %: use 0 to 100")
        inward, outward = _directions(direction)
        with self._changing() as state:
            fault = state.fault(rail, host)
            fault.loss_in, fault.loss_out = percent * inward, percent * outward
            lab_filters.apply(state, state.host(host))

    def heal(self, rail: str, host: str | int) -> None:
        """Undo cut, drop, loss and deafness on one rail of one host; a partition stays.

        Addresses and routes are as before when it returns, and the host has its carrier.
        """
        with self._changing() as state:
            self._heal(state, rail, state.host(host))

    def heal_all(self) -> None:
        """Undo everything, a partition too."""
        with self._changing() as state:
            state.groups, state.walls, state.deaf = [], [], []
            broken = [key.split("/") for key, fault in state.faults.items() if fault != Fault()]
            for rail, host in broken:
                self._heal(state, rail, host)
            for host in state.hosts:
                if host in state.filtered or state.filters == "nft":
                    lab_filters.apply(state, host)

    def partition(self, groups: Sequence[Sequence[str | int]]) -> None:
        """Let hosts of different groups not hear each other on any rail; silently.

        Hosts in no group form one together. No groups: the partition ends. Drops and losses
        are kept.
        """
        named = [[self._state.host(host) for host in group] for group in groups]
        everyone = [host for group in named for host in group]
        if len(set(everyone)) != len(everyone):
            raise UsageError(f"partition {named!r}: a host can be in one group only")
        with self._changing() as state:
            state.groups = named
            for host in state.hosts:
                lab_filters.apply(state, host)

    def block_sctp(self, *hosts: str | int, udp_port: int = 9899) -> None:
        """Let no SCTP through between any two of these hosts, plain or in UDP; datagrams pass.

        Replaces what was blocked before; no hosts: SCTP passes again. `udp_port` is that of the
        encapsulation in the cluster file.
        """
        named = [self._state.host(host) for host in hosts]
        with self._changing() as state:
            state.walls = [list(pair) for pair in itertools.combinations(named, 2)]
            state.wall_port = udp_port
            for host in state.hosts:
                lab_filters.apply(state, host)

    def deafen(self, rail: str, host: str | int, *, deaf: bool = True) -> None:
        """Let no multicast come to a host on a rail, as a switch does without IGMP."""
        with self._changing() as state:
            key, name = f"{state.rail(rail)}/{state.host(host)}", state.host(host)
            state.deaf = [it for it in state.deaf if it != key] + [key] * deaf
            lab_filters.apply(state, name)

    def _heal(self, state: LabState, rail: str, host: str) -> None:
        fault = state.fault(rail, host)
        key = f"{rail}/{host}"
        filtered = fault.drop_in or fault.drop_out or fault.loss_in or fault.loss_out
        filtered = filtered or key in state.deaf
        state.faults.pop(key)
        state.deaf = [it for it in state.deaf if it != key]
        if filtered:
            lab_filters.apply(state, host)
        # Not only what we broke: the user may have taken the interface down by hand.
        self._link(state.switch, state.port(rail, host), "up")
        lab_netns.ip_batch(
            lab_plan.interface_lines(state, rail, host), namespace=state.namespace(host)
        )
        self._await_carrier(state, rail, host, present=True)

    def _link(self, namespace: str, interface: str, direction: str) -> None:
        lab_netns.ip_batch([f"link set dev {interface} {direction}"], namespace=namespace)

    def _await_carrier(self, state: LabState, rail: str, host: str, *, present: bool) -> None:
        lab_netns.await_carrier(
            state.namespace(host), f"rail-{rail}", present=present, timeout_s=_CARRIER_TIMEOUT_S
        )

    # ---------------------------------------------------------------------------- descriptions

    def cluster_toml(self, path: str | os.PathLike[str], **overrides: Any) -> Path:
        """Write the cluster file of the lab's hosts and return its path.

        `overrides`: `hosts` (number of nodes, default all), `ipv6`, `addresses` (False leaves
        them out, for discovery), and for the nodes `port`, `udp_port`, `datagram_port`; `name`,
        `state_dir`, `driver`, ... go into [cluster]; a mapping becomes a table of its own, such as
        `timing={"profile": "lan-fast"}`. State is kept beside the file.
        """
        return cluster_file(self._state, Path(path), overrides)

    # ------------------------------------------------------------------------------- the state

    def _load(self) -> LabState:
        state = lab_state.load(self.name)
        if state is None:
            raise LabError(f"lab {self.name!r} is not up")
        return state

    def _change(self, change: Callable[[LabState], None]) -> None:
        with self._changing() as state:
            change(state)

    @contextmanager
    def _changing(self) -> Generator[LabState, None, None]:
        """The state under its lock, written back at the end, whatever happens in between."""
        with lab_state.locked():
            state = self._load()
            try:
                yield state
            finally:
                lab_state.save(state)


def _directions(direction: str) -> tuple[bool, bool]:
    known: Mapping[str, tuple[bool, bool]] = {
        "in": (True, False),
        "out": (False, True),
        "both": (True, True),
    }
    if direction not in known:
        raise UsageError(f'direction {direction!r}: use "in", "out" or "both"')
    return known[direction]
