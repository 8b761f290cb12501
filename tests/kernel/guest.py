"""Runs commands on a kernel that has SCTP: this machine's own, or one in a QEMU guest.

The guest boots Debian's kernel under software emulation with this machine's root file system,
read-only, over 9p, so the same Python and the same virtual environment run in it (about 17
times slower). It is booted once and takes one command at a time.
"""

from __future__ import annotations

import abc
import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .image import Image, prepare, start_script, tool

HERE = Path(__file__).parent
BOOT_LIMIT_S = 180.0
"""Ten seconds are usual; a busy machine with two cores may need a minute."""
KILL_GRACE_S = 20.0
"""The guest kills a job at its limit; past this the guest itself is taken for hung."""

OnOutput = Callable[[str], None]


class GuestError(Exception):
    """The guest did not boot or died; the message holds the end of its console."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one command ended."""

    status: int
    """Exit status; negative for a signal."""
    killed: bool
    """It was still running at its limit."""
    output: str
    """Standard output and standard error, mixed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One command; the guest gets it as JSON with these names."""

    argv: list[str]
    cwd: str
    env: dict[str, str]
    """On top of the environment that is there."""
    limit_s: float


class Runner(abc.ABC):
    """Where a command runs on a kernel with SCTP, as root of its own network namespaces."""

    description: str

    def run(
        self,
        argv: Sequence[str],
        *,
        limit_s: float,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        on_output: OnOutput | None = None,
    ) -> Outcome:
        """Execute a command to its end, or kill it at `limit_s`.

        Raises:
            GuestError: the guest died or hangs.
        """
        pieces: list[str] = []

        def said(text: str) -> None:
            pieces.append(text)
            if on_output is not None:
                on_output(text)

        job = Job(argv=list(argv), cwd=str(cwd or Path.cwd()), env=dict(env or {}), limit_s=limit_s)
        status, killed = self._execute(job, said)
        return Outcome(status, killed, "".join(pieces))

    @abc.abstractmethod
    def _execute(self, job: Job, said: OnOutput) -> tuple[int, bool]:
        """Do the job; returns its exit status and whether it was killed at its limit."""

    @abc.abstractmethod
    def close(self) -> None:
        """End everything; idempotent."""


