"""What is packaged is what is in the tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOTS = ("transport", "barrier", "_native")
BUILD_LIMIT_S = 300


def package_folders(paths: Iterable[Path]) -> set[Path]:
    """Folders, relative to the root of the tree, that are Python packages."""
    return {path.parent for path in paths if path.name == "__init__.py" and path.parts[0] in ROOTS}


def listing_mistakes(listed: Iterable[str], folders: Iterable[Path]) -> list[str]:
    """What is wrong with the list of packages, in words."""
    names = {".".join(["phalanx", *folder.parts]) for folder in folders}
    listed = list(listed)
    return [
        *(f"pyproject.toml does not list {name}" for name in sorted(names - set(listed))),
        *(f"pyproject.toml lists {name}, which is gone" for name in sorted(set(listed) - names)),
        *(f"{name} is listed twice" for name in sorted({n for n in listed if listed.count(n) > 1})),
    ]


@pytest.fixture(scope="module")
def files(repository: Path, tracked: tuple[Path, ...]) -> tuple[Path, ...]:
    """The files of the tree, relative to its root."""
    return tuple(path.relative_to(repository) for path in tracked)


@pytest.fixture(scope="module")
def built(
    repository: Path, files: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[set[str], dict[str, bytes], str]:
    """Names in the source distribution; names and contents of the wheel made of it; its name.

    Built from a copy of what is in the repository, so that nothing which only lies about in
    this checkout can help.
    """
    copy = tmp_path_factory.mktemp("copy")
    for path in files:
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repository / path, copy / path)
    out = tmp_path_factory.mktemp("out")
    sdist = out / build("sdist", copy, out)
    # Not by tarfile: its safe filter is missing from the first releases of CPython 3.11.
    subprocess.run(["tar", "-xzf", sdist, "-C", out], check=True, timeout=BUILD_LIMIT_S)
    unpacked = out / sdist.name.removesuffix(".tar.gz")
    in_sdist = {str(p.relative_to(unpacked)) for p in unpacked.rglob("*") if p.is_file()}
    wheel = out / build("wheel", unpacked, out)
    with zipfile.ZipFile(wheel) as zipped:
        return in_sdist, {name: zipped.read(name) for name in zipped.namelist()}, wheel.name


def build(kind: str, source: Path, out: Path) -> str:
    """Build a "wheel" or "sdist" without the network, and return its file's name."""
    program = (
        "import sys; from setuptools import build_meta as backend\n"
        f"print(backend.build_{kind}(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(out)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"building the {kind} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()[-1]


def test_the_list_of_packages_equals_the_folders(repository: Path, files: tuple[Path, ...]) -> None:
    """A package that is not listed works in the checkout and is missing for users."""
    settings = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    assert (
        listing_mistakes(settings["tool"]["setuptools"]["packages"], package_folders(files)) == []
    )


def test_every_package_is_typed(files: tuple[Path, ...]) -> None:
    """Without a common root package each one needs a py.typed of its own (PEP 561)."""
    untyped = {folder for folder in package_folders(files) if folder / "py.typed" not in files}
    assert untyped == set()


def test_every_module_lies_in_a_package(files: tuple[Path, ...]) -> None:
    """A folder without an __init__.py is importable here and not packaged."""
    folders = package_folders(files)
    stray = [str(p) for p in files if p.parts[0] in ROOTS and p.suffix == ".py"]
    assert [name for name in stray if Path(name).parent not in folders] == []


def test_a_wrong_list_of_packages_is_found() -> None:
    """A check that cannot fail checks nothing."""
    listed = ["phalanx.transport", "phalanx.gone", "phalanx.transport"]
    assert listing_mistakes(listed, [Path("transport"), Path("transport/core")]) == [
        "pyproject.toml does not list phalanx.transport.core",
        "pyproject.toml lists phalanx.gone, which is gone",
        "phalanx.transport is listed twice",
    ]


def test_the_source_distribution_holds_what_a_build_needs(
    files: tuple[Path, ...], built: tuple[set[str], dict[str, bytes], str]
) -> None:
    """Headers and the licence are not found by the build tool itself."""
    in_sdist = built[0]
    wanted = {str(path) for path in files if path.parts[0] == "_native"}
    wanted |= {"pyproject.toml", "setup.py", "LICENSE", "README.md"}
    present = {str(path) for path in files}
    assert sorted((wanted & present) - in_sdist) == []
    assert [name for name in in_sdist if name.endswith((".so", ".pyc"))] == []


def test_the_wheel_holds_every_module_and_no_source_of_the_extensions(
    files: tuple[Path, ...], built: tuple[set[str], dict[str, bytes], str]
) -> None:
    """Users get the modules, their types and the compiled parts, under one import root."""
    _, contents, _ = built
    packaged = [path for path in files if path.parts[0] in ROOTS]
    wanted = {f"phalanx/{path}" for path in packaged if path.suffix in (".py", ".pyi", ".typed")}
    assert sorted(wanted - set(contents)) == []
    assert [name for name in contents if name.endswith((".c", ".h"))] == []
    tops = {name.split("/")[0] for name in contents}
    assert {top for top in tops if not top.startswith("phalanx")} == set()


def test_the_wheel_has_the_extensions_for_the_stable_abi(
    files: tuple[Path, ...], built: tuple[set[str], dict[str, bytes], str]
) -> None:
    """One wheel serves every CPython from 3.11 on."""
    _, contents, name = built
    builders = [path for path in files if path.match("_native/build_*.py")]
    extensions = [entry for entry in contents if entry.endswith(".so")]
    assert len(extensions) == len(builders)
    if builders:
        assert "-cp311-abi3-linux_" in name
        assert all(entry.endswith(".abi3.so") for entry in extensions)


def test_the_wheel_installs_the_command(built: tuple[set[str], dict[str, bytes], str]) -> None:
    """`phalanx` on the command line is part of what users are promised."""
    _, contents, _ = built
    entries = [data for name, data in contents.items() if name.endswith("entry_points.txt")]
    assert entries == [b"[console_scripts]\nphalanx = phalanx.barrier.cli:main\n"]
