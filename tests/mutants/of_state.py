"""Deliberate bugs in who has the state of a view, and in how it is handed over (PROTOCOL 2)."""

from __future__ import annotations

from .mutant import CORE, Edit, Mutant, one

FACES = "transport/faces.py"
STATE_CORE = CORE + "state.py"

STATE = (
    one(
        "snapshot-taken-late",
        "2, state: the snapshot is taken at the cut, before anything of the new view is read",
        FACES,
        "            self._items.popleft()\n"
        "            if arrived is None or isinstance(mark, StateWanted):\n",
        "            self._items.popleft()\n"
        "            if isinstance(mark, StateWanted) and len(self._items) > 3:\n"
        "                self._items.insert(3, mark)\n"
        "                return True\n"
        "            if arrived is None or isinstance(mark, StateWanted):\n",
    ),
    one(
        "reads-on-before-the-state",
        "2, state: what follows waits for the state",
        FACES,
        "            if isinstance(mark, StateAwaited) and arrived is None:\n"
        "                return False\n",
        "            if isinstance(mark, StateAwaited) and arrived is None:\n"
        "                self._items.popleft()\n"
        "                continue\n",
    ),
    one(
        "replays-nothing",
        "2, state: what came after the snapshot is replayed",
        FACES,
        "                self._arrived = None\n                self._hooks.take(arrived)\n",
        "                self._arrived = None\n"
        "                self._items = deque(\n"
        "                    i for i in self._items if not isinstance(i, Delivered)\n"
        "                )\n"
        "                self._hooks.take(arrived)\n",
    ),
    one(
        "hands-out-what-has-no-state",
        "2, state: multicasts of a view whose state never came are not handed out",
        FACES,
        "            elif behind and isinstance(item, Delivered) and not item.directed:\n",
        "            elif behind and False and isinstance(item, Delivered):\n",
    ),
    Mutant(
        "continues-without-state",
        "2, primary rule: who continues has the state of the view before",
        (
            Edit(
                CORE + "gather.py",
                "        return self.view is not None and self.synced == self.view.id\n",
                "        return self.view is not None\n",
            ),
            Edit(
                CORE + "proposal.py",
                "tuple(node for node in installed if reports[node].synced == previous.id)",
                "tuple(installed)",
            ),
        ),
    ),
    one(
        "lowest-id-founds-anew",
        "2, primary rule: a start-over has the newest state that is left",
        CORE + "proposal.py",
        "    return min(node for node, view in synced.items() if view == newest)\n",
        "    return min(synced)\n",
    ),
    one(
        "state-of-another-view",
        "2, state: a snapshot belongs to one view",
        STATE_CORE,
        "        elif not (value.continuing and self._taking is not None "
        "and self._taking.complete):\n",
        "        elif self._taking is None:\n",
    ),
    one(
        "state-survives-a-start-over",
        "2, state: in a start-over all take the state of the one donor",
        STATE_CORE,
        "        unbroken = bool(value.continuing) and standing.is_synced\n",
        "        unbroken = standing.is_synced or self._taking is not None\n",
    ),
    one(
        "parts-out-of-turn",
        "2, state: the parts of a state are put together in order",
        STATE_CORE,
        "        if taking.complete or part.offset != len(taking.parts):\n",
        "        if taking.complete:\n",
    ),
    Mutant(
        "asks-once",
        "2, state: what is lost with an association is asked for again",
        (
            Edit(
                STATE_CORE,
                "            taking.detour = False\n"
                "            self._ask_from_here(taking, now_ns)\n",
                "            taking.detour = False\n",
            ),
            Edit(
                STATE_CORE,
                "        taking.detour = True\n        self._ask_from_here(taking, now_ns)\n",
                "        taking.detour = True\n"
                '        self._timers.arm(Timer.STATE, "", now_ns + self._timing.suspect_ns)\n',
            ),
        ),
    ),
)
