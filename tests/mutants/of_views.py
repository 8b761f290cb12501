"""Deliberate bugs in how views are agreed, and in leases and proofs of death (PROTOCOL 2 and 3)."""

from __future__ import annotations

from .mutant import CORE, DELIVERY, GATHER, MEMBERSHIP, Edit, Mutant, one

HEARING_IS_REACHING = Edit(
    CORE + "heartbeats.py",
    "            else:\n                self._answer(",
    "            else:\n"
    "                heard = Probe(rail=probe.rail, sent_ns=now_ns, view_id=probe.view_id)\n"
    "                self._paths.answered(node, heard, now_ns, datagram=bool(cast_on))\n"
    "                self._answer(",
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
                "        if not continuing and nodes != self.configured "
                "and not self._acceptor.founding:\n"
                "            return False\n",
                "",
            ),
            Edit(
                GATHER,
                "        if not continuing and nodes != self.configured "
                "and not message.founding:\n"
                '            return "nobody in the proposal continues the view before"\n',
                "",
            ),
            Edit(
                MEMBERSHIP,
                "        if not (attempt.value.continuing or attempt.founding) "
                "and self._configured - nodes:\n",
                "        if False:\n",
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
                GATHER,
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
    one(
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
                "        if self.decided is not None and self.decided.id >= message.id:\n"
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
                "        if not self._is_next(value.id, value.members):",
                "        if not self._is_next(value.id, value.members):",
            ),
            Edit(
                CORE + "founding.py",
                "        return view_id == (decided.era, decided.k + 1)\n",
                "        return view_id <= (decided.era, decided.k + 1)\n",
            ),
            Edit(
                MEMBERSHIP,
                "                self._send(node, wire.Install(value=decided))\n\n    def evaluate",
                "                pass\n\n    def evaluate",
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
                GATHER,
                "if node != me.node and not self.reaches_us(node, now_ns):",
                "if False:",
            ),
        ),
    ),
    one(
        "promise-before-durable",
        "2, close: who promises first makes the promise durable",
        CORE + "acceptor.py",
        "        token = self._token if vote else 0\n",
        "        token = 0\n",
    ),
    one(
        "accepted-before-durable",
        "2, accept: the value is durable before ACCEPTED is said",
        CORE + "acceptor.py",
        "                token=self._token,\n                k=value.k,",
        "                token=0,\n                k=value.k,",
    ),
    Mutant(
        "forgets-the-promise",
        "2, accept: an ACCEPT of a lower ballot than the one promised is refused",
        (
            Edit(MEMBERSHIP, "        if message.ballot < highest:\n", "        if False:\n"),
            Edit(
                CORE + "acceptor.py",
                '        assert ballot >= self.promised, "the membership refuses lower ballots"\n',
                "",
            ),
        ),
    ),
    one(
        "accepts-without-closing",
        "2, accept: an acceptor that has not promised this ballot closes its view first",
        MEMBERSHIP,
        "        self._close(value.k, message.ballot, now_ns)\n        out =",
        "        out =",
    ),
    one(
        "forgets-what-was-accepted",
        "2, choose: a value accepted under the highest ballot is proposed again",
        CORE + "proposal.py",
        "    return best.accepted if best is not None else None\n",
        "    return None\n",
    ),
    one(
        "cut-of-one-member",
        "2, choose: the cut is the most that any continuing member holds",
        CORE + "proposal.py",
        "    for node in installed:\n        for held in reports[node].held:\n",
        "    for node in installed[-1:]:\n        for held in reports[node].held:\n",
    ),
    one(
        "skips-the-hold",
        "2, hold: every member holds the cut before anything is accepted",
        MEMBERSHIP,
        "        lacking = proposal.sources(attempt.value, self.decided, attempt.promises)\n",
        "        lacking: dict[int, tuple[wire.Source, ...]] = {}\n",
    ),
    one(
        "accepted-before-grants-are-out",
        "2, accept: ACCEPTED waits for the own grants to those left out",
        MEMBERSHIP,
        "not_before_ns=not_before)",
        "not_before_ns=0)",
    ),
    one(
        "closed-and-still-delivers",
        "2, close: a closed view delivers nothing",
        DELIVERY,
        "        if self.closed:\n            stream.waiting.append(arrived)\n"
        "        elif data.lane == ORDERED_LANE:\n",
        "        if data.lane == ORDERED_LANE:\n",
    ),
    Mutant(
        "closed-and-still-sends",
        "2, close: a closed view sends no new batch",
        (
            Edit(
                DELIVERY,
                "        if self.view is None or self.closed:\n            release(self, now_ns)\n",
                "        if self.view is None:\n            release(self, now_ns)\n",
            ),
            Edit(
                CORE + "endpoint.py",
                "            and not self.standing.closed_for\n"
                "            and not self.standing.evicted\n",
                "            and not self.standing.evicted\n",
            ),
        ),
    ),
    one(
        "closed-and-still-acknowledges",
        "2, close: a closed view acknowledges nothing",
        DELIVERY,
        "        if self.view is None or self.closed:\n            return\n        if not at_once",
        "        if self.view is None:\n            return\n        if not at_once",
    ),
    one(
        "closed-and-still-grants",
        "2 and 3: who has promised grants no more",
        MEMBERSHIP,
        "            and not standing.closed_for\n            and not standing.left\n",
        "            and not standing.left\n",
    ),
    one(
        "grants-to-who-is-left-out",
        "2, gather: members of L stop granting to nodes outside of it",
        MEMBERSHIP,
        "            and node not in self.gather.stopped\n",
        "",
    ),
    Mutant(
        "nobody-is-told-the-view-before",
        "2, gather: a node that lacks the view before learns it before it promises",
        (
            Edit(
                MEMBERSHIP,
                "        if message.known is not None:\n"
                "            self.learn(message.known, now_ns)\n",
                "",
            ),
            Edit(
                MEMBERSHIP,
                "                self._send(node, wire.Install(value=decided))\n",
                "                pass\n",
            ),
        ),
    ),
    one(
        "abort-reopens-the-view",
        "2: the closure of a view is no part of an attempt",
        MEMBERSHIP,
        '        self._timers.stop(Timer.PHASE)\n        self._outputs.counters[f"attempt given up',
        "        self._timers.stop(Timer.PHASE)\n        self.standing.closed_for = 0\n"
        "        self._delivery.closed = self.standing.view is None\n"
        '        self._outputs.counters[f"attempt given up',
    ),
    one(
        "cut-of-who-has-state",
        "2, choose: the cut is over all members that installed the view, synced or not",
        CORE + "proposal.py",
        "    for node in installed:\n        for held in reports[node].held:\n",
        "    for node in continuing:\n        for held in reports[node].held:\n",
    ),
    one(
        "install-out-of-turn",
        "2, install: a view that is older than the decided one changes nothing",
        CORE + "acceptor.py",
        "        if self.decided is not None and value.id <= self.decided.id:\n"
        "            return False\n",
        "",
    ),
    one(
        "evicted-goes-on",
        "2, eviction: a node outside a decided view stops",
        MEMBERSHIP,
        "        elif self.standing.view is not None:\n            self.end_incarnation()\n",
        "",
    ),
    one(
        "lost-record-votes",
        "2: a node that lost its record votes only after a view has admitted it",
        CORE + "acceptor.py",
        "        if not (self.record.voter or self.record.founding) or not self._writable:\n",
        "        if not self._writable:\n",
    ),
    one(
        "full-disk-votes",
        "2: a node that cannot write its record reports without vote",
        CORE + "acceptor.py",
        "        self._writable = False\n        self._replies = [",
        "        for reply in self._replies:\n            self._durable = max(self._durable, "
        "reply.token)\n        self._replies = list(self._replies) or [",
    ),
)

