"""Labs come up quickly, live side by side and leave nothing behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from phalanx.transport import config_file
from phalanx.transport.errors import UsageError
from phalanx.transport.testing import lab_state
from phalanx.transport.testing.fixtures import MakeLab
from phalanx.transport.testing.lab import Lab, LabError, freeze, lab_names, thaw

Arrived = Callable[..., int]

pytestmark = pytest.mark.netns

STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("on", flush=True)
sys.stdin.read()
"""


def left_behind(name: str) -> list[str]:
    """What there still is of a lab: namespaces, and files in the folder of labs."""
    namespaces = [entry for entry in os.listdir("/run/netns") if entry.startswith(f"phx-{name}-")]
    return namespaces + [path.name for path in lab_state.runtime_dir().glob(f"lab-{name}.*")]


@pytest.mark.parametrize(("hosts", "seconds"), [(3, 1), (16, 3)])
def test_building_is_quick(make_lab: MakeLab, hosts: int, seconds: int) -> None:
    """Failover tests build a lab each; the best of three, as other work may delay one."""
    times: list[float] = []
    for _ in range(3):
        started = time.monotonic()
        make_lab(hosts=hosts)
        times.append(time.monotonic() - started)
    assert min(times) < seconds


def test_nothing_is_made_in_the_machines_own_namespace(lab: Lab) -> None:
    """Names and addresses of the user's machine are not ours to touch."""
    mine = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert "rail-" not in mine
    assert "rail-a" in lab.run("alpha", ["ip", "-br", "link"]).stdout


def test_two_labs_live_side_by_side(make_lab: MakeLab, arrived: Arrived) -> None:
    """The same addresses in two labs are two networks."""
    one, two = make_lab(hosts=2), make_lab(hosts=2)
    assert {one.name, two.name} <= set(lab_names())
    one.drop("a", "alpha")
    assert arrived(one, "a", "alpha", "bravo") == 0
    assert arrived(two, "a", "alpha", "bravo") == 20
    one.down()
    assert arrived(two, "a", "alpha", "bravo") == 20


