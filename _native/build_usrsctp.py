"""Describe the extension `phalanx._native._usrsctp` to cffi: the C side of the user_sctp driver.

It needs the system library usrsctp (Debian: `libusrsctp-dev`). Without it the driver is not
available and `phalanx` says so when it is asked for; `PHALANX_NATIVE=require` turns a failed
build, and with it every warning of the compiler, into an error.
"""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
REQUIRED = os.environ.get("PHALANX_NATIVE") == "require"
PARTS = ("stack", "ready", "socket", "link", "end", "poll")

ffibuilder = FFI()
ffibuilder.cdef((HERE / "usrsctp_api.h").read_text(encoding="utf-8"))
ffibuilder.set_source(
    "phalanx._native._usrsctp",
    '#include "usrsctp_internal.h"',
    sources=[f"_native/usrsctp_{part}.c" for part in PARTS],
    depends=["_native/usrsctp_api.h", "_native/usrsctp_internal.h"],
    include_dirs=[str(HERE)],
    libraries=["usrsctp", "pthread"],
    define_macros=[("_GNU_SOURCE", None), ("INET", None), ("INET6", None)],
    extra_compile_args=[
        "-O2",
        "-std=c11",
        "-Wall",
        "-Wextra",
        # cffi's generated half has parameters that it does not use.
        "-Wno-unused-parameter",
        *(["-Werror"] if REQUIRED else []),
    ],
    optional=not REQUIRED,
)