FORCE = (
    one(
        "founder-obeys-an-older-era",
        "2, force: who founds an era ignores views of older ones",
        CORE + "acceptor.py",
        "        if value.era < self.founding:\n            return False\n",
        "",
    ),
    one(
        "founders-and-others-mix",
        "2, force: who founds an era and who does not go separate ways",
        CORE + "founding.py",
        "    return {member: row for member, row in rows.items() if member not in strange}\n",
        "    return rows\n",
    ),
    one(
        "forced-votes-at-once",
        "2 and 3, force: a founder waits one lease like any restarted acceptor",
        CORE + "parts.py",
        "    fresh = not (start.record.voter or start.record.founding)\n",
        "    fresh = bool(start.record.founding) or not start.record.voter\n",
    ),
)

LEASES = (
    one(
        "loses-its-lease-without-a-word",
        "3: who may not act any more says so, one lease later at the latest",
        CORE + "lease_watch.py",
        "            self._outputs.stream.append(\n                PrimaryLost(",
        "            _ = (\n                PrimaryLost(",
    ),
    one(
        "one-silent-rail-is-enough",
        "guarantee 13: a member is reached as long as it answers on any rail",
        CORE + "paths.py",
        "        last_ns = max(path.answered_ns for path in paths.paths.values())",
        "        last_ns = min(path.answered_ns for path in paths.paths.values())",
    ),
    one(
        "acts-without-lease",
        "3: a member acts only while echoes of a quorum are younger than the lease",
        CORE + "leases.py",
        "        return now_ns < self._ends_ns\n",
        "        return True\n",
    ),
    one(
        "lease-from-the-echo",
        "3: a lease runs from when the heartbeat was sent, not from when its echo came",
        CORE + "heartbeats.py",
        "            self._leases.take(node, probe.sent_ns)\n",
        "            self._leases.take(node, now_ns)\n",
    ),
    one(
        "grants-of-another-view",
        "3: only echoes tagged with this view grant",
        CORE + "leases.py",
        "        self._received.clear()\n",
        "        pass\n",
    ),
    one(
        "restarted-votes-at-once",
        "3: a restarted acceptor waits one lease before its first vote",
        CORE + "parts.py",
        "    votes_from = start.now_ns + (0 if fresh else int(timing.lease_ns * timing.drift))\n",
        "    votes_from = start.now_ns\n",
    ),
    one(
        "any-close-is-a-death",
        "3, proof of death: only the orderly end of a lifeline proves anything",
        CORE + "peers.py",
        "        if fin:\n            peer.lifelines[rail] =",
        "        if True:\n            peer.lifelines[rail] =",
    ),
    one(
        "one-lifeline-is-enough",
        "3, proof of death: every lifeline whose path is up has ended",
        CORE + "peers.py",
        "        return any(line.ended for line in mine.values()) and all(\n"
        "            line.ended for rail, line in mine.items() if rail in up\n"
        "        )\n",
        "        return any(line.ended for line in mine.values())\n",
    ),
    one(
        "lifeline-of-an-older-start",
        "3, proof of death: the end is seen while that incarnation's HELLO is the current one",
        CORE + "peers.py",
        "            if (line.incarnation, line.nonce) == (peer.incarnation, peer.nonce)\n",
        "",
    ),
    Mutant(
        "forgets-former-starts",
        "2: torn and rolled-back records are found out by the peers' memory",
        (
            Edit(
                CORE + "peers.py",
                '        values["seen"] = self.seen.get(node, (0, 0))\n',
                '        values["seen"] = (0, 0)\n',
            ),
            Edit(
                CORE + "peers.py", "        if hello.incarnation < seen:\n", "        if False:\n"
            ),
            Edit(
                CORE + "peers.py",
                "        if hello.incarnation == seen and hello.nonce != nonce:\n",
                "        if False:\n",
            ),
        ),
    ),
    one(
        "reuses-an-incarnation",
        "1 and 2: each start takes an incarnation that was never used",
        "transport/testing/simulated_node.py",
        "        incarnation = max(record.incarnation + 1, at_least)\n",
        "        incarnation = max(record.incarnation, at_least)\n",
    ),
)
