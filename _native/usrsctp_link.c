/* The table of links and what is done to one: connect, transmit, disconnect, ask. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "usrsctp_internal.h"

/* Gives a socket a slot and a number that was never used before; locked. NULL if all are taken
 * (the socket is then closed). */
px_link *px_claim(struct socket *so)
{
    px_stack *s = &px_the_stack;

    for (int slot = 0; slot < PX_SLOTS; slot++) {
        px_link *link = &s->links[slot];

        pthread_mutex_lock(&link->lock);
        if (link->number == 0) {
            link->number = (atomic_fetch_add(&s->serial, 1) + 1) * PX_SLOTS + slot;
            link->so = so;
            usrsctp_set_upcall(so, px_upcall, (void *)(intptr_t)link->number);
            return link;
        }
        pthread_mutex_unlock(&link->lock);
    }
    PX_ADD(links_refused, 1);
    px_bury(so);
    return NULL;
}

/* Accepts all that waits at the listener. To be called from its upcall and nowhere else: the
 * receiving thread that has put a socket there looks a last time at its pointer to the listener,
 * twice in a row without a lock, and would follow a null pointer if another thread accepted the
 * socket in between (usrsctp 0.9.5, sctp_common_input_processing). And a socket whose peer aborts
 * before it is accepted is never freed (user_accept). */
void px_accept_links(struct socket *listener)
{
    for (;;) {
        struct socket *so = usrsctp_accept(listener, NULL, NULL);
        px_link *link;

        if (so == NULL && (errno == ECONNABORTED || errno == ECONNRESET))
            continue; /* gone already; others may stand behind it */
        if (so == NULL)
            return;
        link = px_claim(so);
        if (link == NULL)
            continue;
        link->accepted = true;
        px_mark_ready((int)(link - px_the_stack.links)); /* for what came before its upcall */
        px_unlock(link);
    }
}

/* The link of that number, locked; NULL if it is gone. */
px_link *px_lock(int64_t number)
{
    px_link *link = &px_the_stack.links[(uint64_t)number % PX_SLOTS];

    if (number <= 0)
        return NULL;
    pthread_mutex_lock(&link->lock);
    if (link->number == number)
        return link;
    pthread_mutex_unlock(&link->lock);
    return NULL;
}

void px_unlock(px_link *link)
{
    pthread_mutex_unlock(&link->lock);
}

/* Frees the slot of a locked link and unlocks it; an open socket is aborted. */
void px_release(px_link *link)
{
    struct socket *so = link->so;

    free(link->held);
    free(link->partial);
    link->held = link->partial = NULL;
    link->number = 0;
    link->so = NULL;
    link->up = link->accepted = link->closing = link->blocked = link->shutdown_owed = false;
    link->lowered = false;
    link->lost = PX_NOT_LOST;
    link->lost_detail[0] = '\0';
    link->primary_owed = link->peer_count = link->out_streams = 0;
    link->held_length = link->held_capacity = link->partial_length = 0;
    px_unlock(link);
    if (so != NULL)
        px_bury(so);
}

/* Remembers why a locked link ended; px_poll reports it, after all that was received before. */
void px_note_lost(px_link *link, uint32_t reason, const char *detail)
{
    if (link->lost != PX_NOT_LOST)
        return;
    link->lost = link->closing ? PX_LOCAL : reason;
    snprintf(link->lost_detail, sizeof link->lost_detail, "%s", detail);
    px_mark_ready((int)(link - px_the_stack.links));
}

/* One frame to the stack: 1 taken, 0 no room, negative errno if the link cannot send at all. */
int px_send_now(px_link *link, uint32_t stream, const uint8_t *frame, size_t length)
{
    /* Filled anew each time: the call writes the association id back into it. */
    struct sctp_sndinfo info = {.snd_sid = (uint16_t)stream};

    if (usrsctp_sendv(link->so, frame, length, NULL, 0, &info, sizeof info, SCTP_SENDV_SNDINFO,
                      0) >= 0) {
        PX_ADD(frames_sent, 1);
        PX_ADD(bytes_sent, length);
        return 1;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOMEM || errno == ENOBUFS)
        return 0;
    return -errno;
}

/* How much the stack takes. While a caller waits for room the bound is lower, so that it is
 * woken for a good part of the buffer and not for each packet that is acknowledged. */
