"""What every test shares: the report of what this machine can do, and the lab's fixtures.

A test that needs more than Python says so: by the markers `netns` and `kernel`, or by
`require("usrsctp", "multicast")` through the fixture of that name. Where a capability is missing
the test is skipped with the reason, and the closing summary counts it. With
`PHALANX_REQUIRE_ALL=1` (`make test` sets it where namespaces can be had) nothing may be skipped:
a missing capability, and any other skip, fails.

`PHALANX_MISSING=kernel,multicast` plays a machine that lacks these.
"""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import socket
import struct
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol

import pytest

from phalanx.transport.testing.lab import capability as lab_capability

# Hosts on rails (`lab`, `make_lab`); starts pytest again in a user namespace where it has to.
pytest_plugins = ["phalanx.transport.testing.fixtures"]

_ADMIN_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
_MULTICAST_GROUP = "239.255.77.1"
_MULTICAST_DEADLINE_S = 2.0

Probe = Callable[[], str]
"""Says how a capability is had; raises `_MissingError` with the reason and the remedy."""


class _MissingError(Exception):
    pass


class Require(Protocol):
    """Type of the fixture `require`."""

    def __call__(self, *names: str) -> None:
        """Skip the test (or fail it, see the module) unless all these capabilities are here."""
        ...


# ------------------------------------------------------------------------------ the probes


def _netns() -> str:
    kind = lab_capability()
    if kind.startswith("none"):
        raise _MissingError(kind.removeprefix("none: "))
    return kind


def _kernel() -> str:
    """Kernel SCTP: our own kernel's, else that of a guest which the tests boot."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        pass
    else:
        return "native"
    tools = {"qemu-system-x86_64": "qemu-system-x86", "depmod": "kmod", "apt-get": "apt"}
    for tool, package in tools.items():
        if shutil.which(tool, path=_ADMIN_PATH) is None:
            raise _MissingError(f"this kernel has no SCTP, and a guest needs {tool} ({package})")
    return "guest"


def _extension(name: str) -> str:
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise _MissingError(
            f"{name} is not built ({error}); run: PHALANX_NATIVE=require .venv/bin/pip install -e ."
        ) from error
    return "yes"


def _multicast() -> str:
    """One datagram to a group on the loopback interface."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        try:
            receiver.bind((_MULTICAST_GROUP, 0))
            joined = socket.inet_aton(_MULTICAST_GROUP) + socket.inet_aton("127.0.0.1")
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
            receiver.settimeout(_MULTICAST_DEADLINE_S)
            sender.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1")
            )
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, struct.pack("B", 0))
            sender.sendto(b"probe", (_MULTICAST_GROUP, receiver.getsockname()[1]))
            receiver.recv(16)
        except OSError as error:
            raise _MissingError(f"no multicast on the loopback interface ({error})") from error
    return "yes"


_PROBES: dict[str, Probe] = {
    "netns": _netns,
    "kernel": _kernel,
    "codec": functools.partial(_extension, "phalanx._native._codec"),
    "usrsctp": functools.partial(_extension, "phalanx._native._usrsctp"),
    "multicast": _multicast,
}
_MARKERS = ("netns", "kernel")


@functools.cache
def _probe(name: str) -> tuple[bool, str]:
    """Whether the capability is here, and how it is had or why it is missing."""
    if name not in _PROBES:
        raise pytest.UsageError(f"no capability {name!r}; there are: {', '.join(_PROBES)}")
    if name in os.environ.get("PHALANX_MISSING", "").split(","):
        return False, "PHALANX_MISSING says so"
    try:
        return True, _PROBES[name]()
    except _MissingError as missing:
        return False, str(missing)


def _all_required() -> bool:
    return os.environ.get("PHALANX_REQUIRE_ALL", "0") not in ("", "0")


# --------------------------------------------------------------------- asking for capabilities

_turned_away: Counter[str] = Counter()


def _require(*names: str) -> None:
    for name in names:
        present, text = _probe(name)
        if present:
            continue
        _turned_away[name] += 1
        reason = f"missing capability {name}: {text}"
        if _all_required():
            pytest.fail(f"{reason} (PHALANX_REQUIRE_ALL is set)", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def require() -> Require:
    """`require("kernel", "netns")`: go on only on a machine that has these."""
    return _require


def pytest_addoption(parser: pytest.Parser) -> None:
    """What single suites are asked to do; only here are options known wherever pytest starts."""
    parser.addoption(
        "--rewrite-traces",
        action="store_true",
        help="write the traces of tests/traces anew instead of comparing them",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tests with the marker `kernel`, wherever they are, run on a kernel that has SCTP."""
    if (Path(__file__).parent / "kernel").is_dir():  # a copy beside a small suite has none
        remote = importlib.import_module(".kernel.remote", package=__package__)
        remote.register(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What wants the compiled build comes last: it is made beside the other tests."""
    wanting = Path(__file__).parent / "bench"
    items.sort(key=lambda item: wanting in item.path.parents)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The markers ask for the capability of the same name."""
    for name in _MARKERS:
        if item.get_closest_marker(name) is not None:
            _require(name)


# ------------------------------------------------------------------------- no silent skipping


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything is required, a skip of whatever origin is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _all_required():
        report.outcome = "failed"
        report.longrepr = f"skipped, and PHALANX_REQUIRE_ALL is set: {_skip_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file that skips itself as a whole."""
    report = yield
    if report.skipped and _all_required():
        report.outcome = "failed"
        report.longrepr = f"skipped, and PHALANX_REQUIRE_ALL is set: {_skip_reason(report)}"
    return report


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return report.longreprtext


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The long figures of tests/prove/ run only when they are named (`make prove`)."""
    if collection_path != Path(__file__).parent / "prove":
        return None
    named = (Path(config.invocation_params.dir, arg.split("::")[0]) for arg in config.args)
    return not any(path == collection_path or collection_path in path.parents for path in named)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what this machine can do, and how many tests something missing turned away."""
    present: list[str] = []
    missing: list[str] = []
    for name in _PROBES:
        has, text = _probe(name)
        if has:
            present.append(f"{name}: {text}")
        else:
            missing.append(name)
    line = " | ".join([*present, f"missing: {', '.join(missing) or 'nothing'}"])
    terminalreporter.write_line(f"capabilities: {line}")
    for name in missing:
        count = _turned_away[name]
        did = "failed" if _all_required() else "skipped"
        terminalreporter.write_line(f"  {name}: {count} tests {did}: {_probe(name)[1]}")
