"""Ordered channels of which what is published and read stands in the history of a `Recorder`."""

from __future__ import annotations

from collections.abc import Iterable

from phalanx.transport.errors import Overloaded, PhalanxError, UsageError
from phalanx.transport.events import Lane, Member, Position
from phalanx.transport.testing.history import Placed, Sent, name_of
from phalanx.transport.testing.recorder import Recorder

from ..channel_items import Entries, Opening, StateMade
from ..channel_queue import Readable
from ..channels import OnState, OnStateRequest, OrderedChannel, Publication
from .read_chain import HEAD_BYTES, ReadChain

_REFUSALS: tuple[type[PhalanxError], ...] = (UsageError, Overloaded)
"""By these nothing was published; after any other error it may be ordered all the same."""


class RecordedChannel(OrderedChannel):
    """An `OrderedChannel` of the recorder's cluster; what is published and read is written down.

    With hooks for state a chain of hashes over all that was read goes along with the state, so
    that two applications whose states come from each other can be compared: then every node has to
    use this class. Where in the order an entry is, is written down for whoever waits for it:
    `publish` and `publish_many` (of which it is the last).
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        *,
        on_state_request: OnStateRequest | None = None,
        on_state: OnState | None = None,
    ) -> None:
        """As of `OrderedChannel`."""
        self._recorder = recorder
        self._chain = ReadChain(name, stateful=on_state is not None)
        super().__init__(
            recorder.cluster,
            name,
            on_state_request=None if on_state_request is None else self._with(on_state_request),
            on_state=None if on_state is None else self._without(on_state),
        )

    # ---------------------------------------------------------------------------- publishing

    async def publish_many(
        self, payloads: Iterable[bytes], *, safe: bool = False, timeout: float | None = None
    ) -> Position:
        """As of `OrderedChannel`."""
        listed = list(payloads)
        with self._recorder.sending(self._sent(listed, safe, timeout), refusals=_REFUSALS):
            position = await super().publish_many(listed, safe=safe, timeout=timeout)
        self._recorder.write(Placed(self._recorder.now_ns(), name_of(listed[-1]), position))
        return position

    async def submit(
        self,
        payloads: Iterable[bytes],
        *,
        safe: bool = False,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Publication:
        """As of `OrderedChannel`."""
        listed = list(payloads)
        with self._recorder.sending(self._sent(listed, safe, timeout), refusals=_REFUSALS):
            return await super().submit(listed, safe=safe, wait=wait, timeout=timeout)

    def _sent(self, payloads: list[bytes], safe: bool, timeout: float | None) -> Sent:
        recorder, now_ns = self._recorder, self._recorder.now_ns()
        return Sent(
            now_ns,
            recorder.next_number(),
            Lane.ORDERED,
            0,
            tuple(map(name_of, payloads)),
            recorder.deadline_ns(now_ns, timeout),
            incarnation=recorder.whose(),
            channel=self.name,
            safe=safe,
            receipt=False,
        )

    # ------------------------------------------------------------------------------- reading

    def _note(self, item: Readable) -> None:
        super()._note(item)
        recorder, now_ns = self._recorder, self._recorder.now_ns()
        if isinstance(item, Opening):
            recorder.write(self._chain.opened(item.position, now_ns))
        elif isinstance(item, Entries):
            recorder.write(self._chain.read(item, tuple(map(name_of, item.payloads)), now_ns))

    def _take(self, made: StateMade) -> None:
        super()._take(made)
        cluster = self._recorder.cluster
        self._chain.take(made, Member(cluster.node_id, cluster.incarnation))

    def _with(self, give: OnStateRequest) -> OnStateRequest:
        return lambda: self._chain.head() + give()

    @staticmethod
    def _without(take: OnState) -> OnState:
        return lambda state: take(state[HEAD_BYTES:])
