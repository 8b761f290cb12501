"""Describe the extension `phalanx._native._udp` to cffi; setup.py builds what `ffibuilder` says.

It stands alone like the other two, for cffi runs each as a file. Where there is no C compiler,
datagrams go through Python's sockets one by one. `PHALANX_NATIVE=require` turns a failed build,
and with it every warning of the compiler, into an error.
"""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
REQUIRED = os.environ.get("PHALANX_NATIVE") == "require"

ffibuilder = FFI()
ffibuilder.cdef((HERE / "udp_api.h").read_text(encoding="utf-8"))
ffibuilder.set_source(
    "phalanx._native._udp",
    '#include "udp.h"',
    sources=["_native/udp.c", "_native/udp_send.c", "_native/pieces.c"],
    depends=[
        "_native/udp.h",
        "_native/udp_api.h",
        "_native/udp_internal.h",
        "_native/pieces.h",
    ],
    include_dirs=[str(HERE)],
    define_macros=[("_GNU_SOURCE", None)],
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
