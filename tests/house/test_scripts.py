"""The scripts behind `make demo`, `make test` and .ci/run keep their promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_S = 60


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    """A folder with copies of our scripts and nothing else; its name has a space."""
    copy = tmp_path / "a checkout"
    shutil.copytree(repository / "scripts", copy / "scripts")
    (copy / ".ci").mkdir()
    shutil.copy2(repository / ".ci" / "run", copy / ".ci")
    (copy / "_native").mkdir()
    return copy


def bash(
    script: str, cwd: Path, *args: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a few lines of bash."""
    return subprocess.run(
        ["bash", "-c", script, "bash", *args],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def venv_trouble(checkout: Path, **environment: str) -> str:
    """What scripts/bootstrap says about the virtual environment of a checkout."""
    done = bash("source scripts/bootstrap; venv_trouble", checkout, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def with_venv(checkout: Path) -> Path:
    """A checkout whose virtual environment is this run's interpreter under another name."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    interpreter = checkout / ".venv" / "bin" / "python"
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    interpreter.chmod(0o755)
    (checkout / ".venv" / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ncommand = /usr/bin/python3 -m venv --clear {checkout}/.venv\n"
    )
    return checkout


def test_every_script_is_valid_bash(repository: Path) -> None:
    """A script for fresh machines fails where nobody is there to mend it."""
    scripts = [repository / ".ci" / "run", *sorted((repository / "scripts").iterdir())]
    for script in (it for it in scripts if it.is_file() and it.suffix != ".py"):
        done = bash('bash -n "$1"', repository, str(script))
        assert done.returncode == 0, done.stderr
        assert os.access(script, os.X_OK) == (script.name != "lib.sh")


def test_a_sound_environment_is_kept(with_venv: Path) -> None:
    """Making it anew costs half a minute; a second run has to start within seconds."""
    assert venv_trouble(with_venv) == ""


def test_a_missing_environment_is_made(checkout: Path) -> None:
    """The first run on a machine."""
    assert venv_trouble(checkout) == "there is none yet"


def test_a_moved_environment_is_made_anew(with_venv: Path) -> None:
    """Its scripts carry its absolute path."""
    moved = with_venv.rename(with_venv.with_name("elsewhere"))
    assert venv_trouble(moved) == "the checkout was moved"


def test_an_interrupted_installation_is_made_anew(with_venv: Path) -> None:
    """Packages that were written by half look installed to pip."""
    (with_venv / ".build").mkdir()
    (with_venv / ".build" / "install-in-progress").touch()
    assert venv_trouble(with_venv) == "installing into it was interrupted"


def test_a_dangling_interpreter_is_noticed(with_venv: Path) -> None:
    """The machine's Python was upgraded or removed."""
    (with_venv / ".venv" / "bin" / "python").write_text("#!/nonexistent/python\n")
    assert venv_trouble(with_venv) == "its interpreter is gone or too old"


def test_another_interpreter_by_name_is_obeyed(with_venv: Path, tmp_path: Path) -> None:
    """PYTHON= counts also when an environment is there already."""
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho /usr/bin/other\n")
    other.chmod(0o755)
    assert venv_trouble(with_venv, PYTHON=str(other)) == f"PYTHON={other} is another interpreter"


def test_a_stamp_is_fresh_until_what_it_stands_for_changes(checkout: Path) -> None:
    """A stale stamp would run the tests against yesterday's extension."""
    script = """
        source scripts/lib.sh
        echo one >file; stamp_fresh native "$(digest file)" && echo early
        stamp_write native "$(digest file)"; stamp_fresh native "$(digest file)" && echo fresh
        echo two >file; stamp_fresh native "$(digest file)" || echo stale
    """
    assert bash(script, checkout).stdout.split() == ["fresh", "stale"]


def test_extensions_are_expected_for_every_builder(checkout: Path) -> None:
    """Which ones there should be follows from the tree."""
    script = "source scripts/bootstrap; extensions_present && echo yes || echo no"
    assert bash(script, checkout).stdout == "yes\n"
    (checkout / "_native" / "build_codec.py").touch()
    assert bash(script, checkout).stdout == "no\n"
    (checkout / "_native" / "_codec.abi3.so").touch()
    assert bash(script, checkout).stdout == "yes\n"


def test_a_failing_step_shows_the_end_of_its_log(checkout: Path) -> None:
    """Who watches a machine from afar has only the output; and its standard output is not ours."""
    script = "source scripts/lib.sh; step 'the build' sh -c 'echo no compiler; exit 7'"
    done = bash(script, checkout)
    assert done.returncode == 7
    assert done.stdout == ""
    assert "the build: FAILED with status 7" in done.stderr
    assert "    no compiler" in done.stderr


@pytest.mark.parametrize("status", [0, 1])
def test_ci_ends_with_the_closing_line_and_the_status(checkout: Path, status: int) -> None:
    """What make or a background process prints last must not hide the result."""
    closing = "======== 3 passed, 1 warning in 0.10s ========"
    recipe = f"\t@printf '%s\\n' '{closing}' 'noise'; exit {status}\n"
    (checkout / "Makefile").write_text(f"test:\n{recipe}")
    done = bash(".ci/run", checkout)
    assert done.stdout.splitlines()[-1] == closing
    assert bool(done.returncode) == bool(status)


def test_ci_says_when_no_test_ran(checkout: Path) -> None:
    """A failed installation must not look like a run of tests."""
    (checkout / "Makefile").write_text("test:\n\t@echo no network; exit 3\n")
    done = bash(".ci/run", checkout)
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1].startswith("pytest did not run")


def test_two_runs_of_pytest_close_as_one(repository: Path, tmp_path: Path) -> None:
    """The last line must not lose a failure, and one that never closed is an error."""

    def closed(*texts: str) -> str:
        logs = [tmp_path / f"{number}.log" for number in range(len(texts))]
        for log, text in zip(logs, texts, strict=True):
            log.write_text(text)
        program = repository / "scripts" / "closing_line.py"
        done = subprocess.run(
            [sys.executable, program, "61", *logs], capture_output=True, text=True, check=True
        )
        return done.stdout.strip("=\n ")

    passed = "....\n===== 12 passed in 300.40s (0:05:00) =====\n"
    assert closed(passed, passed) == "24 passed in 61s"
    failed = "== short test summary info ==\n== 2 failed, 5 passed, 1 skipped in 3.41s ==\n"
    assert closed(passed, failed) == "2 failed, 17 passed, 1 skipped in 61s"
    assert closed(passed, "Killed\n") == "12 passed, 1 error in 61s"
    broken = "== 1 passed, 2 warnings, 1 error in 0.10s ==\n"
    assert closed(broken, broken) == "2 passed, 4 warnings, 2 errors in 61s"
