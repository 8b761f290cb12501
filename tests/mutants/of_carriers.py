"""Deliberate bugs in what mends datagrams, and in how one carrier takes over from another."""

from __future__ import annotations

from .mutant import CORE, DELIVERY, Edit, Judged, Mutant, one

REPAIR = CORE + "repair.py"
FALLBACK = CORE + "fallback.py"
FAN_OUT = CORE + "fan_out.py"
UDP_LINK = CORE + "udp_link.py"
CASTING = CORE + "casting.py"

CARRIERS = (
    one(
        "floor-passes-what-is-missing",
        "4, fan-out: everything below the floor has come, or was given up",
        REPAIR,
        "        while self.floor < self._top and self.floor not in self._gaps:\n",
        "        while self.floor < self._top:\n            self._gaps.pop(self.floor, None)\n",
    ),
    one(
        "next-number-hides-a-gap",
        "4, fan-out: the next number is next only if nothing before it is missing",
        REPAIR,
        "        if number != self._top % NUMBERS or self.floor != self._top:\n",
        "        if number != self._top % NUMBERS:\n",
    ),
    one(
        "gap-is-not-noticed",
        "4, fan-out: a later number shows that earlier ones are missing",
        REPAIR,
        "        for number in range(self._top, top):\n",
        "        for number in range(self._top, top - 1):\n",
    ),
    one(
        "nobody-falls-back",
        "4, fallback: whom SCTP does not reach is reached by datagrams",
        FALLBACK,
        "            elif self._may_open(node, now_ns):\n",
        "            elif False:\n",
    ),
)

IN_ORDER = (
    "core/test_udp_link.py::"
    "test_frames_come_in_the_order_of_their_streams_whatever_befalls_datagrams"
)
COMES_BACK = (
    "core/test_fallback.py::"
    "test_a_pair_that_loses_sctp_goes_on_without_a_view_change_and_comes_back"
)
NO_GAP = "core/test_active_rails.py::test_a_rail_that_is_lost_costs_no_gap"

