/* recvmmsg for all rails, and who is where on them: one crossing from Python for all that is there.
 *
 * What does not fit into one packet comes in pieces, which the kernel gives as one where nothing on
 * the way has made packets of it (UDP_GRO, Linux 5.0); so a large frame costs about as much as a
 * small one. */

#include "udp_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum {
    STRANGER = -1,
    BAD_SIZE = -2,
    BAD_PIECE = -3,
    DISPLACED = -4,
    OWN = -5,

    SLOT_BYTES = 65536 + 192, /* all that UDP carries; not a power of two, for the caches' sake */
    ARRIVED_MAX = 256, /* by datagram: more than the kernel makes one of */
    FIELDS = 6,
    TOLD = 3
};

/* Make a slot as large as it is. */
static void vacate(phx_udp *udp, size_t place)
{
    udp->incoming[place].msg_hdr.msg_namelen = sizeof(struct sockaddr_storage);
    udp->incoming[place].msg_hdr.msg_controllen = sizeof udp->controls[place];
}

phx_udp *phx_udp_new(int slots, int packet_bytes, int frame_bytes_max)
{
    if (slots < 1 || packet_bytes <= PHX_PIECE_HEAD_BYTES ||
        frame_bytes_max > (packet_bytes - PHX_PIECE_HEAD_BYTES) * PHX_PIECES_MAX ||
        frame_bytes_max > SLOT_BYTES)
        return NULL;
    phx_udp *udp = calloc(1, sizeof *udp);
    if (udp == NULL)
        return NULL;
    const size_t n = (size_t)slots;
    udp->slots = slots;
    udp->packet_bytes = (uint32_t)packet_bytes;
    udp->frame_bytes_max = (uint32_t)frame_bytes_max;
    udp->puzzles.frame_bytes_max = udp->frame_bytes_max;
    udp->puzzles.packet_bytes = udp->packet_bytes;
    udp->puzzles.step = SLOT_BYTES + (size_t)packet_bytes * PHX_PARITIES_MAX;
    udp->memory_bytes = n * SLOT_BYTES + PHX_PUZZLES * udp->puzzles.step;
    udp->memory = calloc(1, udp->memory_bytes);
    udp->arrived = calloc(n * ARRIVED_MAX * FIELDS, sizeof *udp->arrived);
    udp->told = calloc(n * TOLD, sizeof *udp->told);
    udp->incoming = calloc(n, sizeof *udp->incoming);
    udp->places = calloc(n, sizeof *udp->places);
    udp->sources = calloc(n, sizeof *udp->sources);
    udp->controls = calloc(n, sizeof *udp->controls);
    udp->outgoing = calloc(PACKETS_MAX, sizeof *udp->outgoing);
    udp->cut = calloc(PACKETS_MAX, (size_t)packet_bytes);
    if (udp->memory == NULL || udp->arrived == NULL || udp->told == NULL ||
        udp->incoming == NULL || udp->places == NULL || udp->sources == NULL ||
        udp->controls == NULL || udp->outgoing == NULL || udp->cut == NULL) {
        phx_udp_free(udp);
        return NULL;
    }
    udp->puzzles.frames = udp->memory + n * SLOT_BYTES;
    udp->parities = udp->cut + (size_t)PHX_PIECES_MAX * (size_t)packet_bytes;
    for (size_t i = 0; i < n; i++) {
        udp->places[i].iov_base = udp->memory + i * SLOT_BYTES;
        udp->places[i].iov_len = SLOT_BYTES;
        udp->incoming[i].msg_hdr.msg_iov = &udp->places[i];
        udp->incoming[i].msg_hdr.msg_iovlen = 1;
        udp->incoming[i].msg_hdr.msg_name = &udp->sources[i];
        udp->incoming[i].msg_hdr.msg_control = udp->controls[i];
        vacate(udp, i);
    }
    return udp;
}

void phx_udp_free(phx_udp *udp)
{
    if (udp == NULL)
        return;
    free(udp->memory);
    free(udp->arrived);
    free(udp->told);
    free(udp->incoming);
    free(udp->places);
    free(udp->sources);
    free(udp->controls);
    free(udp->known);
    free(udp->marks);
    free(udp->outgoing);
    free(udp->cut);
    free(udp);
}

void phx_udp_number_from(phx_udp *udp, uint32_t id)
{
    udp->next_id = id;
}

