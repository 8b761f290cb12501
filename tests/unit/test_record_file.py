"""The durable record is the old one or the new one, or is refused; never anything else."""

from __future__ import annotations

import errno
import os
import resource
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from phalanx.transport import record_file, wire
from phalanx.transport.config import ClusterConfig
from phalanx.transport.errors import (
    EnvironmentTrouble,
    RecordUnusable,
    StateDirLocked,
    UsageError,
)
from phalanx.transport.record_file import RECORD_BYTES_MAX, RecordFile, state_directory

DEADLINE_S = 20.0


@pytest.fixture
def record(tmp_path: Path) -> Iterator[RecordFile]:
    opened = RecordFile(tmp_path, "alpha", cluster="c")
    opened.lock()
    yield opened
    opened.close()


def test_there_is_no_record_before_the_first_store(record: RecordFile) -> None:
    """None means a first start, which is admitted differently from a lost record."""
    assert record.load() is None


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 40])
def test_what_was_stored_is_loaded_after_a_restart(tmp_path: Path, content: bytes) -> None:
    """The reason for which the file exists."""
    first = RecordFile(tmp_path, "alpha", cluster="c")
    first.lock()
    first.store(b"older")
    first.store(content)
    first.close()
    second = RecordFile(tmp_path, "alpha", cluster="c")
    second.lock()
    assert second.load() == content
    second.close()


def test_a_thousand_stores_are_each_readable(record: RecordFile) -> None:
    """Replacing must leave nothing behind and never a moment without a record."""
    for number in range(1000):
        content = b"%d" % number * (number % 7)
        record.store(content)
        assert record.load() == content
    assert sorted(path.name for path in record.path.parent.iterdir()) == ["lock", "record"]


def test_a_record_cut_at_any_length_is_refused(record: RecordFile) -> None:
    """A torn write must never pass for a record: the node would forget its promises."""
    record.store(b"promise " * 5)
    whole = record.path.read_bytes()
    for length in range(len(whole)):
        record.path.write_bytes(whole[:length])
        with pytest.raises(RecordUnusable, match="--readmit"):
            record.load()
    record.path.write_bytes(whole)
    assert record.load() == b"promise " * 5


def test_a_record_with_any_bit_flipped_is_refused(record: RecordFile) -> None:
    """Disks do return wrong data."""
    record.store(b"promise")
    whole = record.path.read_bytes()
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        record.path.write_bytes(damaged)
        with pytest.raises(RecordUnusable):
            record.load()


def test_a_record_with_bytes_behind_it_is_refused(record: RecordFile) -> None:
    """Two records in one file are no record."""
    record.store(b"promise")
    record.path.write_bytes(record.path.read_bytes() + b"\0")
    with pytest.raises(RecordUnusable):
        record.load()


@pytest.mark.parametrize(("cluster", "node"), [("d", "alpha"), ("c", "beta")])
def test_the_record_of_another_cluster_or_node_is_refused(
    tmp_path: Path, cluster: str, node: str
) -> None:
    """A copied folder would have one node speak with another's promises."""
    other = RecordFile(tmp_path / "other", node, cluster=cluster)
    other.lock()
    other.store(b"theirs")
    record = RecordFile(tmp_path, "alpha", cluster="c")
    record.lock()
    record.path.write_bytes(other.path.read_bytes())
    with pytest.raises(RecordUnusable, match='not the record of node "alpha" of cluster "c"'):
        record.load()
    other.close()
    record.close()


