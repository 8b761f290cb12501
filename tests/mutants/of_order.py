"""Deliberate bugs in the agreed order and in ordered channels (PROTOCOL 5)."""

from __future__ import annotations

from .mutant import CORE, DELIVERY, EPOCHS, Edit, Mutant, one

ORDERED = CORE + "ordered.py"
CARRYING = CORE + "carrying.py"
CHANNELS_CORE = "barrier/order.py"
QUEUE = "barrier/channel_queue.py"

ORDER = (
    Mutant(
        "epoch-without-all-ends",
        "5: an epoch is complete when all ENDs of it are held",
        (
            Edit(
                EPOCHS,
                "        if ends is None or len(ends) < self._count:\n",
                "        if ends is None or len(ends) < self._count - 1:\n",
            ),
            Edit(
                EPOCHS,
                "        lasts = [ends[member] for member in self._members]\n",
                "        lasts = [ends.get(member, 0) for member in self._members]\n",
            ),
        ),
    ),
    one(
        "epoch-without-its-batches",
        "5: ... and the batches before them",
        EPOCHS,
        "            if streams[member].held < sequence:\n                return None\n",
        "            pass\n",
    ),
    one(
        "end-before-its-batch",
        "5: an END that comes with a batch has that batch in it",
        ORDERED,
        "epochs.ended(origin, epoch, data.sequence):\n",
        "epochs.ended(origin, epoch, data.sequence - 1):\n",
    ),
    one(
        "one-rank-without-rotation",
        "5: an epoch is delivered by ascending (rank - e) mod n, everywhere",
        EPOCHS,
        "        first = epoch % self._count\n",
        "        first = epoch % self._count if self._node > 1 else 0\n",
    ),
    one(
        "newcomers-count-anew",
        "5: positions in the agreed order begin anew in each view, for all alike",
        ORDERED,
        "        self._index = 0\n        self._safe.clear()\n",
        "        self._safe.clear()\n",
    ),
    one(
        "remainder-by-sender",
        "5: up to the cut the ordered lane is delivered by (epoch, rank, sequence)",
        ORDERED,
        "        for _, _, _, rank in sorted(rest):\n",
        "        for *_, rank in sorted(rest, key=lambda it: (it[3] ^ self._node, it[2])):\n",
    ),
    Mutant(
        "ends-are-lost-with-an-association",
        "5: an END that a member may lack is said again; who looks for stalls would mend it",
        (
            Edit(
                DELIVERY,
                "            self.carrying.say_to(node, list(self.epochs.own_ends))\n",
                "            pass\n",
            ),
            Edit(CORE + "stalls.py", "        if not stalled_ns:\n", "        if True:\n"),
        ),
    ),
    Mutant(
        "ends-are-cast-once",
        "5: an END that was cast is said again; who looks for stalls would mend it",
        (
            Edit(
                CARRYING,
                "        endings = [ending for ending in self._epochs.own_ends "
                "if ending.epoch in due]\n",
                "        endings: list[Ending] = []\n        del due\n",
            ),
            Edit(CORE + "stalls.py", "        if not stalled_ns:\n", "        if True:\n"),
        ),
    ),
    Mutant(
        "batches-are-cast-once",
        "4: a batch that was cast is sent again; who looks for stalls would mend it",
        (
            Edit(
                CARRYING,
                "        for sequence, _ in cast:\n",
                "        for sequence, _ in ():\n",
            ),
            Edit(CORE + "stalls.py", "        if not stalled_ns:\n", "        if True:\n"),
        ),
    ),
    Mutant(
        "bulk-is-cast-once",
        "4: a batch that was cast is sent again, on each lane that is cast",
        (
            Edit(
                CARRYING,
                "            for stream, lane in self._cast_to(node):\n                at_ns",
                "            for stream, lane in self._cast_to(node)[:1]:\n                at_ns",
            ),
            Edit(CORE + "stalls.py", "        if not stalled_ns:\n", "        if True:\n"),
        ),
    ),
    one(
        "early-batch-out-of-order",
        "4: what overtakes others waits for them",
        DELIVERY,
        "                while later := stream.early.pop(stream.held + 1, None):\n",
        "                while stream.early and (later := stream.early.pop(min(stream.early))):\n",
    ),
    one(
        "done-before-it-is-so",
        "5, safe: `done` is the last epoch that its sender holds completely",
        ORDERED,
        "            view.id, mark_fifo, mark_bulk, epochs.current, epochs.complete, "
        "epochs.may_close()\n",
        "            view.id, mark_fifo, mark_bulk, epochs.current, epochs.current - 1, "
        "epochs.may_close()\n",
    ),
    one(
        "stable-at-the-first",
        "5, safe: e is safe when the minimum of `done` over all members is at least e",
        EPOCHS,
        "        lowest = min(self.done)\n        while self.own_ends",
        "        lowest = max(self.done)\n        while self.own_ends",
    ),
)

CHANNELS = (
    one(
        "safe-at-agreed",
        "guarantee 7: what asked for it is delivered when every member holds it",
        CHANNELS_CORE,
        "        if batch.safe or channel.held_back:\n",
        "        if channel.held_back:\n",
    ),
    one(
        "held-back-for-ever",
        "5: at a view change what was held back is held by all that go on",
        CHANNELS_CORE,
        "        self._release(lambda _: True)\n        gone",
        "        gone",
    ),
    one(
        "told-the-next-place",
        "guarantee 6: publishers are told where their entries are",
        CHANNELS_CORE,
        "        first = Position(batch.view_id.era, batch.view_id.k, batch.first)\n"
        "        self._published",
        "        first = Position(*batch.view_id, batch.first + batch.safe)\n"
        "        self._published",
    ),
    one(
        "late-without-state",
        "a channel that is opened late begins with the state of a member that has it",
        CHANNELS_CORE,
        "            channel.awaited = set(self._view.members) - {self._node}\n",
        "            channel.awaited = set(self._view.members[:1]) - {self._node}\n",
    ),
    one(
        "mark-overtakes-what-is-held-back",
        "a state has everything that is ordered before the opening",
        CHANNELS_CORE,
        "            self._put(channel, StateMark(position=at))\n",
        "            self._items.append((channel.name, StateMark(position=at)))\n",
    ),
    one(
        "mark-at-the-head-of-the-queue",
        "a state is given by who has read up to the opening",
        QUEUE,
        "            case StateMark():\n                self._items.append(item)\n",
        "            case StateMark():\n                self._items.appendleft(item)\n",
    ),
    one(
        "donor-before-its-own-opening",
        "who waits for state gives it only to one that asked later",
        CHANNELS_CORE,
        "self.since is not None and (self.whole or self.since < since)\n",
        "self.since is not None and since is not None\n",
    ),
    one(
        "gone-donor-is-waited-for",
        "if the donor leaves the view, the opener asks again",
        CHANNELS_CORE,
        "        if channel.donor in nodes and not channel.whole:\n",
        "        if False:\n",
    ),
    one(
        "old-place-in-a-new-order",
        "who begins anew opens its channels again, from there on",
        CHANNELS_CORE,
        "                channel.again = channel.again or channel.opened is not None\n"
        "                self._ask(channel)\n",
        "                channel.again = channel.again or channel.opened is not None\n",
    ),
)
