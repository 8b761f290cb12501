"""The examples run as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .conftest import MakeConfig

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_roll_call_hears_everybody(make_config: MakeConfig) -> None:
    """It is the first program that a user copies."""
    # The example names its nodes as examples/loopback.toml does.
    config = make_config(3)
    text = config.read_text().replace('"bravo"', '"beta"').replace('"charlie"', '"gamma"')
    config.write_text(text)
    done = subprocess.run(
        [sys.executable, EXAMPLES / "rollcall.py", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = ("alpha", "beta", "gamma")
    assert sorted(done.stdout.splitlines()) == [
        f"{receiver} heard {sender}: hello from {sender}" for receiver in names for sender in names
    ]
