"""Build the C extensions; everything else about the package is in pyproject.toml.

With PHALANX_COMPILE=1 a wheel also has compiled the modules that run once a turn or once a batch:
mypyc makes C of them as they are, and docs/performance.md says what it gains. Such a wheel is for
one version of CPython; without it one wheel serves all from 3.11 on. A checkout is never compiled,
so that what is edited is what runs.

With PHALANX_COMPILE=pgo the compiler is guided by a profile, as for CPython itself: what it makes
first counts what runs while clusters work on the loopback interface, and is then made again.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

BUILDERS = ("build_codec.py", "build_udp.py", "build_usrsctp.py")
COMPILE = os.environ.get("PHALANX_COMPILE", "")
COMPILING = COMPILE in ("1", "pgo")
if not COMPILING and COMPILE not in ("", "0"):
    sys.exit(f"PHALANX_COMPILE={COMPILE}: use 1, or pgo, or leave it out")
BASE = Path("build", "compiled")
"""Apart: a later wheel without them must not find compiled modules among what was built before."""
COMPILED = (
    "_native/c_codec.py",
    "_native/twin.py",
    "transport/core/*.py",
    "transport/calls.py",
    "transport/cluster.py",
    "transport/delays.py",
    "transport/drivers/datagram_rails.py",
    "transport/drivers/datagrams.py",
    "transport/drivers/in_process*.py",
    "transport/drivers/simulated_*.py",
    "transport/drivers/simulator.py",
    "transport/layer_face.py",
    "transport/pump.py",
    "transport/receipts.py",
    "transport/runtime.py",
    "transport/sending.py",
    "transport/spinning.py",
    "transport/testing/memory_*.py",
    "transport/testing/rules.py",
    "transport/testing/simulated_node.py",
    "transport/testing/simulation.py",
    "transport/waiting_line.py",
    "transport/waking.py",
    "transport/wire_data.py",
    "transport/wire_probe.py",
    "transport/wire_roll.py",
    "barrier/arrival.py",
    "barrier/channel_queue.py",
    "barrier/checking.py",
    "barrier/core.py",
    "barrier/crossing.py",
    "barrier/decisions.py",
    "barrier/following.py",
    "barrier/generation.py",
    "barrier/names.py",
    "barrier/order.py",
    "barrier/outbox.py",
    "barrier/rosters.py",
    "barrier/service.py",
    "barrier/skew.py",
    "barrier/state.py",
    "barrier/table.py",
    "barrier/tickets.py",
)
"""Not: message types of msgspec, and classes that are weakly referenced. A class is compiled
together with all that are derived from it, or not at all.
"""
CONFIG = """\
[mypy]
namespace_packages = True
explicit_package_bases = True
ignore_missing_imports = True
mypy_path = {root}
"""
COUNT = ["-fprofile-generate"]
GUIDE = ["-fprofile-use", "-fprofile-correction", "-Wno-missing-profile"]
"""Several threads count without locks, and modules that are not compiled have no profile."""
TRAINING = "phalanx.barrier.testing.training"
TRAINING_S = 1800.0


class Guided(build_ext):
    """Compiles twice: the first time to count, the second time by what was counted."""

    def build_extensions(self) -> None:
        """The same sources and flags both times, or the counts are of other code."""
        self.force = True
        self._drop_counts()
        before = [(ext, ext.extra_compile_args, ext.extra_link_args) for ext in self.extensions]
        for ext, for_compiler, for_linker in before:
            ext.extra_compile_args = [*for_compiler, *COUNT]
            ext.extra_link_args = [*for_linker, *COUNT]
        super().build_extensions()
        self._train()
        for ext, for_compiler, for_linker in before:
            ext.extra_compile_args = [*for_compiler, *GUIDE]
            ext.extra_link_args = for_linker
        super().build_extensions()
        self._drop_counts()

    def _train(self) -> None:
        path = [str(Path(self.build_lib).absolute()), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
        try:
            command = [sys.executable, "-P", "-m", TRAINING]
            subprocess.run(command, env=env, check=True, timeout=TRAINING_S)
        except subprocess.SubprocessError as error:
            sys.exit(f"PHALANX_COMPILE=pgo: {error}; PHALANX_COMPILE=1 does without a training run")
        if not self._counts():
            sys.exit("PHALANX_COMPILE=pgo: nothing was counted; use gcc, or PHALANX_COMPILE=1")

    def _counts(self) -> list[Path]:
        return list(Path(self.build_temp).rglob("*.gcda"))

    def _drop_counts(self) -> None:
        for file in self._counts():
            file.unlink()


def required() -> list[str]:
    """What the build needs besides: a training run needs all that runs."""
    if not COMPILING:
        return []
    wanted = ["mypy[mypyc]>=1.14", "msgspec>=0.19"]
    if COMPILE == "pgo":
        wanted += tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
    return wanted


def compiled() -> list[Extension]:
    """The extensions that mypyc makes of Python modules."""
    if not COMPILING or "bdist_wheel" not in sys.argv:
        return []
    from mypyc.build import mypycify

    # What an earlier build has left goes into the wheel as well: modules that are compiled no more.
    for left in BASE.glob("lib*"):
        shutil.rmtree(left)
    # Under the names by which they are imported.
    root = (BASE / "modules").absolute()
    (root / "phalanx").mkdir(parents=True, exist_ok=True)
    for package in ("transport", "barrier", "_native"):
        link = root / "phalanx" / package
        if not link.is_symlink():
            link.symlink_to(Path(package).absolute(), target_is_directory=True)
    config = root / "mypy.ini"
    config.write_text(CONFIG.format(root=root), encoding="utf-8")
    modules = [
        str(root / "phalanx" / path)
        for pattern in COMPILED
        for path in sorted(Path().glob(pattern))
        if path.name != "__init__.py"
    ]
    return mypycify(
        ["--config-file", str(config), *modules], group_name="phalanx", target_dir=str(BASE / "c")
    )


setup(
    cffi_modules=[f"_native/{b}:ffibuilder" for b in BUILDERS if Path("_native", b).exists()],
    ext_modules=compiled(),
    cmdclass={"build_ext": Guided} if COMPILE == "pgo" and "bdist_wheel" in sys.argv else {},
    setup_requires=required(),
    options=(
        {"build": {"build_base": str(BASE)}}
        if COMPILING
        else {"bdist_wheel": {"py_limited_api": "cp311"}}
    ),
)
