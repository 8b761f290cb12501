"""The C side of the user_sctp driver under the address and undefined-behaviour sanitizers.

Its threads and timers look at the clock: starved, usrsctp cannot be stopped in time.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
NATIVE = TESTS.parent / "_native"
PARTS = ("stack", "ready", "socket", "link", "end", "poll")
PORTS = 9
"""The program's own, and one for each of its diallers."""
RUN_S = 120


def free_udp_ports(count: int) -> list[int]:
    """UDP ports that nobody has now."""
    probes = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for probe in probes:
        probe.bind(("0.0.0.0", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def test_the_c_side_is_clean_under_sanitizers(tmp_path: Path, require: Callable[..., None]) -> None:
    """Anybody can send to its port, and its threads share memory with Python: no read or write
    out of bounds, no use after free, no leak, whatever comes in."""
    require("usrsctp")
    program = tmp_path / "usrsctp_asan"
    subprocess.run(
        [
            os.environ.get("CC", "cc"),
            *("-std=c11", "-D_GNU_SOURCE", "-DINET", "-DINET6"),
            *("-O1", "-g", "-Wall", "-Wextra", "-Werror"),
            *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
            f"-I{NATIVE}",
            str(TESTS / "native" / "usrsctp_asan.c"),
            *(str(NATIVE / f"usrsctp_{part}.c") for part in PARTS),
            *("-lusrsctp", "-lpthread", "-o", str(program)),
        ],
        check=True,
    )
    done = subprocess.run(
        [str(program), *map(str, free_udp_ports(PORTS))],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == "clean\n"
