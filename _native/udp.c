/* recvmmsg and sendmmsg: one system call, and one crossing from Python, for all that is there.
 *
 * What does not fit into one packet is cut into pieces. The kernel is given all pieces of a frame
 * as one (UDP_SEGMENT, Linux 4.18) and gives them back as one where nothing on the way has made
 * packets of it (UDP_GRO, Linux 5.0), so that a large frame costs about as much as a small one. */

#include "udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
    STRANGER = -1,
    BAD_SIZE = -2,
    BAD_PIECE = -3,
    DISPLACED = -4,

    SLOT_BYTES = 65536 + 192, /* all that UDP carries; not a power of two, for the caches' sake */
    PUZZLES = 32,
    PIECES_MAX = 64, /* as many as a word has bits, and as the kernel takes at once */
    ARRIVED_MAX = 256, /* by datagram: more than the kernel makes one of */
    FIELDS = 3,

    PIECE_MAGIC = 0x5050,
    PIECE_VERSION = 1,
    AT_INDEX = 3,
    AT_ID = 4,
    AT_FRAME_BYTES = 8,
    AT_PIECE_BYTES = 12,
    HEAD_BYTES = 16
};

typedef struct {
    struct sockaddr_storage address;
    socklen_t length;
    bool separately; /* the way there does not take several packets as one */
} peer;

typedef struct {
    uint32_t id, frame_bytes, piece_bytes, index, count;
    const uint8_t *body;
    uint32_t body_bytes;
} piece;

/* A frame of which pieces have come. */
typedef struct {
    bool used;
    int32_t from;
    uint32_t id, frame_bytes, piece_bytes;
    uint32_t missing; /* 0 in a frame that was given away and may still be read */
    uint64_t have, touched;
} puzzle;

struct phx_udp {
    int slots;
    uint32_t packet_bytes, frame_bytes_max;
    uint8_t *memory; /* the slots, then the puzzles */
    int64_t *arrived;
    int arrived_count, datagrams;
    struct mmsghdr *incoming;
    struct iovec *places;
    struct sockaddr_storage *sources;
    uint8_t (*controls)[CMSG_SPACE(sizeof(int))];
    puzzle puzzles[PUZZLES];
    uint64_t clock;
    int peers;
    peer *known;
    struct mmsghdr *outgoing; /* as many as there are peers, and at least PIECES_MAX */
    uint32_t next_id;
    uint8_t *cut; /* PIECES_MAX packets */
};

/* Little-endian, as everything on the wire. */
static uint32_t load(const uint8_t *p, int bytes)
{
    uint32_t value = 0;

    for (int i = 0; i < bytes; i++)
        value |= (uint32_t)p[i] << 8 * i;
    return value;
}

static void store(uint8_t *p, uint32_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (uint8_t)(value >> 8 * i);
}

phx_udp *phx_udp_new(int slots, int packet_bytes, int frame_bytes_max)
{
    if (slots < 1 || packet_bytes <= HEAD_BYTES ||
        frame_bytes_max > (packet_bytes - HEAD_BYTES) * PIECES_MAX || frame_bytes_max > SLOT_BYTES)
        return NULL;
    phx_udp *udp = calloc(1, sizeof *udp);
    if (udp == NULL)
        return NULL;
    const size_t n = (size_t)slots;
    udp->slots = slots;
    udp->packet_bytes = (uint32_t)packet_bytes;
    udp->frame_bytes_max = (uint32_t)frame_bytes_max;
    udp->memory = calloc(n + PUZZLES, SLOT_BYTES);
    udp->arrived = calloc(n * ARRIVED_MAX * FIELDS, sizeof *udp->arrived);
    udp->incoming = calloc(n, sizeof *udp->incoming);
    udp->places = calloc(n, sizeof *udp->places);
    udp->sources = calloc(n, sizeof *udp->sources);
    udp->controls = calloc(n, sizeof *udp->controls);
    udp->outgoing = calloc(PIECES_MAX, sizeof *udp->outgoing);
    udp->cut = calloc(PIECES_MAX, (size_t)packet_bytes);
    if (udp->memory == NULL || udp->arrived == NULL || udp->incoming == NULL ||
        udp->places == NULL || udp->sources == NULL || udp->controls == NULL ||
        udp->outgoing == NULL || udp->cut == NULL) {
        phx_udp_free(udp);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        udp->places[i].iov_base = udp->memory + i * SLOT_BYTES;
        udp->places[i].iov_len = SLOT_BYTES;
        udp->incoming[i].msg_hdr.msg_iov = &udp->places[i];
        udp->incoming[i].msg_hdr.msg_iovlen = 1;
        udp->incoming[i].msg_hdr.msg_name = &udp->sources[i];
        udp->incoming[i].msg_hdr.msg_control = udp->controls[i];
    }
    return udp;
}

