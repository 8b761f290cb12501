"""What is known of a lab, kept in a file so that several commands can act on the same lab.

The file is the truth: every operation takes the lock, reads it, changes the lab and writes it
back, whether it comes from the program that built the lab or from `phalanx lab` in another
terminal. A lab that crashed half-way can be taken down from its file alone.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ..errors import DriverUnavailable, EnvironmentTrouble, UsageError

RUNTIME_VARIABLE = "PHALANX_RUNTIME_DIR"
"""Environment variable that overrides where lab files live."""

HOSTS_MAX = 64
RAILS_MAX = 8
LAB_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
RAIL_NAME = re.compile(r"[a-z0-9]{1,8}")
"""Short, because "rail-NAME" must fit into the 15 characters of an interface name."""

# fmt: off
HOST_NAMES = [
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india",
    "juliett", "kilo", "lima", "mike", "november", "oscar", "papa", "quebec", "romeo",
    "sierra", "tango", "uniform", "victor", "whiskey", "xray", "yankee", "zulu",
]
# fmt: on


class LabUnavailable(DriverUnavailable):
    """This machine or user may not build namespaces; the message says what to do."""


class LabError(EnvironmentTrouble):
    """A command on the lab failed; the message carries the command and what it said."""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process by pid and start time, so that a reused pid is never mistaken for it."""

    pid: int
    started: int
    """Clock ticks since boot, field 22 of /proc/PID/stat."""
    group: bool = False
    """It leads a process group of its own, which ends with it."""


class Fault(msgspec.Struct, kw_only=True):
    """What is broken on one rail of one host; percentages are 0 to 100."""

    cut: str = ""
    """"link": the switch took the cable away; "interface": the host's own is down."""
    drop_in: bool = False
    drop_out: bool = False
    loss_in: float = 0.0
    loss_out: float = 0.0

    def describe(self) -> str:
        """In words, for `phalanx lab status`; empty if nothing is broken."""
        words = [f"cut ({self.cut})"] if self.cut else []
        for what, inward, outward in (
            ("drop", 100.0 * self.drop_in, 100.0 * self.drop_out),
            ("loss", self.loss_in, self.loss_out),
        ):
            share = max(inward, outward)
            if share:
                which = "" if inward == outward else (" in" if inward else " out")
                words.append(f"{what}{which}" + (f" {share:g} %" if what == "loss" else ""))
        return ", ".join(words)


class LabState(msgspec.Struct, kw_only=True):
    """Everything needed to act on a lab from another process."""

    name: str
    hosts: list[str]
    rails: list[str]
    mtu: int = 1500
    ipv6: bool = False
    offload: bool = True
    filters: str = "iptables"
    """What drops packets: "iptables" or "nft"."""
    executor: str = "ip"
    """What enters a namespace: "ip" (`ip netns exec`) or "nsenter"."""
    anchor: Process | None = None
    """In whose user and mount namespaces the lab lives; None for the machine's own."""
    holder: bool = False
    """The anchor exists only to keep the namespaces alive and ends with the lab."""
    faults: dict[str, Fault] = {}
    """Keyed "rail/host"."""
    groups: list[list[str]] = []
    """The partition: hosts of different groups do not hear each other."""
    walls: list[list[str]] = []
    """Pairs of hosts between which a firewall drops SCTP."""
    wall_port: int = 9899
    """UDP port of the encapsulation that it drops."""
    deaf: list[str] = []
    """"rail/host": no multicast comes to the host there."""
    filtered: list[str] = []
    """Hosts whose packet filter already jumps to the lab's chains."""
    processes: list[Process] = []

    def namespace(self, host: str) -> str:
        """The name of a host's network namespace, as `ip netns` shows it."""
        return f"phx-{self.name}-{self.number(host)}"

    @property
    def switch(self) -> str:
        """The namespace of the bridges."""
        return f"phx-{self.name}-switch"

    @property
    def namespaces(self) -> list[str]:
        """All namespaces of this lab."""
        return [self.namespace(host) for host in self.hosts] + [self.switch]

    def number(self, host: str) -> int:
        """The node id of a host, from 1."""
        return self.hosts.index(host) + 1

    def port(self, rail: str, host: str) -> str:
        """The switch's interface into which the host's cable goes."""
        return f"{rail}-{self.number(host)}"

    def host(self, host: str | int) -> str:
        """The name of a host given by name or by node id.

        Raises:
            UsageError: the lab has no such host.
        """
        text = str(host)
        if text in self.hosts:
            return text
        if text.isdecimal() and 1 <= int(text) <= len(self.hosts):
            return self.hosts[int(text) - 1]
        known = ", ".join(self.hosts)
        raise UsageError(f"lab {self.name!r} has no host {text!r}; its hosts are {known}")

    def rail(self, rail: str) -> str:
        """The same name, once it is known to exist.

        Raises:
            UsageError: the lab has no such rail.
        """
        if rail in self.rails:
            return rail
        known = ", ".join(self.rails)
        raise UsageError(f"lab {self.name!r} has no rail {rail!r}; its rails are {known}")

    def address(self, rail: str, host: str | int, *, ipv6: bool = False) -> str:
        """The address of a host on a rail: 10.71.0.1 is the first host on the first rail."""
        net = 71 + self.rails.index(self.rail(rail))
        number = self.number(self.host(host))
        return f"fd{net}::{number:x}" if ipv6 else f"10.{net}.0.{number}"

    def network(self, rail: str, *, ipv6: bool = False) -> str:
        """The network of a rail in CIDR notation."""
        net = 71 + self.rails.index(self.rail(rail))
        return f"fd{net}::/64" if ipv6 else f"10.{net}.0.0/24"

    def fault(self, rail: str, host: str | int) -> Fault:
        """The fault record of a rail at a host, made if there is none yet."""
        return self.faults.setdefault(f"{self.rail(rail)}/{self.host(host)}", Fault())


