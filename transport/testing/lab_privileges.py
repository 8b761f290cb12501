"""Who may build a lab: root, or anybody where unprivileged user namespaces are allowed.

Without root everything happens inside a user namespace in which the caller is "root", with
network and mount namespaces of its own and a private tmpfs on /run (for `ip netns` and the lock
of iptables). Such a world lives as long as a process in it, its *anchor*: the program itself
after `ensure_privileges`, or a holder that `phalanx lab up` leaves behind. The caller's folder
of lab files is mounted into that world, so that another terminal finds the lab and enters it.

A process that is root by mapping still has the caller's rights on the file system.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import select
import subprocess
import sys
import time
from typing import NoReturn

from .lab_netns import find_tool, tool
from .lab_processes import end
from .lab_state import (
    RUNTIME_VARIABLE,
    LabError,
    LabState,
    LabUnavailable,
    Process,
    identify,
    lab_names,
    locked,
    mapped_root,
    runtime_dir,
)
from .lab_state import load as load_state

ANCHOR_VARIABLE = "PHALANX_LAB_ANCHOR"
HOLDER_VARIABLE = "PHALANX_LAB_HOLDER"

_HOLDER_TIMEOUT_S = 10.0

_WORLD = """
set -e
PATH="$PATH:/usr/sbin:/sbin"
dir=$1; shift
case "$dir" in
/run/*|/var/run/*)
    exec 9<"$dir"
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p "$dir"
    mount --no-canonicalize --bind /proc/self/fd/9 "$dir"
    exec 9<&- ;;
*)
    mount -t tmpfs -o mode=755 tmpfs /run ;;
esac
ip link set dev lo up
PHALANX_LAB_ANCHOR=$$
export PATH PHALANX_LAB_ANCHOR
exec "$@"
"""
"""Run inside `unshare -Urnm`: $1 is the folder of lab files, the rest the command."""


@functools.cache
def capability() -> str:
    """How a lab can be built here: "root", "user namespaces" or "none: " and why."""
    for name in ("ip", "unshare", "nsenter"):
        if find_tool(name) is None:
            return f"none: the command {name!r} is missing; install iproute2 and util-linux"
    why = _obstacle()
    if not why:
        return "user namespaces" if mapped_root() else "root"
    mount = f"mount -t tmpfs tmpfs /run && {tool('ip')} netns add probe"
    refused = _try([tool("unshare"), "-Urnm", "--", "sh", "-c", mount])
    if not refused:
        return "user namespaces"
    return f"none: {why}, and user namespaces are refused ({refused}){_hint()}"


@functools.cache
def _obstacle() -> str:
    """Why this process may not build namespaces as it is; empty if it may."""
    if os.geteuid() != 0:
        return "not root"
    if not os.access("/run", os.W_OK):
        return "/run is not writable"
    return _try([tool("unshare"), "--net", "--mount", "true"])


def privileged() -> bool:
    """Whether this very process may build a lab as it is."""
    return not capability().startswith("none") and not _obstacle()


def _try(argv: list[str]) -> str:
    """Why that command fails; empty if it works."""
    try:
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout.decode(errors="replace").strip() if done.returncode else ""


def _hint() -> str:
    """Which setting of this kernel forbids user namespaces, if it is a known one."""
    known = (
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user/max_user_namespaces", "0", "10000"),
    )
    for path, forbids, allows in known:
        try:
            with open(f"/proc/sys/{path}", encoding="ascii") as file:
                value = file.read().strip()
        except OSError:
            continue
        if value == forbids:
            return f"; sysctl {path.replace('/', '.')}={allows} would allow them"
    return ""


def require() -> None:
    """Nothing, if this process can build a lab.

    Raises:
        LabUnavailable: it cannot; the message says what to do.
    """
    kind = capability()
    if kind.startswith("none"):
        raise LabUnavailable(
            f"no network namespaces here ({kind[6:]}); run as root, or allow unprivileged user "
            "namespaces (in a container: give it CAP_SYS_ADMIN and CAP_NET_ADMIN)"
        )
    if _obstacle():
        raise LabUnavailable(
            f"network namespaces need root ({_obstacle()}); run with sudo, or call "
            "ensure_privileges() first, which starts the program again in a user namespace"
        )


def ensure_privileges() -> None:
    """Return if this process may build a lab, else start its command again where it may.

    The command is executed anew under `unshare -Urnm`, so call this first thing in a program:
    nothing done before is kept, and open files are lost. The program's pid stays the same.

    Raises:
        LabUnavailable: neither root nor user namespaces; the message says what to do.
    """
    if privileged():
        return
    if ANCHOR_VARIABLE in os.environ or capability() != "user namespaces":
        # Starting again inside a world of our own would not help, or would never end.
        require()
    sys.stdout.flush()
    sys.stderr.flush()
    argv = [sys.executable, *sys.orig_argv[1:]]
    os.execve(tool("unshare"), _world(argv), _environment())


def _world(argv: list[str]) -> list[str]:
    return ["unshare", "-Urnm", "--", "sh", "-c", _WORLD, "phalanx-lab", str(runtime_dir()), *argv]


def _environment() -> dict[str, str]:
    kept = {**os.environ, RUNTIME_VARIABLE: str(runtime_dir())}
    if mapped_root() or os.geteuid() == 0:
        return kept
    # Programs name shared folders after the user, and must not take root's (pytest does).
    with contextlib.suppress(KeyError):
        kept.setdefault("LOGNAME", pwd.getpwuid(os.geteuid()).pw_name)
    return kept


def current_anchor() -> tuple[Process | None, bool]:
    """The process that keeps this one's namespaces alive, and whether it is only a holder."""
    text = os.environ.get(ANCHOR_VARIABLE, "")
    if not text.isdecimal():
        return None, False
    return identify(int(text)), os.environ.get(HOLDER_VARIABLE) == "1"


# ------------------------------------------------------------- commands in separate terminals


def enter_lab(name: str) -> None:
    """Return if that lab can be reached from this process, else go where it lives.

    Then the current command is executed anew in the lab's namespaces. An unknown lab is left to
    the caller to report.

    Raises:
        LabUnavailable: the lab belongs to root, and this is not root.
    """
    with locked():
        state = load_state(name)
    if state is None:
        return
    if state.anchor is None:
        require()
    elif not _same_world(state):
        _execute_in(state.anchor.pid, holder=state.holder)


def start_holder_and_enter() -> None:
    """Make a world without root that outlives this command, and run the command in it.

    Returns if this process may build a lab as it is.

    Raises:
        LabUnavailable: neither root nor user namespaces.
        LabError: the holder did not start.
    """
    if privileged():
        return
    if capability() != "user namespaces":
        require()
    holder = subprocess.Popen(
        _world(["sh", "-c", "echo ready; exec sleep infinity </dev/null >/dev/null 2>&1"]),
        executable=tool("unshare"),
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert holder.stdout is not None, "asked for a pipe"
    deadline = time.monotonic() + _HOLDER_TIMEOUT_S
    ready = select.select([holder.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]
    if not ready or holder.stdout.readline() != b"ready\n":
        holder.kill()
        holder.wait()
        raise LabError("the process that holds the namespaces did not start")
    _execute_in(holder.pid, holder=True)


def release_holder() -> None:
    """End the holder in whose world this command runs, if no lab lives there."""
    anchor, holder = current_anchor()
    if anchor is None or not holder:
        return
    with locked():
        states = [load_state(name) for name in lab_names()]
    if not any(state is not None and state.anchor == anchor for state in states):
        end([anchor], [])


def _same_world(state: LabState) -> bool:
    assert state.anchor is not None, "the caller has looked"
    try:
        theirs = os.stat(f"/proc/{state.anchor.pid}/ns/mnt").st_ino
    except OSError:
        # Without ptrace rights over it we are outside its user namespace.
        return False
    return theirs == os.stat("/proc/self/ns/mnt").st_ino


def _execute_in(anchor: int, *, holder: bool) -> NoReturn:
    environment = _environment() | {
        ANCHOR_VARIABLE: str(anchor),
        HOLDER_VARIABLE: "1" if holder else "0",
        "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
    }
    sys.stdout.flush()
    sys.stderr.flush()
    argv = ["nsenter", "--user", "--net", "--mount", "--target", str(anchor)]
    argv += ["--preserve-credentials", "--", "sh", "-c", 'cd "$0" && exec "$@"', os.getcwd()]
    os.execve(tool("nsenter"), [*argv, sys.executable, *sys.orig_argv[1:]], environment)