/* Of two addresses of one network mostly different ones. */
static uint32_t sum_of(const void *address, size_t length)
{
    const uint8_t *bytes = address;
    uint32_t sum = (uint32_t)length;

    for (size_t i = 0; i < length; i++)
        sum = sum * 31 + bytes[i];
    return sum;
}

/* Nobody sends from an address without length. */
static int place_at(phx_udp *udp, int32_t number, int rail, const uint8_t *address, int length)
{
    peer *it = &udp->known[number];

    memset(&it->address, 0, sizeof it->address);
    memcpy(&it->address, address, (size_t)length);
    it->length = (socklen_t)length;
    it->separately = false;
    udp->marks[number] = (mark){rail, sum_of(&it->address, (size_t)length)};
    return number;
}

int phx_udp_learn(phx_udp *udp, int rail, int32_t node, const uint8_t *address, int length)
{
    if (node < PHX_UDP_OWN || length < 0 || (size_t)length > sizeof(struct sockaddr_storage))
        return -1;
    for (int32_t i = 0; i < udp->peers; i++)
        if (udp->known[i].rail == rail && udp->known[i].node == node)
            return place_at(udp, i, rail, address, length);
    const size_t n = (size_t)udp->peers + 1;
    peer *known = realloc(udp->known, n * sizeof *known);
    if (known == NULL)
        return -1;
    udp->known = known;
    mark *marks = realloc(udp->marks, n * sizeof *marks);
    if (marks == NULL)
        return -1;
    udp->marks = marks;
    if (n > PACKETS_MAX) {
        struct mmsghdr *outgoing = realloc(udp->outgoing, n * sizeof *outgoing);
        if (outgoing == NULL)
            return -1;
        udp->outgoing = outgoing;
    }
    place_at(udp, udp->peers, rail, address, length);
    known[udp->peers].rail = rail;
    known[udp->peers].node = node;
    return udp->peers++;
}

/* ------------------------------------------------------------------------------------ receiving */

/* Who sends from an address, or what is wrong with it. */
static int32_t sender_at(const phx_udp *udp, const struct sockaddr_storage *source,
                         socklen_t length)
{
    const uint32_t sum = sum_of(source, length);

    for (int32_t i = 0; i < udp->peers; i++) {
        const peer *it = &udp->known[i];
        if (udp->marks[i].sum == sum && udp->marks[i].rail == udp->rail &&
            it->length == length && memcmp(&it->address, source, length) == 0)
            return it->node >= 0 ? it->node : it->node == PHX_UDP_OWN ? OWN : STRANGER;
    }
    return STRANGER;
}

static int64_t *note(phx_udp *udp, int64_t what, const uint8_t *frame, size_t length)
{
    static int64_t nowhere[FIELDS];

    if (udp->arrived_count >= udp->slots * ARRIVED_MAX)
        return nowhere;
    int64_t *entry = udp->arrived + udp->arrived_count++ * FIELDS;
    entry[0] = what;
    entry[1] = frame == NULL ? 0 : frame - udp->memory;
    entry[2] = (int64_t)length;
    entry[3] = entry[4] = 0;
    entry[5] = udp->rail;
    return entry;
}

static void note_frame(phx_udp *udp, int32_t from, const phx_piece *it, const uint8_t *frame)
{
    int64_t *entry = note(udp, from, frame, it->frame_bytes);

    entry[3] = it->session;
    entry[4] = it->session == 0 ? 0 : it->id;
}

static void take_piece(phx_udp *udp, int32_t from, const phx_piece *it)
{
    bool displaced;
    int place;

    switch (phx_puzzles_take(&udp->puzzles, from, it, &displaced, &place)) {
    case PHX_PIECE_COMPLETES:
        note_frame(udp, from, it, udp->puzzles.frames + (size_t)place * udp->puzzles.step);
        break;
    case PHX_PIECE_UNFIT:
        note(udp, BAD_PIECE, NULL, 0);
        break;
    case PHX_PIECE_NO_ROOM:
        displaced = true;
        break;
    case PHX_PIECE_KEPT:
        break;
    }
    if (displaced)
        note(udp, DISPLACED, NULL, 0);
}

