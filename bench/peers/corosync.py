"""corosync: one daemon a host over both rails, and members that talk to it through libcpg.

Its defaults in everything but encryption, which phalanx has not either: knet over UDP, passive
links, real-time priority as far as it is allowed. Each daemon has a /run, a /dev/shm and a
/var/lib/corosync of its own, for it believes to be alone on its machine.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from phalanx.barrier.demo_signals import finished
from phalanx.transport.testing.lab_netns import find_tool

from .client import Client
from .failure import BenchFailed
from .lines import Task
from .machine import first_line, missing_tools
from .stage import Stage

SIZE_MAX = 1_047_552
"""The largest message of a group (cpg_max_atomic_msgsize_get)."""
_JOIN_S = 45.0
_LOOK_EVERY_S = 0.25
_END_S = 5.0
_DAEMON = """
set -e
mount -t tmpfs -o size=2g tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/corosync
mkdir -p /run/corosync
# Without that right it runs all the same, in memory that may be paged out.
ulimit -l unlimited 2>/dev/null || true
exec "$0" -f -c "$1"
"""
"""Run inside `unshare -m`: the daemon, and its configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What differs from corosync's defaults."""

    name: str = ""
    totem: tuple[str, ...] = ()
    """Lines of its section `totem`."""
    interface: tuple[str, ...] = ()
    """Lines for each rail."""
    settle_s: float = 0.0
    """So long after its links are up nothing is to break: knet then gives them more time."""


_AS_IT_COMES = Tuning()
DEFAULTS = Tuning(settle_s=13.0)
TUNED = Tuning(
    name="tuned",
    totem=("token: 400",),
    interface=("knet_ping_interval: 200", "knet_ping_timeout: 400", "knet_pong_count: 1"),
    settle_s=13.0,
)
"""As short as it can be without links that flap by themselves."""
ACTIVE = Tuning(name="active links", totem=("link_mode: active",), settle_s=13.0)
"""Each packet goes over every link."""


class Corosync:
    """The peer that orders messages, and whose members build a barrier from one message each."""

    notices_s = 12.0

    def __init__(self, tuning: Tuning = _AS_IT_COMES) -> None:
        """As it comes, or with a tuning; of those here each waits for its links to settle."""
        self.name = f"corosync, {tuning.name}" if tuning.name else "corosync"
        self._tuning = tuning
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._of_host: dict[str, subprocess.Popen[bytes]] = {}
        self._client = Client(
            peer="corosync",
            source="cpg_bench.c",
            library="cpg",
            probe="#include <corosync/cpg.h>\nint main(void) { return cpg_finalize(0); }\n",
        )

    def missing(self) -> list[str]:
        """What is not installed here, each with what to do about it."""
        found = missing_tools(
            corosync="corosync", corosync_cmapctl="corosync", unshare="util-linux"
        )
        return [*found, *self._client.missing()]

    def version(self) -> str:
        """Of the daemon."""
        found = re.search(r"\d+(\.\d+)+", first_line("corosync", "-v"))
        return found[0] if found else "unknown"

    @contextmanager
    def up(self, stage: Stage, nodes: int) -> Generator[None, None, None]:
        """Daemons that see each other over every rail, until the end of the context."""
        self._client.compiled(stage)  # before the daemons: a compiler would disturb them
        try:
            for host in stage.hosts(nodes):
                self._start(stage, host, nodes)
            self._await_links(stage, nodes)
            time.sleep(self._tuning.settle_s)  # until then knet gives links more time
            yield
        finally:
            self._end()

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """Members run where they see the files of their daemon."""
        client = self._client.compiled(stage)
        numbers = (task.nodes, task.count, task.size_bytes, task.warm_up_ns, task.window_ns)
        arguments = [task.kind, *map(str, numbers), str(task.life_s)]
        return [[*self._beside(daemon), client, *arguments] for daemon in self._daemons]

    def kill(self, host: str) -> None:
        """The daemon of a host; what else is there does not notice before."""
        self._of_host[host].kill()

    # ---------------------------------------------------------------------------- the daemons

    def _start(self, stage: Stage, host: str, nodes: int) -> None:
        config = stage.folder / f"corosync-{host}.conf"
        config.write_text(configuration(stage, host, nodes, self._tuning), encoding="utf-8")
        daemon = find_tool("corosync")
        assert daemon is not None, "asked for before anything was started"
        argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", _DAEMON, daemon]
        nothing = subprocess.DEVNULL
        with (stage.folder / f"corosync-{host}.err").open("wb") as errors, finished():
            child = stage.lab.spawn(
                host, [*argv, str(config)], stdin=nothing, stdout=errors, stderr=errors
            )
            self._daemons.append(child)
            self._of_host[host] = child

    def _beside(self, daemon: subprocess.Popen[bytes]) -> list[str]:
        return ["nsenter", "-t", str(daemon.pid), "-m", "--"]

    def _await_links(self, stage: Stage, nodes: int) -> None:
        """Until every daemon has all members, and has measured what each link can carry."""
        deadline = time.monotonic() + _JOIN_S
        for host, daemon in zip(stage.hosts(nodes), self._daemons, strict=True):
            while not _all_linked(self._map(stage, host, daemon), nodes, len(stage.lab.rails)):
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise BenchFailed(f"corosync on {host}: {_trouble(stage, host, daemon)}")
                time.sleep(_LOOK_EVERY_S)

    def _map(self, stage: Stage, host: str, daemon: subprocess.Popen[bytes]) -> Mapping[str, str]:
        """What the daemon says of itself; nothing as long as it does not answer."""
        entries: dict[str, str] = {}
        for arguments in ([], ["-m", "stats"]):
            argv = [*self._beside(daemon), "corosync-cmapctl", *arguments]
            try:
                done = stage.lab.run(host, argv, timeout=5.0, check=False)
            except subprocess.TimeoutExpired:
                return {}
            for line in done.stdout.splitlines():
                key, _, value = line.partition(" = ")
                entries[key.partition(" (")[0]] = value
        return entries

    def _end(self) -> None:
        for daemon in self._daemons:
            daemon.terminate()
        deadline = time.monotonic() + _END_S
        for daemon in self._daemons:
            try:
                daemon.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()
        self._of_host.clear()


