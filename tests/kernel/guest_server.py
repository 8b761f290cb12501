"""Runs in the guest as process 1: executes one command at a time for the host.

Each line on the virtio-serial port is one JSON object. The host sends `{"argv", "cwd", "env",
"limit_s"}`, or `{"off": true}`; the guest answers with any number of `{"out": text}` and one
`{"status": n, "killed": bool}`. It begins with `{"ready": kernel release}`. Uses nothing but
the standard library, so that it starts quickly under emulation.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PORT_NAME = "phalanx.jobs"
REAP_LIMIT_S = 5.0


def main() -> None:
    """Serve until told to power off."""
    channel: int = open_port()
    send(channel, {"ready": os.uname().release})
    pending: bytes = b""
    while True:
        chunk = os.read(channel, 65536)
        if not chunk:
            # The host is not connected (yet); poll() cannot wait for that.
            time.sleep(0.02)
            continue
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            request: dict[str, Any] = json.loads(line)
            if request.get("off"):
                power_off()
            execute(channel, request)


def open_port() -> int:
    """Open the virtio-serial port that carries the jobs."""
    for name in Path("/sys/class/virtio-ports").glob("*/name"):
        if name.read_text().strip() == PORT_NAME:
            return os.open(f"/dev/{name.parent.name}", os.O_RDWR | os.O_CLOEXEC)
    sys.exit("there is no virtio-serial port for the jobs")


def send(channel: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(channel, data) :]


def execute(channel: int, request: dict[str, Any]) -> None:
    """Run one command to its end or its limit, and leave nothing of it behind."""
    try:
        process = subprocess.Popen(
            request["argv"],
            cwd=request["cwd"],
            env={**os.environ, **request["env"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        send(channel, {"out": f"cannot start {request['argv'][0]}: {error}\n"})
        send(channel, {"status": 127, "killed": False})
        return
    assert process.stdout is not None, "stdout is a pipe"
    killed = follow(
        channel, process, process.stdout.fileno(), time.monotonic() + request["limit_s"]
    )
    process.stdout.close()
    clean_up()
    send(channel, {"status": process.returncode, "killed": killed})


def follow(channel: int, process: subprocess.Popen[bytes], pipe: int, deadline: float) -> bool:
    """Forward output until the process has ended; True if it had to be killed."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    exited = os.pidfd_open(process.pid)
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    poller.register(exited, select.POLLIN)
    killed = False
    while True:
        wait_ms = max(0.0, deadline - time.monotonic()) * 1000
        ready = {fd for fd, _ in poller.poll(wait_ms)}
        if pipe in ready:
            data = os.read(pipe, 65536)
            if data:
                send(channel, {"out": decoder.decode(data)})
                continue
            poller.unregister(pipe)
        if exited in ready:
            break
        if time.monotonic() >= deadline:
            killed = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            deadline = time.monotonic() + REAP_LIMIT_S
    process.wait()
    os.close(exited)
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while data := os.read(pipe, 65536):
            send(channel, {"out": decoder.decode(data)})
    return killed


def clean_up() -> None:
    """End what the job left running and remove its network namespaces."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            # Orphans become children of process 1; kernel threads are children of 2.
            if parent == 1:
                os.kill(int(stat.parent.name), signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    spaces = Path("/run/netns")
    if spaces.is_dir() and any(spaces.iterdir()):
        subprocess.run(["ip", "-all", "netns", "delete"], check=False, stdin=subprocess.DEVNULL)


def power_off() -> None:
    Path("/proc/sysrq-trigger").write_text("o")
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
