"""Deliberate bugs in streams and barriers (PROTOCOL 4 and 6)."""

from __future__ import annotations

from .mutant import CORE, DELIVERY, FLUSH, MEMBERSHIP, Edit, Mutant, one

MESSAGES = (
    one(
        "acknowledges-what-it-lacks",
        "4: a batch is acknowledged when it is held",
        DELIVERY,
        "                too_early(self, node, stream, arrived, now_ns)\n",
        "                self._next(stream, arrived, now_ns)\n",
    ),
    one(
        "delivers-duplicates",
        "4: the receiver keeps the first of several copies",
        DELIVERY,
        "        if data.sequence <= stream.held:\n",
        "        if data.sequence < stream.held:\n",
    ),
    Mutant(
        "forgets-the-order-on-reconnect",
        "4: a new association goes on where the member is; who looks for stalls would mend it",
        (
            Edit(
                CORE + "carrying.py",
                "                progress.sent = progress.held\n",
                "                progress.sent = stream.last\n",
            ),
            Edit(CORE + "stalls.py", "        if not stalled_ns:\n", "        if True:\n"),
        ),
    ),
    one(
        "older-copies-count",
        "4: the receiver keeps the first of several copies, however late the others are",
        DELIVERY,
        "        if data.sequence <= stream.held:\n",
        "        if data.sequence == stream.held:\n",
    ),
    one(
        "youngest-message-first",
        "guarantee 2: messages are numbered in the order in which they were sent",
        CORE + "streams.py",
        "            payloads.append(payload)\n",
        "            payloads.insert(0, payload)\n",
    ),
    one(
        "delivers-past-the-view",
        "4: a message belongs to the view in which its batch is numbered",
        DELIVERY,
        "        if self.view is None or not self.ordered.is_here(data):\n"
        '            counters["data_of_other_view"] += 1\n',
        '        if self.view is None:\n            counters["data_of_other_view"] += 1\n',
    ),
    one(
        "skips-the-flush",
        "2, install: the rest of the view up to the cut is delivered before the next",
        FLUSH,
        "                delivery.hand_over(stream, stream.waiting.popleft())\n",
        "                stream.waiting.popleft()\n",
    ),
    Mutant(
        "delivers-behind-the-view",
        "2, install: the rest of the view up to the cut is delivered before the next",
        (
            Edit(MEMBERSHIP, "        self._flush.finish(value.cut, value.reasons)\n", ""),
            Edit(
                MEMBERSHIP,
                "        self._leases.reset_received()\n        self._delivery.start_view",
                "        self._flush.finish(value.cut, value.reasons)\n"
                "        self._leases.reset_received()\n        self._delivery.start_view",
            ),
        ),
    ),
    one(
        "keeps-nothing-for-others",
        "4: everybody keeps a batch until all members hold it",
        DELIVERY,
        "            stream.kept[data.sequence] = arrived\n",
        "            stream.kept = {data.sequence: arrived}\n",
    ),
    one(
        "settles-with-the-first",
        "guarantee 3: a message is held when every addressee holds it",
        CORE + "streams.py",
        "            lowest = min(lowest, progress.held)\n        return lowest\n",
        "            lowest = min(lowest, progress.held)\n"
        "        return max((p.held for p in self.progress.values()), default=lowest)\n",
    ),
    one(
        "settles-nothing-at-a-view-change",
        "guarantee 3: what was sent in a view is settled when it ends",
        FLUSH,
        "                delivery.outputs.stream.append(\n"
        "                    Settled("
        "addressee=addressee, lane=lane, token=token, missing=missing)\n"
        "                )\n",
        "",
    ),
    one(
        "forgets-who-lacks-it",
        "guarantee 3: the sender is told by name who does not hold a message",
        FLUSH,
        "if node in gone and progress.held < sequence",
        "if node in gone and progress.held < sequence - 1",
    ),
)

# More of them, which need what seldom happens, are in tests/barrier/test_model.py.
BARRIERS = (
    one(
        "counts-arrivals",
        "6: arrivals are a set of members, not so many messages",
        "barrier/generation.py",
        "        return self.takes(member) and member not in self.marks\n",
        "        return self.takes(member)\n",
    ),
    one(
        "stale-generation-counts",
        "6: an arrival made in an older view does not count in this one",
        "barrier/following.py",
        "        if message.view != state.view.id:\n",
        "        if False:\n",
    ),
    one(
        "released-before-the-messages",
        "6: an arrival counts only when what its party sent before is held",
        "barrier/following.py",
        "            late = late or held_back or bool(state.not_here(generation))\n",
        "            late = late or held_back\n",
    ),
    one(
        "released-one-place-later",
        "6: a release has the position of the entry that decided it, wherever it is returned",
        "barrier/following.py",
        "        own, mark = batch.sender == self._state.node, batch.mark_fifo\n",
        "        own, mark = batch.sender == self._state.node, batch.mark_fifo\n"
        "        index += own\n",
    ),
    one(
        "deadline-decides-alone",
        "6: a party whose deadline passes returns what the order says",
        "barrier/core.py",
        "            self._outbox.withdrawal(ticket)\n\n    def _grace_over",
        "            self._tickets.taken_back(ticket, {})\n\n    def _grace_over",
    ),
    one(
        "deadlines-are-forgotten",
        "guarantee 12: every wait ends by its deadline",
        "barrier/core.py",
        "                self._take_back(ticket, Cause.TIMEOUT, now_ns)\n            else:\n",
        "                ticket.deadline_ns = None\n            else:\n",
    ),
    one(
        "gone-parties-are-forgotten",
        "6: at a view change the policy decides about parties that are gone",
        "barrier/crossing.py",
        "        left = set(before.incarnations) - set(event.view.incarnations)\n",
        "        left: set[Member] = set()\n",
    ),
    one(
        "the-dead-count",
        "6: the arrival of an incarnation that is gone is void",
        "barrier/generation.py",
        "        self.forget(gone)\n        self.excuse(excused)\n",
        "        self.excuse(excused)\n",
    ),
    one(
        "payloads-are-not-said-again",
        "6: in a new view each party publishes its own payload again, and it is waited for",
        "barrier/generation.py",
        "    generation.owing = set(carried.owing)\n",
        "",
    ),
    one(
        "half-a-roster-is-carried",
        "6: a roster is carried as a whole",
        "barrier/generation.py",
        "members=tuple(self.members.values())\n",
        "members=tuple(self.members.values())[:1]\n",
    ),
    one(
        "who-deregisters-is-waited-for",
        "6: deregistrations count from the next generation on",
        "barrier/rosters.py",
        "            del roster.members[member.node]\n",
        "",
    ),
    one(
        "unknown-leaves-a-ghost",
        "6: what a detached node has published is taken back when it acts again",
        "barrier/core.py",
        "                else:\n                    self._outbox.withdrawal(ticket)\n",
        "",
    ),
    one(
        "spoiled-for-those-who-wait-only",
        "6: whoever comes later is told as well that it must not go on",
        "barrier/table.py",
        "        generation.spoiled = generation.spoiled or reason\n"
        "        decisions.append(Spoiled(generation))\n",
        "        generation.spoiled = reason\n"
        "        decisions.append(Spoiled(generation))\n"
        '        generation.spoiled = ""\n',
    ),
)
