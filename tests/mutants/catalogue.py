"""Deliberate bugs: each leaves out or bends one rule, and some run of the simulator must notice.

A mutant is a change of source text. Text that is not there exactly once is an error, so that a
mutant cannot go stale unnoticed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """One passage of one file and what stands there in the mutant."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug."""

    name: str
    rule: str
    """What is left out or bent, with its place in the protocol."""
    edits: tuple[Edit, ...]


def _one(name: str, rule: str, path: str, old: str, new: str) -> Mutant:
    return Mutant(name, rule, (Edit(path, old, new),))


CORE = "transport/core/"
MEMBERSHIP = CORE + "membership.py"
GATHER = CORE + "gather.py"
DELIVERY = CORE + "delivery.py"
EPOCHS = CORE + "epochs.py"
FLUSH = CORE + "flush.py"

HEARING_IS_REACHING = Edit(
    CORE + "endpoint.py",
    "        if not probe.echo:\n",
    "        if not probe.echo:\n"
    "            heard = probe._replace(sent_ns=now_ns)\n"
    "            self.paths.answered(node, heard, now_ns)\n",
)
NOT_MUTUAL = Edit(
    CORE + "reach.py",
    "{peer for peer in row if peer != member and member in reach.get(peer, ())}",
    "{p for p in reach if p != member and (p in row or member in reach[p])}",
)

