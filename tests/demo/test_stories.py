"""The examples that tell a story run as they are, and find out when the story is not true."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LIMIT_S = 60


def run(program: Path) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    return subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def told_by(example: str) -> list[str]:
    """The lines of an example that has to go well."""
    done = run(EXAMPLES / example)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


def those_with(pattern: str, lines: list[str]) -> list[re.Match[str]]:
    """The lines that match, in their order."""
    return [found for line in lines if (found := re.search(pattern, line))]


def test_the_copies_of_the_key_value_store_are_equal() -> None:
    """Also that of a node that has lost all, and has got the state of another."""
    lines = told_by("kv_store.py")
    copies = those_with(r"(\w+): sold (\d+) seats, the copy is (\w+)$", lines)
    assert sorted(copy[1] for copy in copies) == ["alpha", "beta", "gamma"]
    assert len({copy[3] for copy in copies}) == 1
    [lost] = those_with(r"gamma: loses its power, after (\d+) seats$", lines)
    assert int(lost[1]) + sum(int(copy[2]) for copy in copies) == 120
    assert len(those_with("gamma: has 60 keys from another", lines)) == 1


def test_the_lock_of_the_dead_goes_to_the_next_who_waits() -> None:
    """Once, for a lock that is given twice loses counts, and one that is never given hangs."""
    lines = told_by("lock_manager.py")
    [dies] = those_with(r" beta: dies and has the lock; those who wait: (.*)$", lines)
    [gets] = those_with(r"(\w+): gets the lock with which beta has died", lines)
    assert dies[1].split(", ")[0] == gets[1]
    assert lines[-1] == "the number is 25"


def test_a_lock_is_given_once_where_the_order_is_read_late(tmp_path: Path) -> None:
    """Who has given it back, and has not read so yet, may ask again and not have it."""
    text = (EXAMPLES / "lock_manager.py").read_text(encoding="utf-8")
    reads = "        async for entry in self._channel:\n"
    assert text.count(reads) == 1
    program = tmp_path / "lock_manager.py"
    # The race itself: each node reads the order later than it gives locks back and asks anew.
    slowly = f"{reads}            await asyncio.sleep(0.003)\n"
    program.write_text(text.replace(reads, slowly), encoding="utf-8")
    shutil.copy(EXAMPLES / "three.py", tmp_path)
    done = run(program)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "the number is 25"


def test_a_frozen_leader_is_refused_by_the_storage() -> None:
    """Its token is from before; those of all who are elected later are larger."""
    lines = told_by("leader_election.py")
    elected = those_with(r"(\w+): is elected by (\d) members, with token \((.*)\)$", lines)
    assert [(one[1], one[2]) for one in elected] == [("alpha", "3"), ("beta", "2"), ("alpha", "3")]
    tokens = [tuple(map(int, one[3].split(", "))) for one in elected]
    assert tokens == sorted(set(tokens))
    assert len(those_with("alpha: is refused", lines)) == 1
    assert lines[-1] == "the storage has what was written by beta and then alpha"


def test_a_computation_in_steps_comes_to_the_result_of_one_process() -> None:
    """To the last bit: the example itself compares them, and ends when all cells agree."""
    lines = told_by("bulk_synchronous.py")
    assert len(those_with("has computed cells", lines)) == 3
    assert len(those_with(r"alpha: the rod after (\d+) steps, .*: @%.*\. *$", lines)) == 1


@pytest.mark.parametrize(
    ("example", "right", "wrong", "words"),
    [
        (
            "kv_store.py",
            "set_result(done)",
            "set_result(True)",
            "sold by another, or never",
        ),
        (
            "lock_manager.py",
            "{int(number) + 1} nobody",
            "{int(number) + (name != 'gamma')} nobody",
            "a count is lost",
        ),
        ("leader_election.py", "token < seen", "token == seen", "does not say 'is refused'"),
        ("bulk_synchronous.py", "edges[rank - 1][1]", "edges[rank - 1][0]", "it differs from"),
    ],
)
def test_an_example_finds_out_what_is_wrong(
    tmp_path: Path, example: str, right: str, wrong: str, words: str
) -> None:
    """What is built from it will be wrong at first; then it has to say so, and end with 1."""
    text = (EXAMPLES / example).read_text(encoding="utf-8")
    assert text.count(right) == 1
    program = tmp_path / example
    program.write_text(text.replace(right, wrong), encoding="utf-8")
    shutil.copy(EXAMPLES / "three.py", tmp_path)
    done = run(program)
    assert done.returncode == 1, done.stdout + done.stderr
    assert words in done.stderr


def test_an_example_with_strange_arguments_shows_how_it_is_used() -> None:
    """And a file that is not there is one line."""
    command = [sys.executable, EXAMPLES / "kv_store.py", "no-such-file.toml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 2
    assert "python examples/kv_store.py" in done.stderr
    done = subprocess.run(
        [*command, "alpha"], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_each_example_is_led_to_and_run() -> None:
    """One that nobody finds helps nobody, and one that is not run will break unseen."""
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    programs = {path.name for path in EXAMPLES.glob("*.py")} - {"three.py"}
    assert programs >= {"kv_store.py", "rollcall.py"}
    for name in programs:
        first_lines = (EXAMPLES / name).read_text(encoding="utf-8").partition('\n"""\n')[0]
        assert f"python examples/{name} " in first_lines
        assert f"(examples/{name})" in readme
        assert f'"{name}"' in tests
