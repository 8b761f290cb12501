"""The examples run as they are."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .conftest import MakeConfig

ROOT = Path(__file__).resolve().parents[2]
ROLL_CALL = ROOT / "examples" / "rollcall.py"
LIMIT_S = 60
NAMES = ("alpha", "beta", "gamma")


def with_names(make_config: MakeConfig) -> Path:
    """A cluster file with the nodes of examples/loopback.toml on ports that are free."""
    config = make_config(3)
    text = config.read_text().replace('"bravo"', '"beta"').replace('"charlie"', '"gamma"')
    config.write_text(text)
    return config


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the roll call to its end."""
    return subprocess.run(
        [sys.executable, ROLL_CALL, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_the_roll_call_hears_everybody(make_config: MakeConfig) -> None:
    """It is the first program that a user copies."""
    done = call(with_names(make_config))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        f"{receiver} heard {sender}: hello from {sender}" for receiver in NAMES for sender in NAMES
    ]


def test_what_is_wrong_with_a_roll_call_is_one_line(make_config: MakeConfig) -> None:
    """A beginner's first mistake is answered, not traced back."""
    config = with_names(make_config)
    mistakes: Sequence[tuple[Sequence[str | Path], str]] = (
        (["no-such-file.toml"], "cannot be read"),
        (["no-such-file.toml", "alpha"], "cannot be read"),
        ([config, "delta"], "no node 'delta' is configured"),
    )
    for arguments, words in mistakes:
        done = call(*arguments)
        assert done.returncode == 1
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert call("a", "b", "c").returncode == 2


def test_an_interrupted_roll_call_says_nothing(make_config: MakeConfig) -> None:
    """Alone, a node waits for the others; Ctrl-C is how one stops waiting."""
    config = with_names(make_config)
    with subprocess.Popen(
        [sys.executable, ROLL_CALL, config, "alpha"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as child:
        deadline = time.monotonic() + LIMIT_S
        while not (config.with_suffix(".state") / "alpha" / "record").exists():
            assert time.monotonic() < deadline, "it did not start"
            assert child.poll() is None
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGINT)
        written = child.communicate(timeout=LIMIT_S)[0]
    assert (child.returncode, written) == (130, b"")


def test_the_program_of_the_quick_start_runs_as_it_is(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """It is pasted into a file, and started three times."""
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    [program] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert '"examples/loopback.toml"' in program
    file = tmp_path / "program.py"
    file.write_text(program.replace("examples/loopback.toml", str(with_names(make_config))))
    children = [
        subprocess.Popen([sys.executable, file, name], stdout=subprocess.PIPE, text=True)
        for name in NAMES
    ]
    written = [child.communicate(timeout=LIMIT_S)[0] for child in children]
    for lines in written:
        assert sorted(lines.splitlines()) == [f"{name} b'hello from {name}'" for name in NAMES]
    assert [child.returncode for child in children] == [0, 0, 0]
