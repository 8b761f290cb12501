"""What a killed demo leaves behind, hosts and rails and a folder, and how the next one removes it.

The names carry the pid and the start time of their demo, so that what a running one needs is
left alone, also when the pid belongs to somebody else by now. A folder is locked as well: the
temporary folder may be shared with a container, whose processes cannot be seen from here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from phalanx.transport.errors import PhalanxError
from phalanx.transport.testing.lab import Lab, lab_names
from phalanx.transport.testing.lab_state import Process, alive, identify

_TAG = re.compile(r"demo-(\d+)-(\d+)")


def own_tag() -> str:
    """The name of this process's lab, and a part of that of its folder."""
    me = identify(os.getpid())
    assert me is not None, "this process is there"
    return f"demo-{me.pid}-{me.started}"


@contextmanager
def own_folder() -> Generator[Path, None, None]:
    """A temporary folder for the files of this demo."""
    with tempfile.TemporaryDirectory(prefix=f"phalanx-{own_tag()}-") as name:
        handle = _open_folder(Path(name))
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(handle)


def remove_leftovers(*, labs: bool) -> Iterator[str]:
    """Remove what demos that run no more have left, and say so; with `labs` hosts and rails, too.

    What cannot be removed is named and stays.
    """
    for name in lab_names() if labs else []:
        if _is_of_the_dead(name):
            try:
                Lab.open(name).down()
                yield f"removed the hosts and rails that a killed demo has left (lab {name})"
            except PhalanxError as error:
                yield f"a killed demo has left lab {name} ({error}): phalanx lab down --name {name}"
    for folder in Path(tempfile.gettempdir()).glob("phalanx-demo-*"):
        if _is_of_the_dead(folder.name.removeprefix("phalanx-")) and _is_ours_and_free(folder):
            shutil.rmtree(folder, ignore_errors=True)
            yield f"removed the folder that a killed demo has left ({folder})"


def _is_of_the_dead(name: str) -> bool:
    found = _TAG.match(name)
    return found is not None and not alive(Process(pid=int(found[1]), started=int(found[2])))


def _is_ours_and_free(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        handle = _open_folder(folder)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.fstat(handle).st_uid == os.geteuid()
        finally:
            os.close(handle)
    return False


def _open_folder(folder: Path) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(folder, flags)