void phx_udp_free(phx_udp *udp)
{
    if (udp == NULL)
        return;
    free(udp->memory);
    free(udp->arrived);
    free(udp->incoming);
    free(udp->places);
    free(udp->sources);
    free(udp->controls);
    free(udp->known);
    free(udp->outgoing);
    free(udp->cut);
    free(udp);
}

void phx_udp_number_from(phx_udp *udp, uint32_t id)
{
    udp->next_id = id;
}

int phx_udp_learn(phx_udp *udp, const uint8_t *address, int length)
{
    if (length <= 0 || (size_t)length > sizeof(struct sockaddr_storage))
        return -1;
    const size_t n = (size_t)udp->peers + 1;
    peer *known = realloc(udp->known, n * sizeof *known);
    if (known == NULL)
        return -1;
    udp->known = known;
    if (n > PIECES_MAX) {
        struct mmsghdr *outgoing = realloc(udp->outgoing, n * sizeof *outgoing);
        if (outgoing == NULL)
            return -1;
        udp->outgoing = outgoing;
    }
    memset(&known[udp->peers], 0, sizeof *known);
    memcpy(&known[udp->peers].address, address, (size_t)length);
    known[udp->peers].length = (socklen_t)length;
    return udp->peers++;
}

/* ------------------------------------------------------------------------------------ receiving */

static int32_t peer_at(const phx_udp *udp, const struct sockaddr_storage *source, socklen_t length)
{
    for (int32_t i = 0; i < udp->peers; i++)
        if (udp->known[i].length == length && memcmp(&udp->known[i].address, source, length) == 0)
            return i;
    return -1;
}

static void note(phx_udp *udp, int64_t what, const uint8_t *frame, size_t length)
{
    if (udp->arrived_count >= udp->slots * ARRIVED_MAX)
        return;
    int64_t *entry = udp->arrived + udp->arrived_count++ * FIELDS;
    entry[0] = what;
    entry[1] = frame == NULL ? 0 : frame - udp->memory;
    entry[2] = (int64_t)length;
}

/* Whether a packet says that it is a piece. */
static bool is_piece(const uint8_t *packet, size_t length)
{
    return length >= HEAD_BYTES && load(packet, 2) == PIECE_MAGIC;
}

static bool read_piece(const phx_udp *udp, const uint8_t *packet, size_t length, piece *it)
{
    it->index = packet[AT_INDEX];
    it->id = load(packet + AT_ID, 4);
    it->frame_bytes = load(packet + AT_FRAME_BYTES, 4);
    it->piece_bytes = load(packet + AT_PIECE_BYTES, 2);
    it->body = packet + HEAD_BYTES;
    it->body_bytes = (uint32_t)(length - HEAD_BYTES);
    if (packet[2] != PIECE_VERSION || it->piece_bytes == 0 || it->frame_bytes == 0 ||
        it->frame_bytes > udp->frame_bytes_max)
        return false;
    it->count = (it->frame_bytes + it->piece_bytes - 1) / it->piece_bytes;
    if (it->count > PIECES_MAX || it->index >= it->count)
        return false;
    const uint32_t left = it->frame_bytes - it->index * it->piece_bytes;
    return it->body_bytes == (left < it->piece_bytes ? left : it->piece_bytes);
}

/* All pieces of a frame, one behind the other in one datagram: drop what stands between them. */
static bool close_up(const phx_udp *udp, uint8_t *packets, size_t length, size_t step, piece *first)
{
    piece next;
    size_t at = 0;

    if (!is_piece(packets, step < length ? step : length) ||
        !read_piece(udp, packets, step < length ? step : length, first) || first->index != 0)
        return false;
    for (uint32_t i = 0; i < first->count; i++, at += step) {
        if (at >= length)
            return false;
        const size_t size = length - at < step ? length - at : step;
        if (!is_piece(packets + at, size) || !read_piece(udp, packets + at, size, &next) ||
            next.index != i || next.id != first->id || next.frame_bytes != first->frame_bytes ||
            next.piece_bytes != first->piece_bytes)
            return false;
    }
    if (at < length)
        return false;
    for (uint32_t i = 0; i < first->count; i++) {
        const uint32_t left = first->frame_bytes - i * first->piece_bytes;
        memmove(packets + (size_t)i * first->piece_bytes, packets + i * step + HEAD_BYTES,
                left < first->piece_bytes ? left : first->piece_bytes);
    }
    return true;
}

