"""Build the C extensions; everything else about the package is in pyproject.toml.

With PHALANX_COMPILE=1 a wheel also has compiled the modules that run once a turn or once a batch:
mypyc makes C of them as they are, and docs/performance.md says what it gains. Such a wheel is for
one version of CPython; without it one wheel serves all from 3.11 on. A checkout is never compiled,
so that what is edited is what runs.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup

BUILDERS = ("build_codec.py", "build_udp.py", "build_usrsctp.py")
COMPILING = os.environ.get("PHALANX_COMPILE") == "1"
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
    "transport/layer_face.py",
    "transport/pump.py",
    "transport/runtime.py",
    "transport/sending.py",
    "transport/waiting_line.py",
    "transport/waking.py",
    "transport/wire_data.py",
    "transport/wire_probe.py",
    "transport/wire_roll.py",
    "barrier/arrival.py",
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
"""Not: message types of msgspec, and classes that are weakly referenced."""
CONFIG = """\
[mypy]
namespace_packages = True
explicit_package_bases = True
ignore_missing_imports = True
mypy_path = {root}
"""


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
    setup_requires=["mypy[mypyc]>=1.14", "msgspec>=0.19"] if COMPILING else [],
    options=(
        {"build": {"build_base": str(BASE)}}
        if COMPILING
        else {"bdist_wheel": {"py_limited_api": "cp311"}}
    ),
)