static void take_packet(phx_udp *udp, int32_t from, const uint8_t *packet, size_t length)
{
    phx_piece it;

    if (length == 0 || length > udp->packet_bytes)
        note(udp, BAD_SIZE, NULL, length);
    else if (!phx_piece_is(packet, length))
        note(udp, from, packet, length);
    else if (!phx_piece_read(packet, length, udp->frame_bytes_max, &it))
        note(udp, BAD_PIECE, NULL, length);
    else if (it.count > 1)
        take_piece(udp, from, &it);
    else if (phx_puzzles_whole(&udp->puzzles, from, &it))
        note_frame(udp, from, &it, it.body);
}

/* Of how many bytes the packets were of which the kernel has made this one; beside, how many it has
 * had no room for. */
static size_t step_of(phx_udp *udp, struct msghdr *message, size_t length)
{
    size_t step = length;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            if (size > 0 && (size_t)size < length)
                step = (size_t)size;
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            memcpy(&udp->overruns, CMSG_DATA(c), sizeof udp->overruns);
        }
    }
    return step;
}

static void take_datagram(phx_udp *udp, int place)
{
    struct mmsghdr *message = &udp->incoming[place];
    uint8_t *packets = udp->memory + (size_t)place * SLOT_BYTES;
    const size_t length = message->msg_len;
    const int32_t from =
        sender_at(udp, &udp->sources[place], message->msg_hdr.msg_namelen);
    const size_t step = step_of(udp, &message->msg_hdr, length);
    phx_piece first;

    if (from < 0) {
        note(udp, from, NULL, length);
        return;
    }
    if (step >= length) {
        take_packet(udp, from, packets, length);
        return;
    }
    if (phx_pieces_close_up(packets, length, step, udp->frame_bytes_max, &first) > 0) {
        if (phx_puzzles_whole(&udp->puzzles, from, &first))
            note_frame(udp, from, &first, packets);
        return;
    }
    for (size_t at = 0; at < length; at += step)
        take_packet(udp, from, packets + at, length - at < step ? length - at : step);
}

/* Read one socket into `most` slots from `first`; whether there is something to be told of it. */
static bool read_source(phx_udp *udp, int fd, int first, int most, int64_t *told)
{
    udp->overruns = 0;
    const int count = recvmmsg(fd, udp->incoming + first, (unsigned)most, MSG_DONTWAIT, NULL);
    if (count < 0) {
        told[0] = told[1] = 0;
        told[2] = errno == EAGAIN || errno == EWOULDBLOCK ? 0 : errno;
        return told[2] != 0;
    }
    for (int i = first; i < first + count; i++) {
        take_datagram(udp, i);
        vacate(udp, (size_t)i);
    }
    told[0] = count;
    told[1] = udp->overruns;
    told[2] = 0;
    return count == most || udp->overruns != 0;
}

int phx_udp_receive(phx_udp *udp, const int32_t *sources, int count, int most)
{
    const int share = most < udp->slots / count ? most : udp->slots / count;
    bool more = false;

    udp->arrived_count = 0;
    phx_puzzles_release(&udp->puzzles);
    for (int i = 0; i < count; i++) {
        udp->rail = sources[2 * i];
        more |= read_source(udp, sources[2 * i + 1], i * share, share, udp->told + i * TOLD);
    }
    return more ? udp->arrived_count | PHX_UDP_MORE : udp->arrived_count;
}

const int64_t *phx_udp_arrived(const phx_udp *udp)
{
    return udp->arrived;
}

const int64_t *phx_udp_told(const phx_udp *udp)
{
    return udp->told;
}

int phx_udp_incomplete(const phx_udp *udp, int64_t *entries, int most)
{
    int count = 0;

    for (int i = 0; i < PHX_PUZZLES && count < most; i++) {
        const phx_puzzle *it = &udp->puzzles.all[i];
        if (!it->used || it->missing == 0 || it->name.session == 0)
            continue;
        int64_t *entry = entries + count++ * 4;
        entry[0] = it->name.from;
        entry[1] = it->name.session;
        entry[2] = it->name.id;
        entry[3] = (int64_t)(~it->have & ((UINT64_C(2) << (it->count - 1)) - 1));
    }
    return count;
}

uint8_t *phx_udp_memory(phx_udp *udp)
{
    return udp->memory;
}

size_t phx_udp_memory_bytes(const phx_udp *udp)
{
    return udp->memory_bytes;
}
