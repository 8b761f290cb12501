"""The extension that receives and sends many datagrams at once, where it was built.

`PHALANX_NATIVE` chooses as for the codec (`codec.py`): with `twin` there is none, with `require`
a missing one is an `ImportError`.
"""

from __future__ import annotations

import importlib
import os
from typing import Any


def extension() -> Any | None:
    """Its module, with `ffi` and `lib` (udp_api.h); None if datagrams have to go one by one.

    Raises:
        ImportError: it is required and was not built.
    """
    mode = os.environ.get("PHALANX_NATIVE")
    if mode == "twin":
        return None
    try:
        return importlib.import_module("phalanx._native._udp")
    except ImportError as error:
        if mode == "require":
            raise ImportError(
                "phalanx._native._udp is not built and PHALANX_NATIVE=require forbids to do "
                "without; install phalanx again where there is a C compiler"
            ) from error
        return None