static void bound_sending(const px_link *link, uint32_t reserve)
{
    uint32_t whole = px_the_stack.tuning.send_buffer_bytes;
    uint32_t least = px_the_stack.tuning.frame_bytes_max;
    int bytes = (int)(link->lowered ? whole - whole / 4 : whole);

    if (bytes < (int)least)
        bytes = (int)least;
    bytes += (int)reserve;
    usrsctp_setsockopt(link->so, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

/* Opens or closes the reserve. Control frames and probes may use it: a link that is full of data
 * must not look dead, nor stop the protocol. */
static void use_reserve(px_link *link, bool open)
{
    if (open)
        link->lowered = false; /* the caller sets it back */
    bound_sending(link, open ? PX_RESERVE_BYTES : 0);
    usrsctp_sysctl_set_sctp_max_chunks_on_queue(PX_CHUNKS_QUEUED_MAX +
                                                (open ? PX_RESERVE_CHUNKS : 0));
}

static int send_control(px_link *link, const uint8_t *frame, size_t length)
{
    bool lowered = link->lowered;
    int sent;

    use_reserve(link, true);
    sent = px_send_now(link, PX_STREAM_CONTROL, frame, length);
    link->lowered = lowered;
    use_reserve(link, false);
    return sent;
}

/* Refuses a frame: a PX_WRITABLE is owed from now on. */
static int refuse(px_link *link)
{
    if (!link->lowered && link->held_length > 0) {
        link->lowered = true;
        bound_sending(link, 0);
    }
    link->blocked = true;
    PX_ADD(frames_refused, 1);
    return 0;
}

/* Tries to hand the held frame over; the caller holds the link's lock. */
void px_flush_held(px_link *link)
{
    if (link->held_length > 0) {
        int sent = px_send_now(link, link->held_stream, link->held, link->held_length);

        if (sent == 0)
            return;
        if (sent < 0)
            PX_ADD(frames_dropped_lost, 1);
        link->held_length = 0;
        if (link->lowered) {
            link->lowered = false;
            bound_sending(link, 0);
        }
    }
}

static bool hold(px_link *link, uint32_t stream, const uint8_t *frame, size_t length)
{
    if (link->held_capacity < length) {
        uint8_t *larger = realloc(link->held, length);

        if (larger == NULL)
            return false;
        link->held = larger;
        link->held_capacity = length;
    }
    memcpy(link->held, frame, length);
    link->held_length = length;
    link->held_stream = stream;
    return true;
}

/* The caller holds the link's lock. */
static int transmit(px_link *link, uint32_t stream, const uint8_t *frame, size_t length)
{
    int sent;

    if (link->so == NULL || link->lost != PX_NOT_LOST || link->closing) {
        PX_ADD(frames_dropped_lost, 1);
        return 1;
    }
    px_flush_held(link);
    if (link->held_length > 0 &&
        (stream != PX_STREAM_CONTROL || link->held_stream == PX_STREAM_CONTROL))
        return refuse(link);
    sent = px_send_now(link, stream, frame, length);
    if (sent == 0 && stream == PX_STREAM_CONTROL)
        sent = send_control(link, frame, length);
    if (sent > 0)
        return 1;
    if (sent < 0) {
        PX_ADD(frames_dropped_lost, 1);
        return 1;
    }
    /* No wake-up is lost: what frees room makes an upcall that waits for our lock. */
    if (link->held_length == 0 && hold(link, stream, frame, length))
        return 1;
    return refuse(link);
}

int px_transmit(int64_t number, uint32_t stream, const uint8_t *frame, size_t length)
{
    px_link *link = px_lock(number);
    int taken;

    if (link == NULL) {
        PX_ADD(frames_dropped_lost, 1);
        return 1;
    }
    taken = transmit(link, stream, frame, length);
    px_unlock(link);
    return taken;
}

int px_transmit_many(int64_t number, uint32_t stream, const uint8_t *frames,
                     const uint32_t *lengths, int count)
{
    px_link *link = px_lock(number);
    int taken = 0;

    if (link == NULL) {
        PX_ADD(frames_dropped_lost, (uint64_t)count);
        return count;
    }
    while (taken < count && transmit(link, stream, frames, lengths[taken])) {
        frames += lengths[taken];
        taken++;
    }
    px_unlock(link);
    return taken;
}

/* The locked link's peer address on a rail, or NULL. */
static const px_address *peer_on(const px_link *link, int rail)
{
    for (int i = 0; i < link->peer_count; i++) {
        if (link->peers[i].rail == rail)
            return &link->peers[i];
    }
    return NULL;
}

int px_probe(int64_t number, uint32_t stream, int rail, const uint8_t *frame, size_t length)
{
    px_link *link = px_lock(number);
    const px_address *peer = link == NULL ? NULL : peer_on(link, rail);
    bool sent = false;

    if (peer != NULL && link->so != NULL && !link->closing) {
        union sctp_sockstore address;
        uint32_t tag = (px_the_stack.rails[rail].tag & ~(uint32_t)PX_STREAM_BITS) | stream;
        /* A stream of its own: a probe that waits for its path keeps back what stands behind
         * it on its stream. A peer of another make may have offered fewer streams. */
        uint16_t own = (uint16_t)(px_the_stack.tuning.streams + (uint32_t)rail);
        struct sctp_sendv_spa spa = {
            .sendv_flags = SCTP_SEND_SNDINFO_VALID | SCTP_SEND_PRINFO_VALID,
            .sendv_sndinfo = {.snd_sid = own < link->out_streams ? own : (uint16_t)stream,
                              .snd_flags = SCTP_UNORDERED | SCTP_ADDR_OVER,
                              .snd_ppid = htonl(tag)},
            .sendv_prinfo = {.pr_policy = SCTP_PR_SCTP_RTX, .pr_value = 0}};

        bool lowered = link->lowered;

        px_to_sockaddr(peer, link->peer_port, &address);
        use_reserve(link, true);
        sent = usrsctp_sendv(link->so, frame, length, &address.sa, 1, &spa, sizeof spa,
                             SCTP_SENDV_SPA, 0) >= 0;
        link->lowered = lowered;
        use_reserve(link, false);
    }
    if (link != NULL)
        px_unlock(link);
    if (sent)
        PX_ADD(probes_sent, 1);
    else
        PX_ADD(probes_dropped, 1);
    return 1;
}

int64_t px_connect(const px_address *peers, int count, uint16_t port, uint16_t udp_port)
{
    struct socket *so = px_make_socket(udp_port);
    uint8_t packed[PX_PEERS_MAX * sizeof(union sctp_sockstore)];
    size_t used = 0;
    px_link *link;
    int64_t number;
    int failed;

    if (so == NULL)
        return -errno;
    link = px_claim(so);
    if (link == NULL)
        return -EMFILE;
    number = link->number;
    for (int i = 0; i < count && i < PX_PEERS_MAX; i++) {
        union sctp_sockstore address;
        socklen_t length = px_to_sockaddr(&peers[i], port, &address);

        memcpy(packed + used, &address, length);
        used += length;
    }
    failed = count > 0 ? px_bind(so, 0) : -EDESTADDRREQ;
    if (failed == 0 &&
        usrsctp_connectx(so, (const struct sockaddr *)(const void *)packed, count, NULL) != 0 &&
        errno != EINPROGRESS)
        failed = -errno;
    if (failed != 0)
        px_note_lost(link, PX_UNREACHABLE, strerror(-failed));
    px_unlock(link);
    return number;
}

static bool path_is_active(px_link *link, const px_address *peer, struct sctp_paddrinfo *info)
{
    socklen_t length = sizeof *info;
    union sctp_sockstore address;

    memset(info, 0, sizeof *info);
    length = px_to_sockaddr(peer, link->peer_port, &address);
    memcpy(&info->spinfo_address, &address, length);
    length = sizeof *info;
    return usrsctp_getsockopt(link->so, IPPROTO_SCTP, SCTP_GET_PEER_ADDR_INFO, info, &length) ==
               0 &&
           info->spinfo_state == SCTP_ACTIVE;
}

int px_set_primary(int64_t number, int rail)
{
    px_link *link = px_lock(number);
    const px_address *peer = link == NULL ? NULL : peer_on(link, rail);
    struct sctp_setprim primary;
    struct sctp_paddrinfo info;
    union sctp_sockstore address;
    socklen_t length;
    int done = 0;

    if (peer != NULL && link->so != NULL && path_is_active(link, peer, &info)) {
        memset(&primary, 0, sizeof primary);
        length = px_to_sockaddr(peer, link->peer_port, &address);
        memcpy(&primary.ssp_addr, &address, length);
        if (usrsctp_setsockopt(link->so, IPPROTO_SCTP, SCTP_PRIMARY_ADDR, &primary,
                               sizeof primary) == 0) {
            link->primary_owed = rail + 1;
            px_mark_ready((int)(link - px_the_stack.links));
            done = 1;
        }
    }
    if (link != NULL)
        px_unlock(link);
    return done;
}

int px_disconnect(int64_t number, int hard)
{
    px_link *link = px_lock(number);

    if (link == NULL)
        return 0;
    if (link->lost != PX_NOT_LOST) {
        px_unlock(link);
        return 0;
    }
    if (hard || !link->up) {
        struct socket *so = link->so;

        link->closing = true;
        link->so = NULL;
        px_note_lost(link, PX_LOCAL, hard ? "aborted here" : "closed before it was up");
        px_unlock(link);
        px_bury(so);
        return 1;
    }
    if (!link->closing)
        px_end_begin(link);
    px_unlock(link);
    return 1;
}

int px_paths(int64_t number, px_path *paths, int paths_max)
{
    px_link *link = px_lock(number);
    struct sctp_status status;
    socklen_t length = sizeof status;
    px_address primary = {.family = 0};
    int count = 0;

    if (link == NULL)
        return 0;
    memset(&status, 0, sizeof status);
    if (link->so != NULL && link->up &&
        usrsctp_getsockopt(link->so, IPPROTO_SCTP, SCTP_STATUS, &status, &length) == 0)
        px_from_sockaddr((const struct sockaddr *)&status.sstat_primary.spinfo_address, &primary);
    for (int i = 0; primary.family != 0 && i < link->peer_count && count < paths_max; i++) {
        struct sctp_paddrinfo info;
        bool active = path_is_active(link, &link->peers[i], &info);
        bool first = memcmp(&link->peers[i], &primary, sizeof primary) == 0;

        paths[count++] = (px_path){
            .address = link->peers[i],
            .state = !active ? PX_PATH_DOWN : first ? PX_PATH_PRIMARY : PX_PATH_UP,
            .srtt_ms = info.spinfo_srtt,
            .rto_ms = info.spinfo_rto,
            .cwnd_bytes = info.spinfo_cwnd,
            .mtu_bytes = info.spinfo_mtu};
    }
    px_unlock(link);
    return count;
}
