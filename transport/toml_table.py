"""Typed reading of one TOML table, with errors that name the file and the key.

A method that reads a key raises `ConfigError` when the key is missing (unless it has a default),
has the wrong type, or is out of its range.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import cast

from .config import NAME_BYTES_MAX
from .errors import ConfigError


class Table:
    """One table of the file and where it stands, so that every error names its key."""

    def __init__(self, file: str, key: str, values: dict[str, object]) -> None:
        self.file = file
        self._key = key
        self._values = values

    def key(self, name: str) -> str:
        """The full name of a key of this table, as errors give it."""
        return f"{self._key}.{name}" if self._key and name else self._key or name

    def error(self, name: str, problem: str, fix: str) -> ConfigError:
        """An error about one key of this table, to be raised."""
        return ConfigError(file=self.file, key=self.key(name), problem=problem, fix=fix)

    def has(self, name: str) -> bool:
        """Whether the file sets a key."""
        return name in self._values

    def names(self) -> Iterable[str]:
        """The keys that the file sets, in its order."""
        return self._values

    def only(self, known: Collection[str]) -> None:
        """Refuse keys that nobody reads: a misspelt setting must not be lost silently."""
        for name in self._values:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                raise self.error(
                    name,
                    "is unknown",
                    f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}",
                )

    def _get(self, name: str, wanted: str, kinds: tuple[type, ...], default: object) -> object:
        value = self._values.get(name, default)
        if value is None:
            raise self.error(name, "is missing", f"add {name} = {wanted}")
        # bool is a subclass of int, and `votes = true` is no number.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.error(name, f"is {_kind(value)}", f"write {wanted}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        return str(self._get(name, "a string in quotes", (str,), default))

    def text_or_integer(self, name: str, wanted: str) -> str | int:
        """A string or a whole number."""
        return cast("str | int", self._get(name, wanted, (str, int), None))

    def flag(self, name: str, *, default: bool) -> bool:
        """A boolean."""
        return bool(self._get(name, "true or false", (bool,), default))

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from `low` to `high`, both included."""
        wanted = f"a whole number from {low} to {high}"
        value = cast("int", self._get(name, wanted, (int,), default))
        if not low <= value <= high:
            raise self.error(name, f"is {value}", f"write {wanted}")
        return value

    def number(self, name: str, low: float, high: float, wanted: str) -> float:
        """A number from `low` to `high`, both included; `wanted` describes it."""
        value = cast("float", self._get(name, wanted, (int, float), None))
        if not low <= value <= high:  # not-a-number compares false, so it is refused too
            raise self.error(name, f"is {value}", f"write {wanted}")
        return value

    def choice(self, name: str, known: Sequence[str], default: str) -> str:
        """One of the known words."""
        value = self.text(name, default)
        if value not in known:
            raise self.error(name, f"{value!r} is unknown", f"write one of: {', '.join(known)}")
        return value

    def name_of(self, what: str) -> str:
        """A name: it is shown in terminals and is part of paths on disk."""
        name = self.text("name")
        size = len(name.encode("utf-8"))
        if not name:
            raise self.error("name", "is empty", f"give the {what} a name")
        if size > NAME_BYTES_MAX:
            most = NAME_BYTES_MAX
            raise self.error("name", f"takes {size} bytes", f"use at most {most} bytes of UTF-8")
        if name.startswith(".") or not name.isprintable() or re.search(r"[\s/]", name):
            raise self.error(
                "name",
                f"{name!r} holds a space, a slash or a control character, or starts with a dot",
                "use letters, digits, '-', '_' and '.'",
            )
        return name

    def table(self, name: str, example: str = "") -> Table:
        """A table inside this one; empty if the file leaves it out.

        Inside an entry of a list it has no header of its own: `example` shows it in one line.
        """
        value = self._values.get(name, {})
        if not isinstance(value, dict):
            header = f"write it as a table, [{self.key(name)}]"
            fix = f"write it like {example}" if example else header
            raise self.error(name, f"is {_kind(value)}", fix)
        return Table(self.file, self.key(name), cast("dict[str, object]", value))

    def tables(self, name: str, most: int) -> list[Table]:
        """The entries of `[[name]]`: at least one and at most `most`."""
        value = self._values.get(name, [])
        found = cast("list[object]", value if isinstance(value, list) else [value])
        if found is not value or not all(isinstance(entry, dict) for entry in found):
            problem = f"is {_kind(self._values[name])}, not a list of tables"
            raise self.error(name, problem, f"write [[{name}]] above each {name}")
        if not found:
            raise self.error(name, "is missing", f"add at least one [[{name}]]")
        if len(found) > most:
            raise self.error(name, f"has {len(found)} entries", f"use at most {most}")
        entries = cast("list[dict[str, object]]", found)
        return [Table(self.file, f"{name}[{i}]", entry) for i, entry in enumerate(entries)]


def _kind(value: object) -> str:
    """What a value is, in words for someone who writes TOML."""
    for kind, words in _KINDS:
        if isinstance(value, kind):
            return words
    return "a date or time"


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number with a fraction"),
    (str, "a string"),
    (dict, "a table"),
    (list, "a list"),
)