def kernel_has_sctp() -> bool:
    """Whether this machine's own kernel speaks SCTP."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


class Native(Runner):
    """This machine's own kernel, in network namespaces of our own; needs no root."""

    description = "this machine's kernel"

    def _execute(self, job: Job, said: OnOutput) -> tuple[int, bool]:
        flags = "-nm" if os.geteuid() == 0 else "-Urnm"
        # A private /run, so that `ip netns` leaves no trace on the machine.
        enter = ["unshare", flags, "--kill-child", "--fork", "sh", "-c"]
        enter += ['mount -t tmpfs run /run && ip link set lo up && exec "$@"', "sh"]
        process = subprocess.Popen(
            [*enter, *job.argv],
            cwd=job.cwd,
            env={**os.environ, **job.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None, "stdout is a pipe"
        deadline = time.monotonic() + job.limit_s
        killed = False
        while True:
            wait_s = max(0.0, deadline - time.monotonic())
            if not select.select([process.stdout], [], [], wait_s)[0]:
                killed = True
                process.kill()
                break
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                break
            said(data.decode(errors="replace"))
        process.stdout.close()
        return process.wait(), killed

    def close(self) -> None:
        """Nothing is kept between commands."""


class Guest(Runner):
    """One QEMU guest; `close` always ends its process."""

    def __init__(self) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="phalanx-guest."))
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._pending = b""
        self.description = "a QEMU guest"
        self.boot_s = 0.0
        """How long booting took, in seconds."""

    @property
    def pid(self) -> int:
        """Process id of QEMU."""
        assert self._process is not None, "the guest was booted"
        return self._process.pid

    def boot(self) -> None:
        """Start the guest and wait until it takes commands.

        Raises:
            ImageError: QEMU or the kernel cannot be had.
            GuestError: the guest did not come up; the message holds its console.
        """
        began = time.monotonic()
        try:
            self._start(prepare(), tool("qemu-system-x86_64", "qemu-system-x86"))
            hello = self._receive(began + BOOT_LIMIT_S)
        except BaseException:
            self.close()
            raise
        self.boot_s = time.monotonic() - began
        self.description = f"a QEMU guest with Linux {hello['ready']}"

    def _start(self, image: Image, qemu: str) -> None:
        server = [str(HERE / "guest_init.sh"), sys.executable, str(HERE / "guest_server.py")]
        initrd = self._scratch / "initrd"
        initrd.write_bytes(image.initrd.read_bytes() + start_script(["/bin/sh", *server]))
        jobs = self._scratch / "jobs"
        argv = [qemu, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"]
        argv += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        argv += ["-serial", f"file:{self._scratch / 'console'}", "-monitor", "none"]
        argv += ["-kernel", str(image.kernel), "-initrd", str(initrd)]
        argv += ["-append", "console=ttyS0 panic=-1 quiet mitigations=off"]
        argv += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
        argv += ["-chardev", f"socket,id=jobs,path={jobs},server=on,wait=off"]
        argv += ["-device", "virtserialport,chardev=jobs,name=phalanx.jobs"]
        # The guest must not be able to change this machine's files: the tests run as root in it.
        share = "local,id=host,path=/,security_model=none,multidevs=remap,readonly=on"
        argv += ["-fsdev", share, "-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]
        with (self._scratch / "qemu").open("wb") as words:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT
            )
        self._channel = self._connect(jobs)

    def _connect(self, path: Path) -> socket.socket:
        """Connect to the socket that QEMU makes while it starts."""
        channel = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                channel.connect(str(path))
                return channel
            assert self._process is not None, "the process was started"
            with contextlib.suppress(subprocess.TimeoutExpired):
                # Waiting on the process is waiting with a deadline: it ends only by failing.
                self._process.wait(0.05)
                break
        channel.close()
        raise GuestError(f"QEMU did not start\n{self._console()}")

    def _execute(self, job: Job, said: OnOutput) -> tuple[int, bool]:
        assert self._channel is not None, "the guest was booted"
        self._channel.sendall(json.dumps(asdict(job)).encode() + b"\n")
        deadline = time.monotonic() + job.limit_s + KILL_GRACE_S
        while True:
            message = self._receive(deadline)
            if "status" in message:
                return message["status"], message["killed"]
            said(message["out"])

    def _receive(self, deadline: float) -> dict[str, Any]:
        channel = self._channel
        assert channel is not None, "the guest was booted"
        while b"\n" not in self._pending:
            wait_s = deadline - time.monotonic()
            try:
                if wait_s <= 0 or not select.select([channel], [], [], wait_s)[0]:
                    raise GuestError(f"the guest does not answer\n{self._console()}")
                data = channel.recv(65536)
            except (OSError, ValueError):
                data = b""  # closed under our feet, or reset: QEMU has ended
            if not data:
                raise GuestError(f"the guest has died\n{self._console()}")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _console(self) -> str:
        """The end of what QEMU and the guest's kernel have said."""
        parts: list[str] = []
        for name in ("qemu", "console"):
            with contextlib.suppress(FileNotFoundError):
                text = (self._scratch / name).read_text(errors="replace")
                parts.append(f"--- {name} ---\n{text[-4000:]}")
        return "\n".join(parts)

    def close(self) -> None:
        """Kill the guest; it writes nothing that would be worth an orderly end."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)


def open_runner() -> Runner:
    """A runner on this machine's kernel if it has SCTP, else in a guest that is booted now."""
    if kernel_has_sctp():
        return Native()
    guest = Guest()
    guest.boot()
    return guest
