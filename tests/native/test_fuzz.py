"""The codec and the datagrams in C, under sanitizers and fed with damage."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    *("-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-fno-omit-frame-pointer"),
    *("-Wall", "-Wextra", "-Werror"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
]
SECONDS_PER_SEED = 1.5
PARTS = {
    "codec": ("_native/codec.c",),
    "udp": ("_native/udp.c", "_native/udp_send.c", "_native/pieces.c"),
}
CASES_MIN = {"codec": 3000, "udp": 30}
"""About a hundredth of what one seed gets through on an idle core."""


@pytest.fixture(scope="module", params=sorted(CASES_MIN))
def part(request: pytest.FixtureRequest) -> str:
    """What is fuzzed."""
    return str(request.param)


@pytest.fixture(scope="module")
def fuzzer(part: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The part and its fuzzer, tests/native/fuzz_*.c, built with the sanitizers."""
    sources = (ROOT / f"tests/native/fuzz_{part}.c", *(ROOT / it for it in PARTS[part]))
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        # A failure where nothing may be skipped (conftest.py); elsewhere phalanx runs without one.
        pytest.skip("no C compiler: nothing is run under the sanitizers")
    program = tmp_path_factory.mktemp("asan") / f"fuzz_{part}"
    built = subprocess.run(
        [compiler, *FLAGS, f"-I{ROOT / '_native'}", *map(str, sources), "-o", str(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return program


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the fuzzer; its own time limit is far below this one."""
    return subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_input_never_leads_outside_its_memory(fuzzer: Path, part: str, seed: int) -> None:
    """Whoever can send a datagram must not be able to read or crash a node; seeds replay a run."""
    result = run(fuzzer, str(seed), str(SECONDS_PER_SEED))
    assert result.returncode == 0, result.stderr
    count, word = result.stdout.split()
    assert word == "cases"
    assert int(count) >= CASES_MIN[part]


def test_the_sanitizers_notice_one_byte_too_far(fuzzer: Path) -> None:
    """The test above proves nothing if they are not at work."""
    result = run(fuzzer, "overread")
    assert result.returncode != 0
    assert "heap-buffer-overflow" in result.stderr