def new_state(hosts: int, rails: tuple[str, ...], name: str) -> LabState:
    """A description of a lab that does not exist yet.

    Raises:
        UsageError: a name or a number that cannot be built.
    """
    if not 1 <= hosts <= HOSTS_MAX:
        raise UsageError(f"a lab has 1 to {HOSTS_MAX} hosts, not {hosts}")
    if not 1 <= len(rails) <= RAILS_MAX or len(set(rails)) != len(rails):
        raise UsageError(f"a lab has 1 to {RAILS_MAX} rails of different names, not {rails!r}")
    for rail in rails:
        if not RAIL_NAME.fullmatch(rail):
            raise UsageError(f"rail {rail!r}: use 1 to 8 lower-case letters and digits")
    if not LAB_NAME.fullmatch(name):
        raise UsageError(f"lab {name!r}: use up to 32 lower-case letters, digits and dashes")
    names = HOST_NAMES[:hosts] + [f"node{i}" for i in range(len(HOST_NAMES) + 1, hosts + 1)]
    return LabState(name=name, hosts=names, rails=list(rails))


# --------------------------------------------------------------------- processes by identity


def identify(pid: int, *, group: bool = False) -> Process | None:
    """The process that has this pid now, a zombie too; None if there is none."""
    fields = _stat(pid)
    return Process(pid=pid, started=int(fields[19]), group=group) if fields else None


def exists(process: Process) -> bool:
    """Whether that very process is there, if only as a zombie."""
    fields = _stat(process.pid)
    return bool(fields) and int(fields[19]) == process.started


def alive(process: Process) -> bool:
    """Whether that very process runs (or is stopped); a zombie does not."""
    fields = _stat(process.pid)
    return bool(fields) and int(fields[19]) == process.started and fields[0] not in "ZX"


def _stat(pid: int) -> list[str]:
    """What /proc/PID/stat says behind the command's name: the state first; empty if gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name, in parentheses, may hold anything; what follows the last one is regular.
    return text.rpartition(")")[2].split()


# --------------------------------------------------------------------------------- the files


def mapped_root() -> bool:
    """Whether uid 0 stands for another user: a user namespace with a single user."""
    mapping = Path("/proc/self/uid_map").read_text().split()
    return mapping != ["0", "0", "4294967295"]


def runtime_dir() -> Path:
    """The folder of the lab files of this user; made if missing.

    Raises:
        LabUnavailable: the fallback under the temporary folder belongs to somebody else.
    """
    chosen = os.environ.get(RUNTIME_VARIABLE)
    session = os.environ.get("XDG_RUNTIME_DIR")
    if chosen:
        folder = Path(chosen)
    elif os.geteuid() == 0 and not mapped_root():
        folder = Path("/run/phalanx")
    elif session and os.access(session, os.W_OK | os.X_OK):
        folder = Path(session, "phalanx")
    else:
        folder = Path(tempfile.gettempdir(), f"phalanx-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        # Anybody may make a folder under /tmp; what it says would decide what we kill.
        raise LabUnavailable(f"{folder} belongs to another user; set {RUNTIME_VARIABLE}")
    return folder


def _file(name: str) -> Path:
    if not LAB_NAME.fullmatch(name):
        raise UsageError(f"lab {name!r}: use up to 32 lower-case letters, digits and dashes")
    return runtime_dir() / f"lab-{name}.json"


@contextmanager
def locked() -> Generator[None, None, None]:
    """One change of one lab at a time, among all processes and threads of this user."""
    handle = os.open(runtime_dir(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def load(name: str) -> LabState | None:
    """The state of that lab; None if there is no such lab (any more)."""
    try:
        raw = _file(name).read_bytes()
    except FileNotFoundError:
        return None
    state = msgspec.json.decode(raw, type=LabState)
    if state.anchor is not None and not alive(state.anchor):
        # Its namespaces went away with the process that held them.
        _file(name).unlink(missing_ok=True)
        return None
    return state


def save(state: LabState) -> None:
    """Write the state, all or nothing."""
    target = _file(state.name)
    scratch = target.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_bytes(msgspec.json.encode(state))
    scratch.replace(target)


def forget(name: str) -> None:
    """Remove the state of a lab that is no more; idempotent."""
    _file(name).unlink(missing_ok=True)


def lab_names() -> list[str]:
    """The names of all labs of this user that exist now."""
    found = (path.stem.removeprefix("lab-") for path in runtime_dir().glob("lab-*.json"))
    return sorted(name for name in found if load(name) is not None)