/* The frame that a piece belongs to, begun if need be; NULL if there is no room for another one. */
static puzzle *puzzle_of(phx_udp *udp, int32_t from, const piece *it)
{
    puzzle *oldest = NULL, *vacant = NULL;

    for (int i = 0; i < PUZZLES; i++) {
        puzzle *one = &udp->puzzles[i];
        if (!one->used)
            vacant = one;
        else if (one->from == from && one->id == it->id)
            return one;
        else if (one->missing > 0 && (oldest == NULL || one->touched < oldest->touched))
            oldest = one;
    }
    if (vacant == NULL) {
        if (oldest == NULL)
            return NULL;
        note(udp, DISPLACED, NULL, 0);
        vacant = oldest;
    }
    *vacant = (puzzle){.used = true,
                       .from = from,
                       .id = it->id,
                       .frame_bytes = it->frame_bytes,
                       .piece_bytes = it->piece_bytes,
                       .missing = it->count};
    return vacant;
}

static void take_piece(phx_udp *udp, int32_t from, const piece *it)
{
    puzzle *one = puzzle_of(udp, from, it);

    if (one == NULL) {
        note(udp, DISPLACED, NULL, 0);
        return;
    }
    if (one->frame_bytes != it->frame_bytes || one->piece_bytes != it->piece_bytes) {
        note(udp, BAD_PIECE, NULL, 0);
        return;
    }
    if (one->missing == 0 || one->have >> it->index & 1)
        return; /* doubled on the way */
    uint8_t *frame = udp->memory + (size_t)(udp->slots + (one - udp->puzzles)) * SLOT_BYTES;
    memcpy(frame + (size_t)it->index * it->piece_bytes, it->body, it->body_bytes);
    one->have |= (uint64_t)1 << it->index;
    one->touched = ++udp->clock;
    if (--one->missing == 0)
        note(udp, from, frame, one->frame_bytes);
}

static void take_packet(phx_udp *udp, int32_t from, const uint8_t *packet, size_t length)
{
    piece it;

    if (length == 0 || length > udp->packet_bytes)
        note(udp, BAD_SIZE, NULL, length);
    else if (!is_piece(packet, length))
        note(udp, from, packet, length);
    else if (read_piece(udp, packet, length, &it))
        take_piece(udp, from, &it);
    else
        note(udp, BAD_PIECE, NULL, length);
}

/* Of how many bytes the packets were of which the kernel has made this one. */
static size_t step_of(struct msghdr *message, size_t length)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            if (size > 0 && (size_t)size < length)
                return (size_t)size;
        }
    }
    return length;
}

static void take_datagram(phx_udp *udp, int place)
{
    struct mmsghdr *message = &udp->incoming[place];
    uint8_t *packets = udp->memory + (size_t)place * SLOT_BYTES;
    const size_t length = message->msg_len;
    const int32_t from = peer_at(udp, &udp->sources[place], message->msg_hdr.msg_namelen);
    piece first;

    if (from < 0) {
        note(udp, STRANGER, NULL, length);
        return;
    }
    const size_t step = step_of(&message->msg_hdr, length);
    if (step >= length) {
        take_packet(udp, from, packets, length);
        return;
    }
    if (close_up(udp, packets, length, step, &first)) {
        note(udp, from, packets, first.frame_bytes);
        return;
    }
    for (size_t at = 0; at < length; at += step)
        take_packet(udp, from, packets + at, length - at < step ? length - at : step);
}

