"""The barriers at which parties of a random schedule meet, by name."""

from __future__ import annotations

from phalanx.barrier import names
from phalanx.barrier.settings import Count, Policy, Registered, Settings, Strength, named

SETTINGS: dict[str, Settings] = {
    "all": Settings(),
    "two": Settings(Count(n=2)),
    "three": Settings(Count(n=3)),
    "named": Settings(named({1, 2, 3})),
    "safe": Settings(strength=Strength.SAFE),
    "safe two": Settings(Count(n=2), Strength.SAFE, Policy.SHRINK),
    "shrink": Settings(policy=Policy.SHRINK),
    "shrink three": Settings(Count(n=3), policy=Policy.SHRINK),
    "shrink named": Settings(named({1, 2, 3}), Strength.SAFE, Policy.SHRINK),
    "rejoin": Settings(policy=Policy.WAIT_FOR_REJOIN),
    "rejoin two": Settings(Count(n=2), policy=Policy.WAIT_FOR_REJOIN),
    "rejoin named": Settings(named({1, 2, 3}), policy=Policy.WAIT_FOR_REJOIN),
}
"""Barriers whose parties never disagree; any other name is used with changing settings."""
PHASERS: dict[str, Settings] = {
    "phaser": Settings(Registered()),
    "phaser shrink": Settings(Registered(), Strength.SAFE, Policy.SHRINK),
    "phaser rejoin": Settings(Registered(), policy=Policy.WAIT_FOR_REJOIN),
}
"""The same, for who is registered."""
DOUBLES: dict[str, Settings] = {
    names.enter_name("job"): Settings(),
    names.enter_name("shrinking job"): Settings(Count(n=2), policy=Policy.SHRINK),
}
"""Where parties enter that leave together."""