def test_a_record_of_another_version_is_named_as_such(
    record: RecordFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is torn and nobody is confused: another build wrote it, and what to do differs."""
    with monkeypatch.context() as earlier:
        earlier.setattr(record_file, "_VERSION", 1)
        record.store(b"promise")
    with pytest.raises(RecordUnusable) as caught:
        record.load()
    words = str(caught.value)
    assert "was written by another version of phalanx (record version 1, this one reads 3)" in words
    assert "--readmit (in the API readmit=True)" in words
    assert f"delete {record.path.parents[1]} on all nodes" in words


SHAPES = {
    2: "[cluster: str, node: int, incarnation: int, decided: VIEW or None, promised: (int, int), "
    "accepted_ballot: (int, int), accepted: VIEW or None, seen: {int: (int, int)}, voter: bool]",
    3: "[cluster: str, node: int, incarnation: int, decided: VIEW or None, promised: (int, int), "
    "accepted_ballot: (int, int), accepted: VIEW or None, seen: {int: (int, int)}, voter: bool, "
    "era: int, founding: bool]",
}
"""What stands in the record, by version; VIEW is this:"""
VIEWS = {
    2: "[era: int, k: int, members: ((node: int, incarnation: int)...), continuing: (int...), "
    "donor: int, cut: ((origin: int, lane: int, sequence: int)...), reasons: {int: str}]",
    3: "[era: int, k: int, members: ((node: int, incarnation: int)...), continuing: (int...), "
    "donor: int, cut: ((origin: int, lane: int, sequence: int)...), reasons: {int: str}]",
}


def shape(kind: msgspec.inspect.Type) -> str:
    """How a type is laid out in the record."""
    match kind:
        case msgspec.inspect.StructType(fields=fields, array_like=True):
            named = (f"{field.encode_name}: {shape(field.type)}" for field in fields)
            return f"[{', '.join(named)}]"
        case msgspec.inspect.NamedTupleType(fields=fields):
            return f"({', '.join(f'{field.name}: {shape(field.type)}' for field in fields)})"
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(map(shape, types))
        case msgspec.inspect.TupleType(item_types=types):
            return f"({', '.join(map(shape, types))})"
        case msgspec.inspect.VarTupleType(item_type=item):
            return f"({shape(item)}...)"
        case msgspec.inspect.DictType(key_type=key, value_type=value):
            return f"{{{shape(key)}: {shape(value)}}}"
        case _:
            plain = {"IntType": "int", "StrType": "str", "BoolType": "bool", "NoneType": "None"}
            return plain[type(kind).__name__]


def test_whoever_changes_the_record_raises_its_version(record: RecordFile) -> None:
    """Without that an older record is misread, or called damaged, where it is only older."""
    view = shape(msgspec.inspect.type_info(wire.ViewValue))
    found = shape(msgspec.inspect.type_info(wire.Record)).replace(view, "VIEW")
    version = max(SHAPES)
    assert (found, view) == (SHAPES[version], VIEWS[version]), (
        "raise _VERSION in record_file.py, and add the new shape here beside the old one"
    )
    record.store(b"")
    assert int.from_bytes(record.path.read_bytes()[8:10]) == version


def test_a_crash_between_write_and_rename_leaves_the_old_record(record: RecordFile) -> None:
    """A leftover temporary file, whole or torn, was never the record."""
    record.store(b"old")
    leftover = record.path.with_name("record.new")
    leftover.write_bytes(b"half of a new reco")
    assert record.load() == b"old"
    record.store(b"new")
    assert record.load() == b"new"
    assert not leftover.exists()


def test_a_crash_before_the_first_rename_is_a_first_start(record: RecordFile) -> None:
    """Nothing was promised before the first store returned."""
    record.path.with_name("record.new").write_bytes(b"half")
    assert record.load() is None


def test_the_new_record_is_on_disk_before_it_takes_the_name(
    record: RecordFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut the name must not stand on an empty file, nor be forgotten."""
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(descriptor: int) -> None:
        steps.append("sync " + os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def watched_rename(old: Path, new: Path) -> None:
        steps.append(f"rename to {new.name}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    record.store(b"x")
    assert steps == ["sync record.new", "rename to record", "sync alpha"]


def test_record_bytes_max(record: RecordFile) -> None:
    """The limit keeps a broken caller from filling the disk, and a broken file the memory."""
    record.store(b"x" * RECORD_BYTES_MAX)
    assert record.load() == b"x" * RECORD_BYTES_MAX
    with pytest.raises(UsageError, match="at most"):
        record.store(b"x" * (RECORD_BYTES_MAX + 1))
    record.path.write_bytes(b"x" * (4 * RECORD_BYTES_MAX))
    with pytest.raises(RecordUnusable):
        record.load()


def test_a_full_disk_is_reported_and_keeps_the_old_record(record: RecordFile) -> None:
    """A node that cannot write has to say so and go on without vote, not crash."""
    record.store(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(RecordUnusable, match="ulimit -f") as caught:
            record.store(b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(caught.value.__cause__, OSError)
    assert record.load() == b"old"
    assert not record.path.with_name("record.new").exists()
    record.store(b"new")
    assert record.load() == b"new"


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "mount it writable"), (errno.EIO, "disk")],
)
def test_trouble_of_the_disk_says_what_to_do(
    record: RecordFile, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    """The operator reads one line."""

    def broken(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    record.store(b"old")
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(RecordUnusable, match=advice):
        record.store(b"new")
    assert record.load() == b"old"


def test_a_state_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    """A file in the way, or a file system that takes nothing, also for the superuser."""
    (tmp_path / "file").write_bytes(b"")
    for directory in (tmp_path / "file", Path("/proc/phalanx")):
        record = RecordFile(directory, "alpha", cluster="c")
        with pytest.raises(RecordUnusable, match="cannot be locked"):
            record.lock()
        record.close()


def test_a_record_that_is_a_folder_is_reported(record: RecordFile) -> None:
    """Both ways of meeting it give the same type of error."""
    record.path.mkdir()
    with pytest.raises(RecordUnusable, match="cannot be read"):
        record.load()
    with pytest.raises(RecordUnusable, match="cannot be written"):
        record.store(b"x")


def test_what_is_in_the_way_is_named(record: RecordFile) -> None:
    """Advice to move something away has to say what."""
    way = record.path.with_name("record.new")
    way.mkdir()
    with pytest.raises(RecordUnusable, match=f"{way} cannot be written: .* move it away"):
        record.store(b"x")


# ---------------------------------------------------------------------------------- the lock

HOLDER = """
import sys
from phalanx.transport.record_file import RecordFile
record = RecordFile(sys.argv[1], "alpha", cluster="c")
record.lock()
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_second_process_cannot_be_the_same_node(tmp_path: Path) -> None:
    """Two processes with one id and one record would vote twice."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        ready, _, _ = select.select([holder.stdout], [], [], DEADLINE_S)
        assert ready, "the holder did not start"
        assert holder.stdout.readline() == b"locked\n"
        record = RecordFile(tmp_path, "alpha", cluster="c")
        with pytest.raises(StateDirLocked, match=f"process {holder.pid} already runs"):
            record.lock()
        beta = RecordFile(tmp_path, "beta", cluster="c")
        beta.lock()
        beta.close()
        holder.kill()
        holder.wait(DEADLINE_S)
        record.lock()
        record.close()


def test_a_second_lock_in_the_same_process_is_refused_too(
    tmp_path: Path, record: RecordFile
) -> None:
    """Two clusters in one process are still two nodes; the lock is that of the object."""
    other = RecordFile(tmp_path, "alpha", cluster="c")
    with pytest.raises(StateDirLocked, match=f"process {os.getpid()}"):
        other.lock()
    record.lock()
    record.close()
    other.lock()
    other.close()


FORKING = """
import os, sys
from phalanx.transport.errors import UsageError
from phalanx.transport.record_file import RecordFile
record = RecordFile(sys.argv[1], "alpha", cluster="c")
record.lock()
if os.fork() == 0:
    try:
        record.store(b"child")
    except UsageError:
        print("refused", flush=True)
    sys.stdin.read()
    os._exit(0)
os._exit(0)
"""


def test_a_forked_child_keeps_neither_the_lock_nor_the_record(tmp_path: Path) -> None:
    """A child that outlives a killed node must not keep the node from starting again."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        ready, _, _ = select.select([parent.stdout], [], [], DEADLINE_S)
        assert ready, "the child did not come to its store"
        assert parent.stdout.readline() == b"refused\n"
        parent.wait(DEADLINE_S)
        record = RecordFile(tmp_path, "alpha", cluster="c")
        record.lock()  # the child is alive: it waits for the end of its input
        assert record.load() is None
        record.close()


def test_the_record_is_used_under_the_lock_only(tmp_path: Path) -> None:
    """Without it another process may write at the same time."""
    record = RecordFile(tmp_path, "alpha", cluster="c")
    for use in (record.load, lambda: record.store(b"x")):
        with pytest.raises(UsageError, match="lock"):
            use()
    record.close()
    record.close()


# ----------------------------------------------------------------------------- where it lives


def test_the_default_directory_follows_the_xdg_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative values of the variable are to be ignored, says the standard."""
    config = ClusterConfig(name="c", rails=(), nodes=())
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert state_directory(config) == Path("/var/state/phalanx/c")
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", unset)
        assert state_directory(config) == Path("/home/someone/.local/state/phalanx/c")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_directory(config) == Path("/home/someone/.local/state/phalanx/c")
    named = ClusterConfig(name="c", rails=(), nodes=(), state_dir="/srv/c")
    assert state_directory(named) == Path("/srv/c")


def test_no_home_directory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons may run without one."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(EnvironmentTrouble, match="set state_dir"):
        state_directory(ClusterConfig(name="c", rails=(), nodes=()))