VIEWS = (
    Mutant(
        "primary-without-continuing",
        "2, primary rule: at least one member is continuing, or all configured nodes are there",
        (
            Edit(
                GATHER,
                "        if not continuing and nodes != self.configured:\n"
                "            return False\n",
                "",
            ),
            Edit(
                MEMBERSHIP,
                "        if not continuing and nodes != self._configured:\n"
                '            return "nobody in the proposal continues the view before"\n',
                "",
            ),
        ),
    ),
    Mutant(
        "view-without-majority",
        "2: a quorum of the configured votes decides",
        (
            Edit(
                GATHER,
                " or not self._quorum.reached(nodes):\n"
                "            return False\n"
                "        continuing",
                ":\n            return False\n        continuing",
            ),
            Edit(
                GATHER,
                "        return self._quorum.reached(voters)\n",
                "        return bool(voters)\n",
            ),
            Edit(
                MEMBERSHIP,
                "        if not self._quorum.reached(nodes):\n"
                '            return "the proposal has no majority of votes"\n',
                "",
            ),
            Edit(
                MEMBERSHIP,
                "if not self._quorum.reached(n for n in nodes if attempt.promises[n].vote):",
                "if not any(attempt.promises[n].vote for n in nodes):",
            ),
            Edit(
                MEMBERSHIP,
                "        if self._quorum.reached(attempt.accepted):\n",
                "        if attempt.accepted:\n",
            ),
        ),
    ),
    _one(
        "decides-by-one",
        "2, accept: a quorum of ACCEPTED decides",
        MEMBERSHIP,
        "        if self._quorum.reached(attempt.accepted):\n",
        "        if attempt.accepted:\n",
    ),
    Mutant(
        "obeys-who-is-behind",
        "2, gather: one that knows V_{k+1} answers with it and never promises",
        (
            Edit(
                MEMBERSHIP,
                "        if self.decided is not None and self.decided.k >= message.k:\n"
                "            self._send(node, wire.Install(value=self.decided))\n"
                "            return\n"
                "        highest = max(self._promised",
                "        highest = max(self._promised",
            ),
            Edit(
                MEMBERSHIP,
                "        if self.decided is not None and value.id <= self.decided.id:\n"
                "            self._send(node, wire.Install(value=self.decided))\n"
                "            return\n"
                "        if value.k != self._k + 1:",
                "        if value.k > self._k + 1:",
            ),
            Edit(
                MEMBERSHIP,
                "        if self.decided is not None and row.decided < self.decided.id:\n"
                "            self._send(node, wire.Install(value=self.decided))\n",
                "",
            ),
            Edit(
                GATHER,
                "if any(row.decided > known for row in rows.values()) or not",
                "if not",
            ),
            Edit(GATHER, "and not row.leaving and row.decided == known", "and not row.leaving"),
        ),
    ),
    Mutant(
        "one-way-counts-as-reached",
        "2, gather: L is a clique of *mutual* reachability",
        (HEARING_IS_REACHING, NOT_MUTUAL),
    ),
    Mutant(
        "deaf-proposer-is-obeyed",
        "2, gather: a proposer that is not reachable both ways is refused",
        (
            HEARING_IS_REACHING,
            NOT_MUTUAL,
            Edit(
                MEMBERSHIP,
                "if node != self._me.node and not self.gather.reaches_us(node, now_ns):",
                "if False:",
            ),
        ),
    ),
    _one(
        "promise-before-durable",
        "2, close: who promises first makes the promise durable",
        CORE + "acceptor.py",
        "        token = self._token if vote else 0\n",
        "        token = 0\n",
    ),
    _one(
        "accepted-before-durable",
        "2, accept: the value is durable before ACCEPTED is said",
        CORE + "acceptor.py",
        "                token=self._token,\n                k=value.k,",
        "                token=0,\n                k=value.k,",
    ),
    _one(
        "forgets-the-promise",
        "2, accept: an ACCEPT of a lower ballot than the one promised is refused",
        MEMBERSHIP,
        "        if message.ballot < highest:\n",
        "        if False:\n",
    ),
    _one(
        "accepts-without-closing",
        "2, accept: an acceptor that has not promised this ballot closes its view first",
        MEMBERSHIP,
        "        self._close(value.k, message.ballot, now_ns)\n        out =",
        "        out =",
    ),
    _one(
        "forgets-what-was-accepted",
        "2, choose: a value accepted under the highest ballot is proposed again",
        CORE + "proposal.py",
        "    return best.accepted if best is not None else None\n",
        "    return None\n",
    ),
    _one(
        "adopts-the-lowest-ballot",
        "2, choose: of the accepted values the one of the highest ballot",
        CORE + "proposal.py",
        "promise.accepted_ballot > best.accepted_ballot",
        "promise.accepted_ballot < best.accepted_ballot",
    ),
    _one(
        "cut-of-one-member",
        "2, choose: the cut is the most that any continuing member holds",
        CORE + "proposal.py",
        "    for node in installed:\n        for held in reports[node].held:\n",
        "    for node in installed[-1:]:\n        for held in reports[node].held:\n",
    ),
    _one(
        "skips-the-hold",
        "2, hold: every member holds the cut before anything is accepted",
        MEMBERSHIP,
        "        lacking = proposal.sources(attempt.value, self.decided, attempt.promises)\n",
        "        lacking: dict[int, tuple[wire.Source, ...]] = {}\n",
    ),
    _one(
        "accepted-before-grants-are-out",
        "2, accept: ACCEPTED waits for the own grants to those left out",
        MEMBERSHIP,
        "not_before_ns=not_before)",
        "not_before_ns=0)",
    ),
    _one(
        "closed-and-still-delivers",
        "2, close: a closed view delivers nothing",
        DELIVERY,
        "        if self.closed:\n            stream.waiting.append(Arrived(data, frame))\n"
        "            return\n",
        "",
    ),
    _one(
        "closed-and-still-sends",
        "2, close: a closed view sends no new batch",
        DELIVERY,
        "        if self.view is None or self.closed:\n            return\n        if may_number:",
        "        if self.view is None:\n            return\n        if may_number:",
    ),
    _one(
        "closed-and-still-acknowledges",
        "2, close: a closed view acknowledges nothing",
        DELIVERY,
        "if self.view is None or self.closed or not (dirty or self.done_untold):",
        "if self.view is None or not (dirty or self.done_untold):",
    ),
    _one(
        "closed-and-still-grants",
        "2 and 3: who has promised grants no more",
        MEMBERSHIP,
        "            and not standing.closed_for\n            and not standing.left\n",
        "            and not standing.left\n",
    ),
    _one(
        "install-out-of-turn",
        "2, install: a view that is older than the decided one changes nothing",
        MEMBERSHIP,
        "        if self.decided is not None and value.id <= self.decided.id:\n            return\n"
        "        admitted",
        "        admitted",
    ),
    _one(
        "evicted-goes-on",
        "2, eviction: a node outside a decided view stops",
        MEMBERSHIP,
        "            self.standing.evicted = True\n            self._delivery.closed = True\n",
        "            pass\n",
    ),
    _one(
        "lost-record-votes",
        "2: a node that lost its record votes only after a view has admitted it",
        CORE + "acceptor.py",
        "        if not self.record.voter or not self._writable:\n",
        "        if not self._writable:\n",
    ),
    _one(
        "full-disk-votes",
        "2: a node that cannot write its record reports without vote",
        CORE + "acceptor.py",
        "        self._writable = False\n        self._replies = [",
        "        for reply in self._replies:\n            self._durable = max(self._durable, "
        "reply.token)\n        self._replies = list(self._replies) or [",
    ),
)

