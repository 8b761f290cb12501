"""A member in C or C++, compiled by the program that starts it, against the system's library."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from .failure import BenchFailed
from .machine import Language, compile_client, compiler
from .stage import Stage

_COMPILERS = {
    "c": "there is no C compiler; install the Debian package gcc",
    "c++": "there is no C++ compiler; install the Debian package g++",
}


@dataclass(slots=True, kw_only=True)
class Client:
    """What it is made of, and where it is when it is made."""

    peer: str
    """In words."""
    source: str
    """Its file beside this one."""
    library: str
    language: Language = "c"
    probe: str
    """A program that can be compiled where the library's development files are."""
    _binary: Path | None = field(default=None, init=False)

    def missing(self) -> list[str]:
        """What is not installed here, with what to do about it."""
        if compiler(self.language) is None:
            return [_COMPILERS[self.language]]
        name = f"lib{self.library}"
        with contextlib.suppress(BenchFailed):
            compile_client(
                name,
                *("-x", self.language, "-", "-o", os.devnull),
                library=self.library,
                language=self.language,
                text=self.probe,
            )
            return []
        return [f"{name} cannot be compiled against; install the Debian package {name}-dev"]

    def compiled(self, stage: Stage) -> str:
        """The command.

        Raises:
            BenchFailed: it cannot be compiled.
        """
        if self._binary is None:
            source = Path(__file__).with_name(self.source)
            binary = stage.folder / source.stem
            compile_client(
                f"the client of {self.peer}",
                *("-Werror", str(source), "-o", str(binary)),
                library=self.library,
                language=self.language,
            )
            self._binary = binary
        return str(self._binary)