JUDGED = (
    Judged(
        one(
            "second-copy-over-the-same-rail",
            "4, active rails: the second copy of what an association carries goes over another",
            CASTING,
            "others[0] if others and rail == primary else rail\n",
            "rail\n",
        ),
        NO_GAP,
    ),
    Judged(
        one(
            "cast-over-one-rail-only",
            "4, active rails: what is cast goes over two rails",
            CASTING,
            "        self._cast_over(self.rails, nodes, frame, number)\n        if self._active:\n",
            "        self._cast_over(self.rails, nodes, frame, number)\n        if False:\n",
        ),
        NO_GAP,
    ),
    Judged(
        one(
            "overtaking-copies-are-forgotten",
            "4, active rails: a copy is kept until what is before it has come",
            DELIVERY,
            "            if not (beside and stream.keep_copy(arrived, now_ns)):\n",
            "            if True:\n",
        ),
        NO_GAP,
    ),
    Judged(
        one(
            "overdue-goes-over-the-same-rail",
            "4: what is not confirmed in time goes over another rail as well",
            CASTING,
            "not self._active and len(frame) <= DATAGRAM_BYTES_MAX:\n",
            "False:\n",
        ),
        "core/test_active_rails.py::test_what_is_not_confirmed_in_time_goes_over_the_other_rail",
    ),
    Judged(
        one(
            "detour-keeps-what-was-cast",
            "4: what goes again on the repair stream is not waited for as a datagram",
            CORE + "stalls.py",
            "                progress.cast.clear()  # It is among what goes again.\n",
            "",
        ),
        "core/test_stalls.py::test_what_was_cast_goes_again_with_what_stands_still",
    ),
    Judged(
        Mutant(
            "link-never-sends-again",
            "4, fallback: what is not acknowledged in time goes again, and so does what lacks",
            (
                Edit(
                    UDP_LINK,
                    "            if part.sent_ns <= before_ns:\n",
                    "            if part.sent_ns < 0:\n",
                ),
                Edit(
                    UDP_LINK,
                    "            if flying is not None and now_ns - flying.sent_ns >= hold_ns:\n",
                    "            if flying is not None and number < 0:\n",
                ),
            ),
        ),
        IN_ORDER,
    ),
    Judged(
        one(
            "lacking-counts-as-come",
            "4, fallback: what the receiver lacks has not come, though it is below what has",
            UDP_LINK,
            "        come = [it for it in self._flying if it < top and it not in lacking]\n",
            "        come = [it for it in self._flying if it < top]\n",
        ),
        IN_ORDER,
    ),
    Judged(
        one(
            "question-is-not-answered",
            "4, fallback: who is asked what has come says so, also if it has said so before",
            UDP_LINK,
            "guard_ns=0)\n        self._ack_by(now_ns)\n",
            "guard_ns=0)\n",
        ),
        "core/test_udp_link.py::test_a_lost_answer_is_asked_for",
    ),
    Judged(
        one(
            "sctp-is-not-taken-back",
            "4, fallback: SCTP is dialled on, and takes over when it comes up",
            CORE + "peers.py",
            "        busy = peer.connecting or peer.link > 0 or self.stopped or not self._sctp\n",
            "        busy = peer.connecting or peer.link or self.stopped or not self._sctp\n",
        ),
        COMES_BACK,
    ),
    Judged(
        one(
            "deaf-host-is-trusted",
            "4, fan-out: whom the group does not reach is sent its own copies",
            CORE + "listeners.py",
            "            if rail in reached and self._heard.arrives(node, rail, now_ns):\n",
            "            if rail in reached:\n",
        ),
        "core/test_fan_out.py::"
        "test_a_host_that_hears_no_multicast_is_sent_its_own_copies_and_that_is_told",
    ),
    Judged(
        one(
            "own-copies-have-no-numbers",
            "4, fan-out: own copies have the numbers of what goes to the group",
            FAN_OUT,
            "        if number == UNNUMBERED:\n            return Cast(",
            "        if number == UNNUMBERED or nodes != _TO_GROUP:\n            return Cast(",
        ),
        "core/test_fan_out.py::test_who_hears_no_multicast_asks_for_what_is_lost_of_its_own_copies",
    ),
    Judged(
        one(
            "who-comes-back-lacks-all",
            "4, fan-out: who had batches over its association is told with which number it begins",
            FAN_OUT,
            "            self._sent.taking.pop(node, None)\n\n    def _keep(",
            "            del node\n\n    def _keep(",
        ),
        "core/test_fan_out.py::test_who_had_all_over_its_association_does_not_ask_for_it_again",
    ),
    Judged(
        one(
            "left-out-takes-part",
            "4, fan-out: all whom datagrams reach are sent the same, and nobody else is waited for",
            CORE + "carrying.py",
            "        self._casting.fan_out.begin()\n",
            "",
        ),
        "core/test_fan_out.py::test_a_member_that_is_left_out_keeps_nobody_from_asking",
    ),
    Judged(
        one(
            "directed-bulk-is-cast-once",
            "4: what goes to one member alone and is not acknowledged goes again, too",
            CORE + "carrying.py",
            "            for stream, lane in self._cast_to(node):\n                at_ns",
            "            for stream, lane in self._cast_to(node)[:2]:\n                at_ns",
        ),
        "core/test_casting.py::"
        "test_bulk_to_one_member_goes_as_datagrams_and_is_mended_over_the_association",
    ),
    Judged(
        one(
            "takes-a-meeting-without-its-last",
            "8: what is kept of a meeting is one roll only when all have spoken",
            CORE + "choir.py",
            "        elif choir.missing == 1:\n",
            "        elif choir.missing <= 2:\n",
        ),
        "core/test_choir.py::test_all_that_is_said_alike_is_taken_at_once",
    ),
    Judged(
        one(
            "who-is-late-is-not-asked",
            "4, fan-out: who has not said in time that it holds a batch is asked what it lacks",
            CORE + "carrying.py",
            "not stream.key.addressee and progress.asked < progress.held\n",
            "not stream.key.addressee and progress.asked > progress.held\n",
        ),
        "core/test_fan_out.py::test_who_does_not_say_in_time_that_it_has_it_is_asked_what_it_lacks",
    ),
    Judged(
        one(
            "tail-is-not-told",
            "4, fan-out: a sender says where it stands when nothing follows the last frame",
            FAN_OUT,
            "            self._cast_ns, self._tail_ns = now_ns, 2 * self.grtt_ns\n",
            "            self._cast_ns, self._tail_ns = now_ns, 0\n",
        ),
        "core/test_fan_out.py::test_a_lost_last_frame_is_missed_soon",
    ),
    Judged(
        one(
            "everybody-asks",
            "4, fan-out: who hears that another one asks for what it lacks does not ask",
            FAN_OUT,
            "                window.seen_asked(report.lacks, now_ns, wait_ns=wait_ns)\n",
            "                del wait_ns\n",
        ),
        "core/test_fan_out.py::test_of_eight_that_lose_few_ask_more_than_once",
    ),
    Judged(
        one(
            "whole-frame-goes-again",
            "4, fan-out: it asks for the pieces that it lacks",
            REPAIR,
            "    pieces = incomplete.get(number % NUMBERS, ALL_PIECES)\n",
            "    pieces = ALL_PIECES\n",
        ),
        "core/test_repair.py::test_pieces_that_are_here_are_not_asked_for",
    ),
    Judged(
        one(
            "answer-goes-twice",
            "4, fan-out: nothing goes to the same receiver twice within a round trip",
            REPAIR,
            "now_ns - self._repaired.get(number, {}).get(node, now_ns - hold_ns) >= hold_ns:\n",
            "hold_ns >= 0:\n",
        ),
        "core/test_repair.py::test_what_has_just_gone_again_is_on_its_way",
    ),
)
"""What the random runs take for slowness, for the associations mend what the groups do not."""
