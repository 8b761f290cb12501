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
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "usrsctp_internal.h"

enum {
    NUDGE_AFTER_MS = 100,
    NUDGE_TAG = 16, /* tags of rails have bit 3 */
    SETTLE_MS = 100,
    CLOSE_TRIES = 60,
    CLOSE_PAUSE_MS = 5,
    CLOSE_GRACE_MS = 15
};

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
    if (usrsctp_sendv(link->so, "", 1, NULL, 0, &spa, sizeof spa, SCTP_SENDV_SPA, 0) >= 0)
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

/* Closing a socket whose association is alive can free it twice (usrsctp 0.9.5, and upstream in
 * 2026): sofree drops the last reference before sctp_close marks the socket as gone. In between the
 * stack's timer and receiving threads, which reach the socket by way of the association, take a
 * new one (sctp_timeout_handler, sctp_common_input_processing) and free the socket a second time
 * when they drop it. So the association is aborted first: then both leave it alone. Only then the
 * socket is closed, and then at once, because the stack's own late end of such an association
 * (SCTP_TIMER_TYPE_ASOCKILL) never gives back a reference to a socket that is still open. */

/* True if the buried socket can be closed now. */
static bool end_association(px_grave *grave)
{
    struct sctp_status status;
    socklen_t length = sizeof status;
    struct sockaddr_in nobody = {.sin_family = AF_UNSPEC};
    int64_t now = now_ms();

    memset(&status, 0, sizeof status);
    if (usrsctp_getsockopt(grave->so, IPPROTO_SCTP, SCTP_STATUS, &status, &length) != 0) {
        /* A thread of the stack has ended it, and may still be looking at the endpoint
         * (sctp_free_assoc does after it has let go of everything). */
        if (grave->gone_at_ms == 0)
            grave->gone_at_ms = now;
        return false;
    }
    if (status.sstat_state == SCTP_COOKIE_WAIT || status.sstat_state == SCTP_COOKIE_ECHOED) {
        /* What is being set up cannot be aborted; it comes to its end, one way or the other,
         * within the bound of the INIT's repetitions. Once up, the peer gets time to accept it:
         * a socket that is aborted before is never freed there (user_accept). */
        grave->abort_at_ms = now + SETTLE_MS;
        return false;
    }
    if (now < grave->abort_at_ms)
        return false;
    /* Connecting to no address disconnects, which with SO_LINGER 0 is an ABORT. */
    usrsctp_connect(grave->so, (struct sockaddr *)&nobody, sizeof nobody);
    return true;
}

/* Aborts the socket's association and closes it, at once if possible, else as soon as it is. No
 * lock of a link may be held. */
void px_bury(struct socket *so)
{
    px_stack *s = &px_the_stack;
    px_grave grave = {.so = so}, *later;

    if (end_association(&grave) || (later = malloc(sizeof *later)) == NULL) {
        usrsctp_close(so);
        return;
    }
    *later = grave;
    pthread_mutex_lock(&s->graves_lock);
    later->next = s->graves;
    s->graves = later;
    pthread_mutex_unlock(&s->graves_lock);
}

/* Closes what can be closed, sockets without an association after a time of grace; true if none
 * is left. */
bool px_tend_graves(int grace_ms)
{
    px_stack *s = &px_the_stack;
    px_grave *grave, *next, *kept = NULL, **end = &kept;
    bool none;

    pthread_mutex_lock(&s->graves_lock);
    grave = s->graves;
    s->graves = NULL;
    pthread_mutex_unlock(&s->graves_lock);
    for (; grave != NULL; grave = next) {
        next = grave->next;
        if (end_association(grave) ||
            (grave->gone_at_ms != 0 && now_ms() - grave->gone_at_ms >= grace_ms)) {
            usrsctp_close(grave->so);
            free(grave);
        } else {
            *end = grave;
            end = &grave->next;
        }
    }
    pthread_mutex_lock(&s->graves_lock);
    *end = s->graves; /* what was buried meanwhile */
    s->graves = kept;
    none = kept == NULL;
    pthread_mutex_unlock(&s->graves_lock);
    return none;
}

/* Closes all of them: after a short wait also those whose association is still being set up. The
 * sweeper must have stopped. */
void px_close_graves(void)
{
    struct timespec pause = {.tv_nsec = CLOSE_PAUSE_MS * 1000000L};
    px_grave *grave;

    for (int attempt = 0; attempt < CLOSE_TRIES && !px_tend_graves(CLOSE_GRACE_MS); attempt++)
        nanosleep(&pause, NULL);
    while ((grave = px_the_stack.graves) != NULL) {
        px_the_stack.graves = grave->next;
        usrsctp_close(grave->so);
        free(grave);
    }
}
