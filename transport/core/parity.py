"""Whether frames go with parities, from which a piece that is lost is made without a question.

A frame of many pieces lacks one soon: of twelve, where one packet of twenty is lost, nearly every
second frame does. A parity for each twelve costs a twelfth more; what then is still to be asked for
lacks two of thirteen, a third as often (docs/wire.md has their layout). So it pays as soon as
receivers ask for parts of frames at all often. What is lost as a whole it does not mend: a frame
of one packet, and one that the kernel carries as one.
"""

from __future__ import annotations

from typing import Final

from ..drivers.base import ALL_PIECES, DATAGRAM_BYTES_MAX, PARITIES, PARITY_SPAN
from .repair import LOSS_WEIGHT, REPAIR_COST

OVER_BYTES: Final = 3 * DATAGRAM_BYTES_MAX
"""Of what is shorter, parities would be more than a quarter."""
FROM: Final = 1 / (PARITY_SPAN * REPAIR_COST)
"""With so many questions for each frame parities cost less: one packet for each `PARITY_SPAN`."""
UNTIL: Final = 1 / 512
"""With parities so many are asked for where about one packet of 300 is lost."""


class Parity:
    """Decides by what receivers have asked for lately."""

    def __init__(self) -> None:
        self._torn = 0.0
        """How many receivers have asked for a part of a frame, of each that is long enough."""
        self.pays = False

    def sent(self, size: int) -> None:
        """A frame of so many bytes goes to all."""
        if size > OVER_BYTES:
            self._torn *= 1.0 - LOSS_WEIGHT
            if self._torn < UNTIL:
                self.pays = False

    def asked(self, torn: int) -> None:
        """A receiver asks for parts of so many."""
        self._torn += torn * LOSS_WEIGHT
        if self._torn > FROM:
            self.pays = True

    def pieces(self, size: int) -> int:
        """Which pieces of a frame go."""
        return ALL_PIECES | PARITIES if self.pays and size > OVER_BYTES else ALL_PIECES
