/* Reading: from the sockets that are ready straight into the batch that Python is given. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "usrsctp_internal.h"

/* A batch that is being filled. */
typedef struct {
    uint8_t *buffer;
    size_t capacity, used;
    px_record *records;
    int count, max;
} px_batch;

enum { PX_RECORDS_SPARE = 4, PX_READS_A_TURN = 256 };

/* Room for one more frame of the largest size, and for the notices around it? */
static bool has_room(const px_batch *b)
{
    return b->count + PX_RECORDS_SPARE <= b->max &&
           b->capacity - b->used > px_the_stack.tuning.frame_bytes_max + 1;
}

static void put(px_batch *b, const px_link *link, uint32_t kind, uint32_t detail,
                const void *payload, size_t length)
{
    px_record *r = &b->records[b->count++];

    *r = (px_record){.link = link->number,
                     .kind = kind,
                     .detail = detail,
                     .offset = (uint32_t)b->used,
                     .length = (uint32_t)length};
    if (payload != NULL)
        memcpy(b->buffer + b->used, payload, length);
    b->used += length;
}

static void put_path(px_batch *b, const px_link *link, int rail, uint32_t state)
{
    uint8_t byte = (uint8_t)rail;

    put(b, link, PX_PATH, state, &byte, sizeof byte);
}

static void put_up(px_batch *b, px_link *link)
{
    link->up = true;
    px_learn_peers(link);
    PX_ADD(links_up, 1);
    put(b, link, PX_UP, link->accepted, link->peers,
        (size_t)link->peer_count * sizeof link->peers[0]);
}

static void on_association(px_batch *b, px_link *link, const struct sctp_assoc_change *change)
{
    bool from_peer = change->sac_length > sizeof *change; /* an ABORT chunk is attached */

    switch (change->sac_state) {
    case SCTP_COMM_UP:
        if (!link->up)
            put_up(b, link);
        break;
    case SCTP_COMM_LOST:
        px_note_lost(link, from_peer ? PX_ABORTED : PX_TIMED_OUT,
                     from_peer ? "the peer sent an ABORT" : "given up here");
        break;
    case SCTP_CANT_STR_ASSOC:
        px_note_lost(link, from_peer ? PX_REFUSED : PX_UNREACHABLE,
                     from_peer ? "the peer answered with an ABORT" : "no answer");
        break;
    case SCTP_SHUTDOWN_COMP:
        px_note_lost(link, PX_SHUTDOWN, "shut down");
        break;
    case SCTP_RESTART:
        px_note_lost(link, PX_RESTARTED, "the peer set the association up anew");
        break;
    default:
        break;
    }
}

static void on_path(px_batch *b, const px_link *link, const struct sctp_paddr_change *change)
{
    px_address address;
    uint32_t state;

    px_from_sockaddr((const struct sockaddr *)&change->spc_aaddr, &address);
    if (!link->up || address.rail == PX_NO_RAIL)
        return;
    switch (change->spc_state) {
    case SCTP_ADDR_AVAILABLE:
    case SCTP_ADDR_CONFIRMED:
        state = PX_PATH_UP;
        break;
    case SCTP_ADDR_UNREACHABLE:
    case SCTP_ADDR_REMOVED:
        state = PX_PATH_DOWN;
        break;
    case SCTP_ADDR_MADE_PRIM:
        state = PX_PATH_PRIMARY;
        break;
    default:
        return;
    }
    put_path(b, link, address.rail, state);
}

/* A notification of `length` bytes stands at the end of the batch; it is copied out, because
 * what it leads to is put into its place. */
static void on_notification(px_batch *b, px_link *link, size_t length)
{
    union {
        union sctp_notification any;
        uint8_t bytes[sizeof(union sctp_notification)];
    } n;

    memset(&n, 0, sizeof n);
    memcpy(n.bytes, b->buffer + b->used, length < sizeof n ? length : sizeof n);
    if (length >= sizeof n.any.sn_assoc_change &&
        n.any.sn_header.sn_type == SCTP_ASSOC_CHANGE)
        on_association(b, link, &n.any.sn_assoc_change);
    else if (length >= sizeof n.any.sn_paddr_change &&
             n.any.sn_header.sn_type == SCTP_PEER_ADDR_CHANGE)
        on_path(b, link, &n.any.sn_paddr_change);
    else if (n.any.sn_header.sn_type == SCTP_PARTIAL_DELIVERY_EVENT)
        link->partial_length = 0;
}

/* Keeps a part of a frame; false if the frame outgrows what a frame may be. */
static bool keep_part(px_link *link, const uint8_t *part, size_t length, uint16_t stream)
{
    size_t most = px_the_stack.tuning.frame_bytes_max;

    if (link->partial_length + length > most)
        return false;
    if (link->partial == NULL && (link->partial = malloc(most)) == NULL)
        return false;
    memcpy(link->partial + link->partial_length, part, length);
    link->partial_length += length;
    link->partial_stream = stream;
    return true;
}

