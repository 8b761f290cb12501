"""Keeps a node's durable record: a few hundred bytes that survive a crash at any instant.

What is in the record is the core's affair (PROTOCOL 1). Here it is bytes that are replaced as a
whole: written to a temporary file, synced, renamed over the old one, and the folder synced, so
that a reader finds the old record or the new one. Everything else is found out by the header
and the checksum, and reported, never obeyed. A rolled-back copy of a whole record cannot be told
from a good one here; the peers' memory finds that out.

Layout of the file, big endian: magic (8 bytes), version (u16), length of the content (u32),
owner (16 bytes of SHA-256 over cluster and node name), SHA-256 of all that and the content
(32 bytes), content.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Generator
from pathlib import Path

from .config import ClusterConfig
from .errors import EnvironmentTrouble, RecordUnusable, StateDirLocked, UsageError

RECORD_BYTES_MAX = 1 << 20
"""Largest content; a record of 64 nodes takes a few thousand bytes."""

_MAGIC = b"phalanx\x01"
_VERSION = 3
"""Raised with every change of `wire.Record`: an older content is not misread but named."""
_HEADER = struct.Struct("!8sHI16s")
_CHECKSUM_BYTES = 32
_PREFIX_BYTES = _HEADER.size + _CHECKSUM_BYTES


def state_directory(config: ClusterConfig) -> Path:
    """Where a cluster's records live: `state_dir`, or the folder that the XDG standard gives.

    Raises:
        EnvironmentTrouble: there is neither a `state_dir` nor a home directory.
    """
    if config.state_dir:
        return Path(config.state_dir)
    base = os.environ.get("XDG_STATE_HOME", "")
    # The standard has relative paths ignored.
    if not os.path.isabs(base):
        try:
            base = str(Path.home() / ".local" / "state")
        except RuntimeError as error:
            raise EnvironmentTrouble(
                "there is no home directory to keep the durable record in; "
                "set state_dir in [cluster], or XDG_STATE_HOME"
            ) from error
    return Path(base) / "phalanx" / config.name


def record_lost(peer: int, *, seen: int, own: int) -> RecordUnusable:
    """What a node is told whose peers remember another start than its own as the latest."""
    known = f"another start {seen} of this node"
    if seen != own:
        known = f"start {seen} of this node, and this is only start {own}"
    return RecordUnusable(
        f"node {peer} remembers {known}: the record is lost or an old copy, or another process "
        "runs as this node; restore it, or start with --readmit to come back as a node without "
        "memory"
    )


class RecordFile:
    """The durable record of one node, in a folder of its own below `directory`.

    Use: `lock`, `load` once, `store` as often as needed, `close`. It belongs to one process: a
    forked child finds it closed, and does not keep the lock alive.

    Args:
        directory: as `state_directory` gives it; made if it does not exist.
        node_name: names the node's folder in it.
        cluster: a record of another cluster is refused.
    """

    def __init__(self, directory: str | os.PathLike[str], node_name: str, *, cluster: str) -> None:
        self._folder = Path(directory) / node_name
        self._path = self._folder / "record"
        self._temporary = self._folder / "record.new"
        self._owner = hashlib.sha256(f"{cluster}\0{node_name}".encode()).digest()[:16]
        self._whose = f'node "{node_name}" of cluster "{cluster}"'
        self._lock = -1
        self._process = 0

    @property
    def path(self) -> Path:
        """The file that holds the record."""
        return self._path

    def lock(self) -> None:
        """Become the only process that runs as this node on this machine; made once.

        Raises:
            StateDirLocked: another process is it; the message gives its process id.
            RecordUnusable: the folder cannot be made or written.
        """
        if self._held:
            return
        with self._trouble("cannot be locked"):
            _make_folder(self._folder)
            descriptor = os.open(
                self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        try:
            with self._trouble("cannot be locked"):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except RecordUnusable as trouble:
            holder = os.pread(descriptor, 32, 0).strip()
            os.close(descriptor)
            if isinstance(trouble.__cause__, BlockingIOError):
                who = f"process {int(holder)}" if holder.isdigit() else "another process"
                raise StateDirLocked(
                    f"{who} already runs as {self._whose} ({self._folder}); "
                    "stop it, or start as another node"
                ) from trouble.__cause__
            raise
        self._lock = descriptor
        self._process = os.getpid()
        _locks.add(descriptor)

    def load(self) -> bytes | None:
        """The content that was stored last; None if there never was one.

        Raises:
            RecordUnusable: it is torn, is another node's, or cannot be read.
        """
        self._check_held()
        try:
            with self._path.open("rb") as file:
                data = file.read(_PREFIX_BYTES + RECORD_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable("cannot be read", error) from error
        return self._unpack(data)

    def store(self, data: bytes) -> None:
        """Replace the content; it is durable when this returns.

        When it raises, either content may be found by the next `load`: the caller must not act
        on the new one, nor count on the old one.

        Raises:
            RecordUnusable: it cannot be written; the message says what to do.
            UsageError: `data` is longer than RECORD_BYTES_MAX, or the lock is not held.
        """
        self._check_held()
        if len(data) > RECORD_BYTES_MAX:
            raise UsageError(f"a record has at most {RECORD_BYTES_MAX} bytes, not {len(data)}")
        with self._trouble("cannot be written"):
            try:
                self._replace(self._pack(data))
            except OSError:
                with contextlib.suppress(OSError):
                    self._temporary.unlink()
                raise

    def useless(self, problem: str) -> RecordUnusable:
        """The error for a record that is there and says nothing, to be raised."""
        return RecordUnusable(
            f"{self._path} {problem}; start with --readmit (in the API readmit=True), so that the "
            "cluster admits the node anew; or, if the cluster is one to throw away, stop it and "
            f"delete {self._folder.parent} on all nodes"
        )

    def close(self) -> None:
        """Give up the lock; idempotent."""
        if self._held:
            _locks.discard(self._lock)
            os.close(self._lock)
        self._lock = -1

    # ----------------------------------------------------------------------------- inside

    @property
    def _held(self) -> bool:
        # A forked child has closed its duplicate and emptied the set (`_after_fork`), but may
        # have put a descriptor of the same number into it since.
        return self._lock in _locks and self._process == os.getpid()

    def _check_held(self) -> None:
        if not self._held:
            raise UsageError("call lock() first, in the process that uses the record")

    def _pack(self, data: bytes) -> bytes:
        header = _HEADER.pack(_MAGIC, _VERSION, len(data), self._owner)
        return header + hashlib.sha256(header + data).digest() + data

    def _unpack(self, data: bytes) -> bytes:
        if len(data) < _PREFIX_BYTES:
            raise self.useless(f"has {len(data)} bytes, too few for a header")
        magic, version, length, owner = _HEADER.unpack_from(data)
        content = data[_PREFIX_BYTES:]
        checksum = hashlib.sha256(data[: _HEADER.size] + content).digest()
        # What a damaged header says is worth nothing, so that the checksum comes first.
        if checksum != data[_HEADER.size : _PREFIX_BYTES] or length != len(content):
            raise self.useless("is torn or damaged: its checksum is wrong")
        if (magic, version) != (_MAGIC, _VERSION):
            raise self.useless(
                f"was written by another version of phalanx (record version {version}, "
                f"this one reads {_VERSION})"
            )
        if owner != self._owner:
            raise RecordUnusable(
                f"{self._path} is not the record of {self._whose}; "
                "point state_dir to the folder of this cluster"
            )
        return content

    def _replace(self, packed: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(self._temporary, flags, 0o600)
        try:
            rest = memoryview(packed)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            # Before the rename: else a crash may leave the new name on an empty file.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(self._temporary, self._path)
        _sync_folder(self._folder)

    @contextlib.contextmanager
    def _trouble(self, problem: str) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(problem, error) from error

    def _unusable(self, problem: str, error: OSError) -> RecordUnusable:
        advice = _ADVICE.get(error.errno or 0, "see to it that this folder can be written")
        path = error.filename2 or error.filename or self._path
        return RecordUnusable(f"{path} {problem}: {error.strerror or error}; {advice}")


_ADVICE = {
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "free some space or raise the quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "mount it writable, or set state_dir to a folder on another disk",
    errno.EACCES: "make the folder writable for this user, or set state_dir to another",
    errno.EPERM: "make the folder writable for this user, or set state_dir to another",
    errno.EIO: "the disk reports errors: set state_dir to a folder on another one",
    errno.ENOTDIR: "a part of this path is a file: set state_dir to a folder",
    errno.EISDIR: "it is a folder: move it away",
}


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_locks: set[int] = set()
"""Descriptors that hold a lock in this process."""


def _after_fork() -> None:
    # A duplicate in a child that outlives this process would keep the node from restarting.
    for descriptor in _locks:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _locks.clear()


os.register_at_fork(after_in_child=_after_fork)