def configuration(stage: Stage, host: str, nodes: int, tuning: Tuning = _AS_IT_COMES) -> str:
    """The daemon's file: both rails, no encryption, and no more that is not the default."""
    lines = ["totem {", "  version: 2", "  cluster_name: bench", "  transport: knet"]
    lines += ["  crypto_cipher: none", "  crypto_hash: none"]
    lines += [f"  {line}" for line in tuning.totem]
    for number in range(len(stage.lab.rails) if tuning.interface else 0):
        lines += ["  interface {", f"    linknumber: {number}"]
        lines += [*(f"    {line}" for line in tuning.interface), "  }"]
    lines += ["}", "nodelist {"]
    for each in stage.hosts(nodes):
        lines += ["  node {", f"    name: {each}", f"    nodeid: {stage.lab.node_id(each)}"]
        for number, rail in enumerate(stage.lab.rails):
            lines.append(f"    ring{number}_addr: {stage.lab.address(rail, each)}")
        lines.append("  }")
    log = stage.folder / f"corosync-{host}.log"
    lines += ["}", "logging {", "  to_stderr: no", "  to_syslog: no", "  to_logfile: yes"]
    return "\n".join([*lines, f"  logfile: {log}", "}", ""])


def _all_linked(entries: Mapping[str, str], nodes: int, rails: int) -> bool:
    joined = sum(
        re.fullmatch(r"runtime\.members\.\d+\.status", key) is not None and value == "joined"
        for key, value in entries.items()
    )
    measured = sum(
        re.fullmatch(r"stats\.knet\.node\d+\.link\d+\.mtu", key) is not None and int(value) > 0
        for key, value in entries.items()
    )
    return joined == nodes and measured >= (nodes - 1) * rails


def _trouble(stage: Stage, host: str, daemon: subprocess.Popen[bytes]) -> str:
    status = daemon.poll()
    if status is None:
        what = f"not linked to all others within {_JOIN_S:g} s"
    else:
        what = f"the daemon ended with status {status}"
    lines = [what]
    for suffix in ("err", "log"):
        with contextlib.suppress(OSError):
            text = (stage.folder / f"corosync-{host}.{suffix}").read_text(errors="replace")
            lines += text.splitlines()[-8:]
    return "\n".join(lines)