static void on_frame(px_batch *b, px_link *link, size_t length, const struct sctp_rcvinfo *info,
                     const struct sockaddr *from)
{
    const px_stack *s = &px_the_stack;
    uint32_t tag = ntohl(info->rcv_ppid), stream = info->rcv_sid;

    if ((info->rcv_flags & SCTP_UNORDERED) && tag != 0) {
        px_address source;

        /* The stack moves what waits for a dead path to another one. A probe that came over
         * another rail than its own would say something false: nobody sees it. */
        px_from_sockaddr(from, &source);
        if (source.rail == PX_NO_RAIL || (s->rails[source.rail].tag ^ tag) > PX_STREAM_BITS) {
            PX_ADD(probes_strayed, 1);
            return;
        }
        stream = tag & PX_STREAM_BITS;
    }
    PX_ADD(frames_received, 1);
    PX_ADD(bytes_received, length);
    put(b, link, PX_FRAME, stream, NULL, length);
}

static void on_oversized(px_link *link)
{
    PX_ADD(frames_oversized, 1);
    px_note_lost(link, PX_ABORTED, "a frame was longer than allowed: aborted here");
}

/* Reads one message or notification. False when there is nothing (left). */
static bool read_one(px_batch *b, px_link *link)
{
    size_t most = px_the_stack.tuning.frame_bytes_max;
    uint8_t *at = b->buffer + b->used;
    union sctp_sockstore from;
    struct sctp_rcvinfo info = {.rcv_sid = 0};
    socklen_t from_length = sizeof from, info_length = sizeof info;
    unsigned int info_type = SCTP_RECVV_NOINFO;
    int flags = 0;
    ssize_t got = usrsctp_recvv(link->so, at, most + 1, &from.sa, &from_length, &info,
                                &info_length, &info_type, &flags);

    if (got < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            px_note_lost(link,
                         errno == ECONNREFUSED ? PX_REFUSED
                         : !link->up           ? PX_UNREACHABLE
                         : errno == ETIMEDOUT  ? PX_TIMED_OUT
                                               : PX_ABORTED,
                         strerror(errno));
        return false;
    }
    if (flags & MSG_NOTIFICATION) {
        on_notification(b, link, (size_t)got);
        return true;
    }
    if (got == 0) {
        px_note_lost(link, PX_SHUTDOWN, "end of file");
        return false;
    }
    if (flags & MSG_EOR && link->partial_length == 0) {
        if ((size_t)got > most)
            on_oversized(link);
        else
            on_frame(b, link, (size_t)got, &info, &from.sa);
    } else if (!keep_part(link, at, (size_t)got, info.rcv_sid)) {
        on_oversized(link);
    } else if (flags & MSG_EOR) {
        size_t whole = link->partial_length;

        memcpy(at, link->partial, whole);
        link->partial_length = 0;
        on_frame(b, link, whole, &info, &from.sa);
    }
    return true;
}

static void read_link(px_batch *b, int slot)
{
    px_link *link = &px_the_stack.links[slot];
    int reads = 0;
    bool more = true;

    pthread_mutex_lock(&link->lock);
    if (link->number == 0) {
        px_unlock(link);
        return;
    }
    if (link->accepted && !link->up && has_room(b))
        put_up(b, link);
    while (link->so != NULL && link->lost == PX_NOT_LOST && more && has_room(b) &&
           reads++ < PX_READS_A_TURN)
        more = read_one(b, link);
    if (link->primary_owed != 0 && link->lost == PX_NOT_LOST && has_room(b)) {
        put_path(b, link, link->primary_owed - 1, PX_PATH_PRIMARY);
        link->primary_owed = 0;
    }
    if (link->blocked && link->held_length == 0 && link->lost == PX_NOT_LOST && has_room(b)) {
        link->blocked = false;
        put(b, link, PX_WRITABLE, 0, NULL, 0);
    }
    if (link->lost != PX_NOT_LOST && has_room(b)) {
        put(b, link, PX_LOST, link->lost, link->lost_detail, strlen(link->lost_detail));
        PX_ADD(links_lost, 1);
        px_release(link);
        return;
    }
    if (more || link->lost != PX_NOT_LOST)
        px_mark_ready(slot);
    px_unlock(link);
}

int px_poll(uint8_t *buffer, size_t capacity, px_record *records, int records_max, size_t *used)
{
    px_batch batch = {
        .buffer = buffer, .capacity = capacity, .records = records, .max = records_max};
    int slot;

    *used = 0;
    if (px_the_stack.pid == 0)
        return -ENOTCONN;
    while (has_room(&batch) && (slot = px_take_ready()) >= 0)
        read_link(&batch, slot);
    px_settle_ready();
    *used = batch.used;
    return batch.count;
}
