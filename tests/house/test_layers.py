"""Who may import whom, read from the sources.

The cores are sans-I/O, so that a seed replays a run; the drivers decide nothing; the layers
build on each other in one direction.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

IMPURE = (
    "_thread",
    "asyncio",
    "concurrent",
    "contextvars",
    "datetime",
    "fcntl",
    "getpass",
    "glob",
    "importlib",
    "io",
    "logging",
    "multiprocessing",
    "numpy.random",
    "os",
    "pathlib",
    "platform",
    "queue",
    "random",
    "resource",
    "sched",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
)
"""What reads a clock, a source of randomness or the world, or acts on it."""
IMPURE_CALLS = frozenset({"open", "print", "input", "breakpoint", "exec", "eval", "__import__"})

Tree = Mapping[str, str]
"""Source text by path from the repository's root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported name: `from ..drivers import base` is phalanx.transport.drivers.base."""

    line: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The files that `covers` says import nothing that starts with a forbidden name."""

    title: str
    covers: Callable[[str], bool]
    forbidden: tuple[str, ...]
    allowed: tuple[str, ...] = ()
    """Exceptions below a forbidden name."""


def under(*folders: str) -> Callable[[str], bool]:
    """Covers the Python files below these folders, or with exactly these names."""
    return lambda path: any(path == name or path.startswith(f"{name}/") for name in folders)


SANS_IO = under(
    "transport/core",
    *(
        f"barrier/{name}.py"
        for name in (
            "core",
            "crossing",
            "decisions",
            "following",
            "generation",
            "messages",
            "names",
            "order",
            "outbox",
            "rosters",
            "settings",
            "skew",
            "state",
            "table",
            "tickets",
        )
    ),
)
RULES = (
    Rule(title="the cores do no I/O", covers=SANS_IO, forbidden=IMPURE),
    Rule(
        title="transport stands without barrier",
        covers=under("transport"),
        forbidden=("phalanx.barrier",),
    ),
    Rule(
        title="_native stands alone",
        covers=under("_native"),
        forbidden=("phalanx",),
        allowed=("phalanx._native",),
    ),
    Rule(
        title="drivers decide nothing",
        covers=under("transport/drivers"),
        forbidden=("phalanx.transport.core", "phalanx.transport.cluster"),
    ),
    Rule(
        title="the core knows the driver contract only",
        covers=under("transport/core"),
        forbidden=("phalanx.transport.drivers", "phalanx.transport.cluster"),
        allowed=("phalanx.transport.drivers.base",),
    ),
    Rule(
        title="folders are imported by their installed names",
        covers=under("transport", "barrier", "_native", "tests", "bench", "examples"),
        forbidden=("transport", "barrier", "_native"),
    ),
)


def starts_with(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted name is, or lies below, one of these."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def package_of(path: str) -> str:
    """The package in which relative imports of that file start."""
    return ".".join(["phalanx", *Path(path).parts[:-1]])


def imports(path: str, source: str) -> Iterator[Import]:
    """Everything that a file imports, wherever in it; also by importlib with a constant name."""
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(line=node.lineno, name=alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package_of(path).split(".")
                parents = parts[: len(parts) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield Import(line=node.lineno, name=f"{base}.{alias.name}".removesuffix(".*"))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            for value in node.args[:1]:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield Import(line=node.lineno, name=value.value)


def violations(tree: Tree) -> Iterator[str]:
    """A sentence for every import that a rule forbids, and every impure call in a core."""
    for path, source in tree.items():
        rules = [rule for rule in RULES if rule.covers(path)]
        for found in imports(path, source) if rules else ():
            for rule in rules:
                if starts_with(found.name, rule.forbidden) and not starts_with(
                    found.name, rule.allowed
                ):
                    yield f"{path}:{found.line} imports {found.name}: {rule.title}"
        if SANS_IO(path):
            yield from impure_calls(path, source)


def impure_calls(path: str, source: str) -> Iterator[str]:
    """Builtin functions that do I/O need no import."""
    for node in ast.walk(ast.parse(source, path)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in IMPURE_CALLS
        ):
            yield f"{path}:{node.lineno} calls {node.func.id}: the cores do no I/O"


def module_of(path: str) -> str:
    """The name under which a file is imported."""
    parts = ("phalanx", *Path(path).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def impure_helpers(tree: Tree) -> Iterator[str]:
    """Modules of ours that do I/O and that a core imports, directly or through others.

    _native is left out: its byte work is pure, and which implementation is taken is decided
    there once, when it is loaded.
    """
    files = {module_of(path): path for path in tree}
    reached = [path for path in tree if SANS_IO(path)]
    seen = set(reached)
    while reached:
        path = reached.pop()
        for found in imports(path, tree[path]):
            name = found.name if found.name in files else found.name.rpartition(".")[0]
            helper = files.get(name)
            if helper is None or helper in seen or helper.startswith("_native/"):
                continue
            seen.add(helper)
            if not helper.endswith("/__init__.py"):
                reached.append(helper)
    for path in sorted(seen):
        if SANS_IO(path):
            continue  # has its own rule
        for found in imports(path, tree[path]):
            if starts_with(found.name, IMPURE) and not path.endswith("/__init__.py"):
                yield f"{path}:{found.line} imports {found.name}, and a core imports this file"


@pytest.fixture(scope="session")
def tree(repository: Path, tracked: tuple[Path, ...]) -> Tree:
    """All Python sources of the repository."""
    return {
        str(path.relative_to(repository)): path.read_text(encoding="utf-8")
        for path in tracked
        if path.suffix == ".py"
    }


def test_the_sources_keep_the_import_rules(tree: Tree) -> None:
    """A layer that is bypassed once is bypassed for ever."""
    found = list(violations(tree))
    assert not found, "\n".join(found)


def test_what_a_core_imports_does_no_io_either(tree: Tree) -> None:
    """A clock read in a helper breaks the replay of a run as well as one read in the core."""
    found = list(impure_helpers(tree))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.title)
def test_every_rule_covers_files_that_exist(rule: Rule, tree: Tree) -> None:
    """A rule for a folder that was renamed would pass for ever."""
    assert any(rule.covers(path) for path in tree)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("transport/core/paths.py", "import time"),
        ("transport/core/paths.py", "from os import path"),
        ("transport/core/deep/er.py", "def f():\n    import socket"),
        ("transport/core/paths.py", "import asyncio.events"),
        ("transport/core/paths.py", "text = open('x').read()"),
        ("transport/core/paths.py", "from ..drivers.user_sctp import UserSctp"),
        ("transport/core/paths.py", "from ..drivers import base, user_sctp"),
        ("transport/core/paths.py", "from .. import drivers"),
        ("transport/core/paths.py", "from phalanx.transport.cluster import Cluster"),
        ("barrier/core.py", "import random"),
        ("barrier/order.py", "from datetime import datetime"),
        ("transport/cluster.py", "from phalanx import barrier"),
        ("transport/cluster.py", "from ..barrier.core import Barrier"),
        ("transport/testing/lab.py", "importlib.import_module('phalanx.barrier.cli')"),
        ("transport/drivers/user_sctp.py", "from ..core.endpoint import Endpoint"),
        ("transport/drivers/user_sctp.py", "from .. import core"),
        ("_native/codec.py", "from phalanx.transport import wire"),
        ("_native/codec.py", "from ..transport.wire import Frame"),
        ("tests/test_a.py", "import barrier.core"),
    ],
)
def test_each_forbidden_import_is_found(path: str, source: str) -> None:
    """A check that cannot fail checks nothing."""
    assert len(list(violations({path: source}))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("transport/core/paths.py", "import enum\nfrom ..drivers.base import Link, Stream"),
        ("transport/core/paths.py", "from ..drivers import base\nfrom . import timers"),
        ("transport/core/paths.py", "from .timers import Timer\nimport timeit_of_ours"),
        ("transport/cluster.py", "import asyncio, time\nfrom .core.endpoint import Endpoint"),
        ("barrier/service.py", "import asyncio\nfrom phalanx.transport import Cluster"),
        ("_native/__init__.py", "import os\nfrom . import twin\nfrom phalanx._native import twin"),
        ("tests/test_a.py", "from phalanx.barrier import Barriers\nimport socket"),
    ],
)
def test_allowed_imports_are_left_alone(path: str, source: str) -> None:
    """A check with false alarms is soon switched off."""
    assert list(violations({path: source})) == []


def test_an_impure_helper_is_found_through_others() -> None:
    """The chain core -> wire -> clock is found although wire itself is clean."""
    tree = {
        "transport/core/paths.py": "from ..wire import Frame",
        "transport/wire.py": "from . import clock",
        "transport/clock.py": "import time",
        "transport/cluster.py": "import asyncio",
    }
    assert list(impure_helpers(tree)) == [
        "transport/clock.py:1 imports time, and a core imports this file"
    ]
