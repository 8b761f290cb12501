"""The tree under test: the repository's root and its files as git sees them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_SKIPPED_FOLDERS = frozenset({".git", ".venv", ".build", "build", "dist", "__pycache__"})


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tracked(repository: Path) -> tuple[Path, ...]:
    """Absolute paths of all files that are, or with the next commit may be, in the repository.

    Files that .gitignore names are left out, and so are symbolic links: what they lead to is
    there under its own name.
    """
    # The owner of a checkout in a container is often another user, which git refuses to read.
    listing = ["git", "-c", "safe.directory=*", "ls-files", "-coz", "--exclude-standard"]
    found = subprocess.run(listing, cwd=repository, capture_output=True, check=False)
    if found.returncode == 0:
        names = found.stdout.decode().split("\0")
        paths = [repository / name for name in sorted(set(names)) if name]
    else:  # an unpacked source distribution
        paths = [
            path
            for path in sorted(repository.rglob("*"))
            if not _SKIPPED_FOLDERS.intersection(path.relative_to(repository).parts)
        ]
    files = tuple(path for path in paths if path.is_file() and not path.is_symlink())
    assert len(files) > 10, "the listing of the tree is broken"
    return files
