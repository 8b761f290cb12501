"""What callers of barriers write: refused with a `UsageError` that says what to write instead."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Literal, TypeAlias, TypeVar

from phalanx.transport.errors import UsageError

from .settings import Policy, Strength

LaneLike: TypeAlias = Literal["bulk"]
_Word = TypeVar("_Word", bound=enum.Enum)


def check_name(name: object) -> None:
    """A barrier's name, as far as it is not looked at by the core."""
    if not isinstance(name, str):
        raise UsageError(f"a barrier's name is a str, not {type(name).__name__}")
    if not name.isprintable():
        raise UsageError(f"a barrier's name has 1 to 64 printable bytes, not {name!r}")


def has_bulk(after: Collection[LaneLike]) -> bool:
    """Whether what was multicast on the bulk lane belongs to an arrival."""
    # Looked at as what it may be, for a string is a collection too.
    given: object = after
    if given in (["bulk"], ("bulk",), {"bulk"}, frozenset({"bulk"})):
        return True
    raise UsageError(f"after is () or ('bulk',), not {after!r}")


def check_payload(payload: object) -> None:
    """What comes with an arrival."""
    if type(payload) is not bytes:
        raise UsageError(f"a payload is bytes, not {type(payload).__name__}")


def strength_of(strength: object) -> Strength:
    """By the word for it."""
    return _one_of(Strength, "strength", strength)


def policy_of(policy: object) -> Policy:
    """By the word for it."""
    return _one_of(Policy, "policy", policy)


def _one_of(words: type[_Word], what: str, word: object) -> _Word:
    try:
        return words(word)
    except ValueError:
        known = ", ".join(repr(one.value) for one in words)
        raise UsageError(f"{what} is one of {known}, not {word!r}") from None
