"""`[cluster] encapsulation`: a node on the kernel's SCTP that meets nodes over user_sctp."""

from __future__ import annotations

import pytest

from phalanx.transport.config_file import config_hash, parse
from phalanx.transport.errors import ConfigError

FILE = """
[cluster]
name = "c"
{setting}
[[rail]]
name = "a"
network = "10.71.0.0/24"
[[node]]
name = "alpha"
id = 1
addresses = {{ a = "10.71.0.1" }}
"""


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("", False), ("encapsulation = false", False), ("encapsulation = true", True)],
)
def test_it_is_off_unless_the_file_turns_it_on(setting: str, expected: bool) -> None:
    """It needs a setting of the kernel, without which the node would not start."""
    config = parse(FILE.format(setting=setting), file="cluster.toml")
    assert config.encapsulation is expected


def test_nodes_may_differ_in_it() -> None:
    """A node over user_sctp has no use for it, and need not have it in its file."""
    plain = parse(FILE.format(setting=""), file="one.toml")
    other = parse(FILE.format(setting="encapsulation = true"), file="two.toml")
    assert config_hash(plain) == config_hash(other)


def test_anything_but_true_or_false_is_refused() -> None:
    """A port number, for example, would look as if it chose the port."""
    with pytest.raises(ConfigError, match="encapsulation"):
        parse(FILE.format(setting="encapsulation = 9899"), file="cluster.toml")
