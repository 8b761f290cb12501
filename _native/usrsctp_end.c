/* The orderly end of a link: everything that was accepted is acknowledged, then SHUTDOWN.
 *
 * The stack would wait for the acknowledgements by itself, but it may wait for ever: when its
 * retransmission timer fires a moment before a chunk is as old as the measured round trip, it
 * marks nothing, and it starts that timer again only if it believes that no other runs
 * (usrsctp 0.9.5, sctp_mark_all_for_resend and num_send_timers_up). Until then any new chunk or
 * acknowledgement revives it, which an open link's probes see to. A closing link has none, and
 * the stack takes none after its SHUTDOWN is pending. So the waiting is done here, with a nudge
 * now and then: a chunk that every receiver drops (its tag is no rail's). */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "usrsctp_internal.h"

enum { NUDGE_AFTER_MS = 100, NUDGE_TAG = 16 /* tags of rails have bit 3 */ };

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool all_acknowledged(px_link *link)
{
    struct sctp_status status;
    socklen_t length = sizeof status;

    memset(&status, 0, sizeof status);
    /* An association that is gone has nothing to wait for. */
    return usrsctp_getsockopt(link->so, IPPROTO_SCTP, SCTP_STATUS, &status, &length) != 0 ||
           (status.sstat_unackdata == 0 && status.sstat_penddata == 0);
}

static void nudge(px_link *link)
{
    struct sctp_sendv_spa spa = {
        .sendv_flags = SCTP_SEND_SNDINFO_VALID | SCTP_SEND_PRINFO_VALID,
        .sendv_sndinfo = {.snd_sid = PX_STREAM_CONTROL,
                          .snd_flags = SCTP_UNORDERED,
                          .snd_ppid = htonl(NUDGE_TAG)},
        .sendv_prinfo = {.pr_policy = SCTP_PR_SCTP_RTX, .pr_value = 0}};

    /* Without room for it there is something else on its way, which does the same. */
    usrsctp_sendv(link->so, "", 1, NULL, 0, &spa, sizeof spa, SCTP_SENDV_SPA, 0);
    PX_ADD(nudges_sent, 1);
}

/* Begins the end of a locked link that is up. */
void px_end_begin(px_link *link)
{
    link->closing = link->shutdown_owed = true;
    link->end_by_ms = now_ms() + PX_SHUTDOWN_GUARD_S * 1000;
    link->nudge_at_ms = now_ms() + NUDGE_AFTER_MS;
    px_flush_held(link);
    px_end_advance(link);
}

/* Takes a closing link as far as it goes now; the caller holds its lock. */
void px_end_advance(px_link *link)
{
    int64_t now = now_ms();

    if (!link->shutdown_owed || link->lost != PX_NOT_LOST)
        return;
    if (link->held_length == 0 && all_acknowledged(link)) {
        link->shutdown_owed = false;
        usrsctp_shutdown(link->so, SHUT_WR);
    } else if (now >= link->end_by_ms) {
        link->shutdown_owed = false;
        px_note_lost(link, PX_TIMED_OUT, "what was sent last was never acknowledged: aborted here");
    } else if (now >= link->nudge_at_ms) {
        link->nudge_at_ms = now + NUDGE_AFTER_MS;
        nudge(link);
    }
}