LEASES = (
    _one(
        "acts-without-lease",
        "3: a member acts only while echoes of a quorum are younger than the lease",
        CORE + "leases.py",
        "        return now_ns < self._ends_ns\n",
        "        return True\n",
    ),
    _one(
        "lease-from-the-echo",
        "3: a lease runs from when the heartbeat was sent, not from when its echo came",
        CORE + "endpoint.py",
        "            self.leases.take(node, probe.sent_ns)\n",
        "            self.leases.take(node, now_ns)\n",
    ),
    _one(
        "grants-of-another-view",
        "3: only echoes tagged with this view grant",
        CORE + "leases.py",
        "        self._received.clear()\n",
        "        pass\n",
    ),
    _one(
        "restarted-votes-at-once",
        "3: a restarted acceptor waits one lease before its first vote",
        CORE + "parts.py",
        "    votes_from = start.now_ns + (0 if fresh else int(timing.lease_ns * timing.drift))\n",
        "    votes_from = start.now_ns\n",
    ),
    _one(
        "any-close-is-a-death",
        "3, proof of death: only the orderly end of a lifeline proves anything",
        CORE + "peers.py",
        "        if fin:\n            peer.lifelines[rail] =",
        "        if True:\n            peer.lifelines[rail] =",
    ),
    _one(
        "one-lifeline-is-enough",
        "3, proof of death: every lifeline whose path is up has ended",
        CORE + "peers.py",
        "        return any(line.ended for line in mine.values()) and all(\n"
        "            line.ended for rail, line in mine.items() if rail in up\n"
        "        )\n",
        "        return any(line.ended for line in mine.values())\n",
    ),
    _one(
        "lifeline-of-an-older-start",
        "3, proof of death: the end is seen while that incarnation's HELLO is the current one",
        CORE + "peers.py",
        "            if (line.incarnation, line.nonce) == (peer.incarnation, peer.nonce)\n",
        "",
    ),
    _one(
        "older-start-replaces",
        "3, identity: a lower incarnation than one seen is turned away",
        CORE + "peers.py",
        "        if hello.incarnation < seen:\n",
        "        if False:\n",
    ),
    _one(
        "two-starts-of-one-number",
        "2: torn and rolled-back records are found out by the peers' memory",
        CORE + "peers.py",
        "        if hello.incarnation == seen and hello.nonce != nonce:\n",
        "        if False:\n",
    ),
)

MESSAGES = (
    _one(
        "acknowledges-what-it-lacks",
        "4: a batch is acknowledged when it is held",
        DELIVERY,
        "            self._timers.arm_earlier(Timer.RESYNC, node, "
        "now_ns + self._timing.ack_delay_ns)\n"
        "            return\n",
        "            stream.held = data.sequence - 1\n",
    ),
    _one(
        "delivers-duplicates",
        "4: the receiver keeps the first of several copies",
        DELIVERY,
        "        if data.sequence <= stream.held:\n",
        "        if data.sequence < stream.held:\n",
    ),
    _one(
        "forgets-the-order-on-reconnect",
        "4: a new association goes on where the member is",
        DELIVERY,
        "                progress.sent = progress.held\n",
        "                progress.sent = stream.last\n",
    ),
    _one(
        "delivers-past-the-view",
        "4: a message belongs to the view in which its batch is numbered",
        DELIVERY,
        "        if self.view is None or data.view_id != self.view.id:\n"
        '            counters["data_of_other_view"] += 1\n',
        '        if self.view is None:\n            counters["data_of_other_view"] += 1\n',
    ),
    _one(
        "skips-the-flush",
        "2, install: the rest of the view up to the cut is delivered before the next",
        FLUSH,
        "                delivery.hand_over(stream, stream.waiting.popleft())\n",
        "                stream.waiting.popleft()\n",
    ),
    _one(
        "flushes-past-the-cut",
        "2, close: above the cut everything is dropped",
        FLUSH,
        "stream.held if key.addressee else limits.get((key.origin, key.lane), 0)",
        "stream.held",
    ),
    _one(
        "keeps-nothing-for-others",
        "4: everybody keeps a batch until all members hold it",
        DELIVERY,
        "            stream.kept[data.sequence] = frame\n",
        "            stream.kept = {data.sequence: frame}\n",
    ),
    _one(
        "settles-with-the-first",
        "guarantee 3: a message is held when every addressee holds it",
        CORE + "streams.py",
        "return min((p.held for p in self.progress.values()), default=self.last)",
        "return max((p.held for p in self.progress.values()), default=self.last)",
    ),
    _one(
        "forgets-who-lacks-it",
        "guarantee 3: the sender is told by name who does not hold a message",
        FLUSH,
        "if node in gone and progress.held < sequence",
        "if node in gone and progress.held < sequence - 1",
    ),
)

