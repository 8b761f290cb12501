"""No test is skipped silently: the report of capabilities does what it promises.

Each test runs a pytest of its own on a small suite beside a copy of our conftest.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN_LIMIT_S = 120

SUITE = """
import pytest

def test_plain():
    pass

def test_of_multicast(require):
    require("multicast")

@pytest.mark.kernel
def test_of_kernel():
    pass
"""


def run_suite(
    folder: Path, suite: str, *args: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run pytest on one file with our conftest.py; PHALANX_ variables of this run do not count."""
    (folder / "conftest.py").write_text((Path(__file__).parents[1] / "conftest.py").read_text())
    (folder / "test_suite.py").write_text(suite)
    (folder / "pytest.ini").write_text(
        "[pytest]\naddopts = --import-mode=importlib -ra -p no:cacheprovider\n"
        "markers =\n  kernel: needs kernel SCTP\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PHALANX_RE")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *args],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )


def test_a_missing_capability_is_named_and_counted(tmp_path: Path) -> None:
    """Who reads only the end of the output still learns what was not tested, and why."""
    done = run_suite(tmp_path, SUITE, PHALANX_MISSING="kernel,multicast")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert "1 passed, 2 skipped" in lines[-1]
    summary = next(line for line in lines if line.startswith("capabilities: "))
    missing = summary.partition("missing: ")[2].split(", ")
    assert {"kernel", "multicast"} <= set(missing)
    assert "  multicast: 1 tests skipped: PHALANX_MISSING says so" in lines
    assert "  kernel: 1 tests skipped: PHALANX_MISSING says so" in lines


def test_where_all_is_required_a_missing_capability_fails(tmp_path: Path) -> None:
    """Continuous integration must not turn green because its machine can do less."""
    done = run_suite(tmp_path, SUITE, PHALANX_MISSING="kernel", PHALANX_REQUIRE_ALL="1")
    assert done.returncode == 1
    assert "missing capability kernel" in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "suite",
    [
        "import pytest\ndef test_it():\n    pytest.skip('not today')\n",
        "import pytest\n@pytest.mark.skip(reason='not today')\ndef test_it():\n    pass\n",
        "import pytest\npytest.skip('not today', allow_module_level=True)\n",
    ],
    ids=["call", "marker", "module"],
)
def test_where_all_is_required_any_skip_fails(tmp_path: Path, suite: str) -> None:
    """A skip that goes round `require` would be the silent one."""
    assert "1 skipped" in run_suite(tmp_path, suite).stdout.splitlines()[-1]
    done = run_suite(tmp_path, suite, PHALANX_REQUIRE_ALL="1")
    assert done.returncode != 0
    assert "PHALANX_REQUIRE_ALL is set: " in done.stdout
    assert "not today" in done.stdout


def test_expected_failures_are_no_skips(tmp_path: Path) -> None:
    """pytest reports both alike; only one of them means that nothing ran."""
    suite = "import pytest\n@pytest.mark.xfail\ndef test_it():\n    assert 0\n"
    done = run_suite(tmp_path, suite, PHALANX_REQUIRE_ALL="1")
    assert done.returncode == 0
    assert "1 xfailed" in done.stdout.splitlines()[-1]


def test_an_unknown_capability_is_an_error(tmp_path: Path) -> None:
    """A misspelt name must not pass for a missing capability."""
    done = run_suite(tmp_path, "def test_it(require):\n    require('multicats')\n")
    assert done.returncode != 0
    assert "no capability 'multicats'" in done.stdout


def test_long_figures_run_only_when_named(tmp_path: Path) -> None:
    """`make test` has minutes; `make prove` may take hours."""
    (tmp_path / "prove").mkdir()
    (tmp_path / "prove" / "test_long.py").write_text("def test_long():\n    pass\n")
    suite = "def test_short():\n    pass\n"
    assert "1 passed" in run_suite(tmp_path, suite).stdout.splitlines()[-1]
    for name in ("prove", "prove/test_long.py", "prove/test_long.py::test_long"):
        closing = run_suite(tmp_path, suite, "-v", name).stdout
        assert "test_long PASSED" in closing
        assert "test_short" not in closing
