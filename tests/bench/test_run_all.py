"""What all programs have measured becomes a page: tables, pictures, and how to do it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import run_all
import typer
from rich.table import Table
from rich.text import Text
from run_all import BEGIN, END, JOBS, Job, in_markdown, main, replaced

from peers.barrier_result import BarrierReport
from phalanx.barrier import bench_command
from phalanx.transport.errors import EnvironmentTrouble

MARKED = f"# Page\n\n{BEGIN}old\n{END}\nthe rest\n"


def test_a_table_of_the_terminal_is_one_of_a_page() -> None:
    """Numbers to the right, marks of Markdown as what they are."""
    table = Table(title="What")
    table.add_column("system")
    table.add_column("us", justify="right")
    table.add_row("a|b", Text("7", style="red"))
    assert in_markdown(table).splitlines() == [
        "**What**",
        "",
        "| system | us |",
        "| --- | --: |",
        "| a\\|b | 7 |",
    ]


def test_figures_come_between_the_marks() -> None:
    """What stood there goes, and nothing else."""
    page = replaced(MARKED, ["new\n"])
    assert "old" not in page
    assert page.startswith("# Page")
    assert page.endswith("the rest\n")
    assert page.index(BEGIN) < page.index("new") < page.index(END)
    assert replaced(page, ["newer\n"]).count("new") == 1
    assert replaced(MARKED, []) == MARKED


def test_a_page_without_marks_is_refused() -> None:
    """It would be lost where to write."""
    with pytest.raises(ValueError, match="no place"):
        replaced("# Page\n", ["new\n"])


def test_a_page_that_will_not_do_is_named_first(tmp_path: Path) -> None:
    """And not after two hours of measuring."""
    with pytest.raises(typer.BadParameter, match="No such file"):
        main(only="scale", runs=1, results=tmp_path, page=tmp_path / "page.md")
    (tmp_path / "page.md").write_text("# Page\n", encoding="utf-8")
    with pytest.raises(typer.BadParameter, match="no place"):
        main(only="scale", runs=1, results=tmp_path, page=tmp_path / "page.md")


def test_the_page_has_its_marks() -> None:
    """Of the documentation."""
    assert replaced(run_all.PAGE.read_text(encoding="utf-8"), ["new\n"])


def test_every_job_is_a_program() -> None:
    """And `phalanx bench` knows all of them."""
    for job in JOBS:
        assert (run_all.ROOT / job.command(None)[0]).is_file()
        assert job.name in bench_command.NAMES
    for name in bench_command.NAMES:
        assert bench_command.program(name).is_file()


def test_an_unknown_program_is_named() -> None:
    """With those that there are."""
    with pytest.raises(typer.BadParameter, match="use some of barrier"):
        main(only="fire", runs=1)


@pytest.mark.netns
def test_a_result_is_kept_drawn_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a program with little to do."""
    arguments = ("--nodes", "2", "--rounds", "20", "--peer", "udp", "--build", "interpreted")
    job = Job(name="barrier", title="A barrier", report=BarrierReport, arguments=arguments)
    monkeypatch.setattr(run_all, "JOBS", (job,))
    page = tmp_path / "page.md"
    page.write_text(MARKED, encoding="utf-8")
    with pytest.raises(typer.Exit) as ended:
        main(only="", runs=1, results=tmp_path / "results", page=page)
    assert ended.value.exit_code == 0
    written = page.read_text(encoding="utf-8")
    assert "| 2 | phalanx |" in written
    assert "`.venv/bin/python bench/barrier.py --nodes 2" in written
    assert (tmp_path / "bench-barrier.png").stat().st_size > 10_000
    assert (tmp_path / "results" / "barrier.json").stat().st_size > 100


def test_an_installation_without_sources_says_so(tmp_path: Path) -> None:
    """The programs are in the repository only."""
    with pytest.raises(EnvironmentTrouble, match="with the sources"):
        bench_command.program("order", tmp_path)


def test_the_command_becomes_the_program() -> None:
    """Its arguments are those of the program, its help too."""
    argv = [str(Path(sys.executable).with_name("phalanx")), "bench", "link"]
    done = subprocess.run([*argv, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Usage: link.py" in done.stdout
    done = subprocess.run([*argv[:2], "fire"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "use one of" in " ".join(done.stderr.split())