ORDER = (
    _one(
        "epoch-without-all-ends",
        "5: an epoch is complete when all ENDs of it are held",
        EPOCHS,
        "            if ends is None or len(ends) < len(self._members):\n",
        "            if ends is None or len(ends) < len(self._members) - 1:\n",
    ),
    _one(
        "epoch-without-its-batches",
        "5: ... and the batches before them",
        EPOCHS,
        "            if any(held(member) < sequence for member, sequence in ends.items()):\n"
        "                return delivered, endings\n",
        "",
    ),
    _one(
        "every-rank-its-own-rotation",
        "5: an epoch is delivered by ascending (rank - e) mod n",
        EPOCHS,
        "self._members[(epoch + offset) % count]",
        "self._members[(epoch + offset + self._node) % count]",
    ),
    _one(
        "remainder-by-sender",
        "5: up to the cut the ordered lane is delivered by (epoch, rank, sequence)",
        EPOCHS,
        "rest.sort(key=lambda s: (s.epoch, (rank[s.origin] - s.epoch) % count, s.sequence))",
        "rest.sort(key=lambda s: ((rank[s.origin] + self._node) % count, s.sequence))",
    ),
    _one(
        "ends-are-lost-with-an-association",
        "5: an END that a member may lack is said again",
        DELIVERY,
        "            self.say_to(node, list(self.epochs.own_ends))\n",
        "            pass\n",
    ),
)

BARRIERS = (
    Mutant(
        "counts-arrivals",
        "6: arrivals are a set; a party does not count twice",
        (
            Edit(
                "barrier/table.py",
                "return all(member in self.marks for member in self.members)",
                "return len(self.marks) >= len(self.members)",
            ),
            Edit(
                "barrier/table.py",
                "        generation.marks[member] = max(mark, generation.marks.get(member, 0))\n"
                "        decisions.append(Counted(",
                "        again = Member(member.node, -arrive.serial)\n"
                "        generation.marks[again if member in generation.marks else member] = mark\n"
                "        decisions.append(Counted(",
            ),
        ),
    ),
    _one(
        "stale-generation-counts",
        "6: an arrival made in an older view does not count in this one",
        "barrier/core.py",
        "        if message.view != self._view.id or sender not in self._view.incarnations:\n",
        "        if sender not in self._view.incarnations:\n",
    ),
    _one(
        "released-before-the-messages",
        "6: an arrival counts only when what its party sent before is held",
        "barrier/core.py",
        "        if self._not_here(ticket.completed.generation):\n            self._late.append",
        "        if False:\n            self._late.append",
    ),
    _one(
        "deadline-decides-alone",
        "6: a party whose deadline passes returns what the order says",
        "barrier/core.py",
        "        self._publish_withdrawal(ticket)\n\n    def _grace_over",
        "        self._tickets.taken_back(ticket, {})\n\n    def _grace_over",
    ),
    _one(
        "withdrawal-after-the-release",
        "6: the outcome is decided at a position of the order",
        "barrier/core.py",
        "        if ticket.completed is not None:\n"
        "            return  # Released by the order; what is left is to have the messages here.\n",
        "",
    ),
    _one(
        "gone-parties-are-forgotten",
        "6: at a view change the policy decides about parties that are gone",
        "barrier/core.py",
        "            gone = generation.gone(before, event.view)\n",
        "            gone: list[Member] = []\n",
    ),
)

MUTANTS = (*VIEWS, *LEASES, *MESSAGES, *ORDER, *BARRIERS)
