"""Without privileges a lab lives in a user namespace, and other terminals find it there.

The programs here run without any capability, as an ordinary user's do. Their user id stays as
it is, so that they may read the checkout wherever it is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx.transport.testing.lab_privileges import ANCHOR_VARIABLE, HOLDER_VARIABLE
from phalanx.transport.testing.lab_state import RUNTIME_VARIABLE, Process, alive

pytestmark = pytest.mark.netns

POWERLESS = ["setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all"]
"""Linux 5.12 and later let uid 0 (and only it) be mapped by CAP_SETFCAP only; it opens nothing."""

PROGRAM = """
import os, sys
from phalanx.transport.testing.lab import Lab, capability, ensure_privileges
ensure_privileges()
with Lab(hosts=2, ipv6=True) as lab:
    lab.loss("a", 1, 10)
    lab.drop("b", 2, "out")
    lab.cut("a", 2)
    lab.heal_all()
    lab.wait_ready(2)
    print(capability(), sys.argv[1:], lab.state.anchor.pid == os.getpid())
"""

REFUSED = """
from phalanx.transport.testing.lab import Lab, LabUnavailable, ensure_privileges
for attempt in (ensure_privileges, Lab().up):
    try:
        attempt()
    except LabUnavailable as error:
        print(error)
"""

COMMAND_LINE = "from phalanx.barrier.cli_lab import lab_app; lab_app()"

INNER_TEST = """
def test_inside(lab):
    assert lab.hosts == ("alpha", "bravo", "charlie")
def test_loopback_works():
    import socket
    with socket.create_server(("127.0.0.1", 0)):
        pass
"""


def powerless(
    argv: list[str], folder: Path, *, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python without capabilities; its lab files are kept in `folder`."""
    environment = os.environ | {RUNTIME_VARIABLE: str(folder / "labs"), "COLUMNS": "120"}
    for variable in (ANCHOR_VARIABLE, HOLDER_VARIABLE, "PYTEST_ADDOPTS"):
        environment.pop(variable, None)
    return subprocess.run(
        [*POWERLESS, sys.executable, *argv],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_program_starts_itself_again_where_it_may_build_a_lab(tmp_path: Path) -> None:
    """`phalanx demo` must work for users who are not root, with its arguments kept."""
    done = powerless(["-c", PROGRAM, "one", "two words"], tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == (
        "user namespaces ['one', 'two words'] True\n",
        "",
        0,
    )
    assert list((tmp_path / "labs").iterdir()) == []


def test_commands_in_separate_terminals_act_on_one_lab(tmp_path: Path) -> None:
    """A holder keeps the namespaces between commands and ends with the lab."""

    def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
        return powerless(["-c", COMMAND_LINE, *arguments], tmp_path, cwd=tmp_path)

    done = lab("up", "--config", "cluster.toml", "--hosts", "2")
    assert done.returncode == 0, done.stderr
    state = json.loads((tmp_path / "labs" / "lab-lab.json").read_text())
    holder = Process(**state["anchor"])
    try:
        assert alive(holder)
        assert (tmp_path / "cluster.toml").exists()
        assert lab("cut", "a", "alpha").returncode == 0
        assert "10.71.0.1 cut (link)" in lab("status").stdout
        shown = lab("run", "alpha", "--", "ip", "-br", "link", "show", "dev", "rail-a").stdout
        assert "NO-CARRIER" in shown
        assert lab("run", "bravo", "--", "sh", "-c", "exit 7").returncode == 7
        assert lab("block", "alpha", "bravo").returncode == 0
        assert lab("deafen", "b", "bravo").returncode == 0
        shown = " ".join(lab("status").stdout.split())
        assert "no SCTP between: alpha-bravo" in shown
        assert "hears no multicast" in re.sub(r"[│ ]+", " ", shown)
        assert lab("heal").returncode == 0
        shown = lab("status").stdout
        assert "cut" not in shown
        assert "SCTP" not in shown
        again = lab("up")
        assert (again.returncode, "is up already" in again.stderr) == (1, True)
    finally:
        down = lab("down")
    assert (down.returncode, down.stdout) == (0, "lab lab is down\n")
    assert not alive(holder)
    assert list((tmp_path / "labs").iterdir()) == []
    gone = lab("status")
    assert (gone.returncode, "there is no lab 'lab'" in gone.stderr) == (1, True)


def test_pytest_starts_itself_again_for_tests_with_a_lab(tmp_path: Path) -> None:
    """Users of the fixtures run plain `pytest`; its output must arrive all the same."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    (tmp_path / "conftest.py").write_text(
        'pytest_plugins = ["phalanx.transport.testing.fixtures"]\n'
    )
    (tmp_path / "test_inner.py").write_text(INNER_TEST)
    arguments = ["-m", "pytest", "-p", "no:cacheprovider", "-q", "test_inner.py"]
    done = powerless(arguments, tmp_path, cwd=tmp_path)
    assert "phalanx: starting pytest again in a user namespace" in done.stdout
    assert "2 passed" in done.stdout
    assert done.returncode == 0


def test_where_nothing_is_allowed_the_error_says_what_to_do(tmp_path: Path) -> None:
    """It must not hang, loop or be a bare EPERM; and lab tests fail instead of being skipped."""
    script = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    forbidden = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]
    argv = [*forbidden, *POWERLESS, sys.executable]
    environment = os.environ | {RUNTIME_VARIABLE: str(tmp_path / "labs")}
    environment.pop(ANCHOR_VARIABLE, None)
    done = subprocess.run(
        [*argv, "-c", REFUSED], env=environment, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("no network namespaces here")
        assert "sysctl user.max_user_namespaces=10000 would allow them" in line
        assert "run as root" in line
    (tmp_path / "test_inner.py").write_text(INNER_TEST)
    plugin = ["-p", "phalanx.transport.testing.fixtures", "-p", "no:cacheprovider"]
    tested = subprocess.run(
        [*argv, "-m", "pytest", "-q", *plugin, "test_inner.py"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed, 1 error" in tested.stdout or "1 failed, 1 passed" in tested.stdout
    assert "this test needs hosts and rails: no network namespaces here" in tested.stdout
