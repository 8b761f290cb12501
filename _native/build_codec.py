"""Describe the extension `phalanx._native._codec` to cffi; setup.py builds what `ffibuilder` says.

A machine without a C compiler gets the pure-Python twin instead. `PHALANX_NATIVE=require` turns
a failed build, and with it every warning of the compiler, into an error.
"""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
REQUIRED = os.environ.get("PHALANX_NATIVE") == "require"

ffibuilder = FFI()
ffibuilder.cdef((HERE / "codec_api.h").read_text(encoding="utf-8"))
ffibuilder.set_source(
    "phalanx._native._codec",
    '#include "codec.h"',
    sources=["_native/codec.c"],
    depends=["_native/codec.h", "_native/codec_api.h"],
    include_dirs=[str(HERE)],
    extra_compile_args=[
        "-O3",
        "-std=c11",
        "-Wall",
        "-Wextra",
        # cffi's generated half has parameters that it does not use.
        "-Wno-unused-parameter",
        *(["-Werror"] if REQUIRED else []),
    ],
    optional=not REQUIRED,
)