def test_down_leaves_nothing_behind_and_can_be_repeated() -> None:
    """Processes that ignore SIGTERM or are stopped end too, within seconds."""
    lab = Lab(hosts=2)
    with lab:
        stubborn = lab.spawn(
            "alpha",
            [sys.executable, "-c", STUBBORN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert stubborn.stdin is not None
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == b"on\n"
        stopped = lab.spawn("bravo", ["sleep", "600"])
        freeze(stopped)
        with_child = lab.spawn(
            "bravo", ["sh", "-c", "sleep 601 & echo $!; wait"], stdout=subprocess.PIPE
        )
        assert with_child.stdout is not None
        grandchild = os.pidfd_open(int(with_child.stdout.readline()))
        assert left_behind(lab.name)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert left_behind(lab.name) == []
    assert stubborn.returncode == -signal.SIGKILL
    assert stopped.returncode == -signal.SIGTERM
    assert select.select([grandchild], [], [], 2)[0], "the grandchild must have ended, too"
    os.close(grandchild)
    stubborn.stdin.close()
    stubborn.stdout.close()
    with_child.stdout.close()
    lab.down()


def test_down_spares_processes_that_the_lab_did_not_start(lab: Lab) -> None:
    """A user's own process in a host's namespace, or anywhere else, is not ours to kill."""
    inside = ["sh", "-c", "echo inside; exec sleep 600"]
    foreign = subprocess.Popen(lab.command("alpha", inside), stdout=subprocess.PIPE)
    assert foreign.stdout is not None
    try:
        assert foreign.stdout.readline() == b"inside\n", "it must be there before the host goes"
        lab.down()
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()
        foreign.stdout.close()


def test_a_failed_build_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a lab would make the next start fail."""
    lab = Lab(hosts=2)

    def never(timeout: float = 0) -> None:
        raise LabError(f"no traffic {timeout}")

    monkeypatch.setattr(lab, "wait_ready", never)
    with pytest.raises(LabError, match="no traffic"):
        lab.up()
    assert left_behind(lab.name) == []


def test_readiness_names_who_is_silent(lab: Lab) -> None:
    """The check is of traffic, and its error says where to look."""
    lab.drop("b", "charlie")
    with pytest.raises(LabError, match=r"no traffic after 0.1 s: rail b at charlie$"):
        lab.wait_ready(0.1)


def test_another_process_can_act_on_the_lab_by_name(lab: Lab, arrived: Arrived) -> None:
    """`phalanx lab` in another terminal and the program share the file, not memory."""
    other = Lab.open(lab.name)
    other.drop("a", "alpha")
    lab.drop("a", "bravo")
    lab.heal("a", "bravo")
    assert arrived(lab, "a", "alpha", "bravo") == 0, "healing bravo kept alpha's drop"
    with pytest.raises(LabError, match="is up already"):
        Lab(name=lab.name).up()
    other.down()
    with pytest.raises(LabError, match="is not up"):
        lab.cut("a", "alpha")
    with pytest.raises(LabError, match="there is no lab"):
        Lab.open(lab.name)


def test_spawn_runs_in_the_hosts_namespace(lab: Lab) -> None:
    """Else a test of a cut cable would test nothing."""
    for host in lab.hosts:
        shown = lab.run(host, ["ip", "-br", "address", "show", "dev", "rail-b"]).stdout
        assert f"{lab.address('b', host)}/24" in shown
    process = lab.spawn("bravo", ["sleep", "600"])
    there = lab.within("bravo", lambda: os.stat("/proc/thread-self/ns/net").st_ino)
    deadline = time.monotonic() + 5
    while os.stat(f"/proc/{process.pid}/ns/net").st_ino != there:  # until it has entered
        assert time.monotonic() < deadline
    assert os.stat("/proc/self/ns/net").st_ino != there
    with pytest.raises(FileNotFoundError, match="no-such-command"):
        lab.spawn("bravo", ["no-such-command"])


def test_a_frozen_process_does_nothing_until_thawed(lab: Lab) -> None:
    """A stopped peer is the failure that its kernel hides: its acknowledgements go on."""
    process = lab.spawn("alpha", ["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"one\n"
        freeze(process)
        process.stdin.write(b"two\n")
        process.stdin.flush()
        assert not select.select([process.stdout], [], [], 0.1)[0]
        thaw(process)
        assert process.stdout.readline() == b"two\n"


def test_the_cluster_file_describes_the_hosts(make_lab: MakeLab, tmp_path: Path) -> None:
    """It is read by the same loader as a user's, with every override in its place."""
    lab = make_lab(hosts=3, rails=("a", "b", "c"), ipv6=True)
    path = lab.cluster_toml(tmp_path / "cluster.toml")
    raw = tomllib.loads(path.read_text())
    assert [rail["network"] for rail in raw["rail"]] == [f"10.7{n}.0.0/24" for n in (1, 2, 3)]
    assert raw["node"][2] == {
        "name": "charlie",
        "id": 3,
        "addresses": {"a": "10.71.0.3", "b": "10.72.0.3", "c": "10.73.0.3"},
        "port": 5405,
        "udp_port": 9899,
    }
    config = config_file.load(path)
    assert config.name == f"lab-{lab.name}"
    assert Path(config.state_dir) == tmp_path / "cluster.state"
    changed = config_file.load(
        lab.cluster_toml(
            tmp_path / "other.toml",
            name='"mine"',
            hosts=2,
            ipv6=True,
            udp_port=9900,
            driver="user_sctp",
            timing={"profile": "lan-fast"},
        )
    )
    assert (changed.name, changed.driver, len(changed.nodes)) == ('"mine"', "user_sctp", 2)
    assert changed.node("bravo").addresses["b"] == "fd72::2"
    assert changed.node(1).udp_port == 9900
    assert changed.timing.profile == "lan-fast"


def test_limits_of_a_lab() -> None:
    """At each limit it can be described, one past it is refused with the range."""
    assert len(Lab(hosts=64, rails=tuple("abcdefgh")).hosts) == 64
    for hosts in (0, 65):
        with pytest.raises(UsageError, match="1 to 64 hosts"):
            Lab(hosts=hosts)
    with pytest.raises(UsageError, match="1 to 8 rails"):
        Lab(rails=tuple("abcdefghi"))
    with pytest.raises(UsageError, match="different names"):
        Lab(rails=("a", "a"))
    with pytest.raises(UsageError, match="1 to 8 lower-case"):
        Lab(rails=("rail-with-long-name",))
    with pytest.raises(UsageError, match="up to 32"):
        Lab(name="../etc")
    with pytest.raises(UsageError, match="1280 to 65535"):
        Lab(mtu=1279, ipv6=True)