int phx_udp_receive(phx_udp *udp, int fd, int most)
{
    const int asked = most < udp->slots ? most : udp->slots;

    udp->arrived_count = udp->datagrams = 0;
    for (int i = 0; i < PUZZLES; i++)
        if (udp->puzzles[i].missing == 0)
            udp->puzzles[i].used = false;
    for (int i = 0; i < asked; i++) {
        udp->incoming[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_storage);
        udp->incoming[i].msg_hdr.msg_controllen = sizeof udp->controls[i];
    }
    int count = recvmmsg(fd, udp->incoming, (unsigned)asked, MSG_DONTWAIT, NULL);
    if (count < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    udp->datagrams = count;
    for (int i = 0; i < count; i++)
        take_datagram(udp, i);
    return udp->arrived_count;
}

const int64_t *phx_udp_arrived(const phx_udp *udp)
{
    return udp->arrived;
}

int phx_udp_datagrams(const phx_udp *udp)
{
    return udp->datagrams;
}

uint8_t *phx_udp_memory(phx_udp *udp)
{
    return udp->memory;
}

size_t phx_udp_memory_bytes(const phx_udp *udp)
{
    return ((size_t)udp->slots + PUZZLES) * SLOT_BYTES;
}

/* -------------------------------------------------------------------------------------- sending */

/* Send what stands in `outgoing`; returns how many were sent. `errors` is told why one was not. */
static int send_all(phx_udp *udp, int fd, int count, int32_t *errors)
{
    int sent = 0;

    for (int i = 0; i < count;) {
        /* It stops at the first that cannot be sent, and says why only if that is the first. */
        int done = sendmmsg(fd, udp->outgoing + i, (unsigned)(count - i), MSG_DONTWAIT);
        if (done > 0) {
            memset(errors + i, 0, (size_t)done * sizeof *errors);
            sent += done;
            i += done;
        } else {
            errors[i++] = errno;
        }
    }
    return sent;
}

static void address(phx_udp *udp, int place, peer *to, struct iovec *what)
{
    memset(&udp->outgoing[place], 0, sizeof udp->outgoing[place]);
    udp->outgoing[place].msg_hdr.msg_iov = what;
    udp->outgoing[place].msg_hdr.msg_iovlen = 1;
    udp->outgoing[place].msg_hdr.msg_name = &to->address;
    udp->outgoing[place].msg_hdr.msg_namelen = to->length;
}

/* Cut a frame into packets, all but the last of `packet_bytes`; returns their bytes. */
static size_t cut(phx_udp *udp, const uint8_t *frame, size_t length)
{
    const size_t most = udp->packet_bytes - HEAD_BYTES;
    const uint32_t id = udp->next_id++;
    uint8_t *packet = udp->cut;

    for (size_t at = 0, index = 0; at < length; at += most, index++) {
        const size_t size = length - at < most ? length - at : most;
        memset(packet, 0, HEAD_BYTES);
        store(packet, PIECE_MAGIC, 2);
        packet[2] = PIECE_VERSION;
        packet[AT_INDEX] = (uint8_t)index;
        store(packet + AT_ID, id, 4);
        store(packet + AT_FRAME_BYTES, (uint32_t)length, 4);
        store(packet + AT_PIECE_BYTES, (uint32_t)most, 2);
        memcpy(packet + HEAD_BYTES, frame + at, size);
        packet += HEAD_BYTES + size;
    }
    return (size_t)(packet - udp->cut);
}

/* Send the packets of a frame to one peer; 0, or the errno of the first that was not sent. */
static int32_t send_cut(phx_udp *udp, int fd, peer *to, size_t bytes)
{
    struct iovec places[PIECES_MAX];
    int32_t errors[PIECES_MAX];
    union {
        uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr header;
    } control;

    if (!to->separately) {
        const uint16_t step = (uint16_t)udp->packet_bytes;
        int32_t failed;

        memset(&control, 0, sizeof control);
        places[0] = (struct iovec){.iov_base = udp->cut, .iov_len = bytes};
        address(udp, 0, to, places);
        udp->outgoing[0].msg_hdr.msg_control = &control;
        udp->outgoing[0].msg_hdr.msg_controllen = sizeof control.bytes;
        control.header.cmsg_level = SOL_UDP;
        control.header.cmsg_type = UDP_SEGMENT;
        control.header.cmsg_len = CMSG_LEN(sizeof step);
        memcpy(CMSG_DATA(&control.header), &step, sizeof step);
        send_all(udp, fd, 1, &failed);
        /* An old kernel takes no such message, and a device or a narrow path not such a packet. */
        if (failed != EINVAL && failed != EIO && failed != EMSGSIZE && failed != EOPNOTSUPP)
            return failed;
        to->separately = true;
    }
    int count = 0;
    for (size_t at = 0; at < bytes; at += udp->packet_bytes, count++) {
        const size_t left = bytes - at;
        places[count] = (struct iovec){.iov_base = udp->cut + at,
                                       .iov_len = left < udp->packet_bytes ? left
                                                                           : udp->packet_bytes};
        address(udp, count, to, &places[count]);
    }
    if (send_all(udp, fd, count, errors) < count)
        for (int i = 0; i < count; i++)
            if (errors[i] != 0)
                return errors[i];
    return 0;
}

int phx_udp_send(phx_udp *udp, int fd, const int32_t *peers, int count, const uint8_t *frame,
                 size_t length, int32_t *errors)
{
    if (length > udp->frame_bytes_max) {
        for (int i = 0; i < count; i++)
            errors[i] = EMSGSIZE;
        return 0;
    }
    if (length > udp->packet_bytes) {
        const size_t bytes = cut(udp, frame, length);
        int sent = 0;

        for (int i = 0; i < count; i++) {
            errors[i] = send_cut(udp, fd, &udp->known[peers[i]], bytes);
            sent += errors[i] == 0;
        }
        return sent;
    }
    /* The kernel reads what it sends, whatever the type says. */
    struct iovec place = {.iov_base = (void *)(uintptr_t)frame, .iov_len = length};
    for (int i = 0; i < count; i++)
        address(udp, i, &udp->known[peers[i]], &place);
    return send_all(udp, fd, count, errors);
}
