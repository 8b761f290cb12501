"""Deliberate bugs in streams and barriers (PROTOCOL 4 and 6)."""

from __future__ import annotations

from .mutant import CORE, DELIVERY, FLUSH, Edit, Mutant, one

MESSAGES = (
    one(
        "acknowledges-what-it-lacks",
        "4: a batch is acknowledged when it is held",
        DELIVERY,
        "            self._too_early(node, stream, arrived, now_ns)\n",
        "            self._next(stream, arrived, now_ns)\n",
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
        "        if self.view is None or data.view_id != self.view.id:\n"
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
        "return min((p.held for p in self.progress.values()), default=self.last)",
        "return max((p.held for p in self.progress.values()), default=self.last)",
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

BARRIERS = (
    Mutant(
        "counts-arrivals",
        "6: arrivals are a set of members, not so many messages",
        (
            Edit(
                "barrier/table.py",
                "return all(member in self.marks for member in self.members)",
                "return len(self.marks) >= len(self.members)",
            ),
            Edit(
                "barrier/table.py",
                "        generation.marks[member] = max(mark, generation.marks.get(member, 0))\n",
                "        generation.marks[Member(member.node, arrive.serial + 99)] = mark\n",
            ),
        ),
    ),
    one(
        "stale-generation-counts",
        "6: an arrival made in an older view does not count in this one",
        "barrier/core.py",
        "        if message.view != self._view.id or sender not in self._view.incarnations:\n",
        "        if sender not in self._view.incarnations:\n",
    ),
    one(
        "released-before-the-messages",
        "6: an arrival counts only when what its party sent before is held",
        "barrier/core.py",
        "        if self._not_here(ticket.completed.generation):\n            self._late.append",
        "        if False:\n            self._late.append",
    ),
    one(
        "released-one-place-later",
        "6: a release has the position of the entry that decided it, wherever it is returned",
        "barrier/core.py",
        "            decisions = self._table.arrive(\n"
        "                message, member=sender, mark=mark, position=entry.position\n",
        "            at = entry.position\n"
        "            later = Position(at.era, at.k, at.index + (sender == self._me))\n"
        "            decisions = self._table.arrive(\n"
        "                message, member=sender, mark=mark, position=later\n",
    ),
    one(
        "deadline-decides-alone",
        "6: a party whose deadline passes returns what the order says",
        "barrier/core.py",
        "        self._publish_withdrawal(ticket)\n\n    def _grace_over",
        "        self._tickets.taken_back(ticket, {})\n\n    def _grace_over",
    ),
    one(
        "deadlines-are-forgotten",
        "guarantee 12: every wait ends by its deadline",
        "barrier/core.py",
        "                self._take_back(ticket, Cause.TIMEOUT, now_ns)\n",
        "                ticket.deadline_ns = None\n",
    ),
    one(
        "gone-parties-are-forgotten",
        "6: at a view change the policy decides about parties that are gone",
        "barrier/core.py",
        "            gone = generation.gone(before, event.view)\n",
        "            gone: list[Member] = []\n",
    ),
)
