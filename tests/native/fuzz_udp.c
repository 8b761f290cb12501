/* Sends frames, and pieces that are shuffled, doubled, lost and damaged, over loopback to udp.c, and
 * looks at what comes out. Meant to be built with -fsanitize=address,undefined.
 *
 *     fuzz_udp SEED SECONDS     prints "N cases" and exits 0, or says what went wrong
 *     fuzz_udp overread         reads past the end of its memory on purpose: must not exit 0
 */

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "udp.h"

enum { SLOTS = 8, PACKET = 1400, HEAD = 16, BODY = PACKET - HEAD, MOST = 46 * BODY, FIELDS = 6, RAIL = 1 };

static int open_socket(struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0), on = 1, bytes = 4 << 20;
    socklen_t length = sizeof *address;

    CHECK(fd >= 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(fd, (struct sockaddr *)address, sizeof *address) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
    return fd;
}

/* A byte of a frame follows from its first word and its place, so that any part can be checked. */
static uint8_t expected(uint32_t word, size_t at)
{
    return (uint8_t)((word * UINT32_C(2654435761)) >> 24) ^ (uint8_t)(at * 31 + (at >> 8));
}

static void make(uint8_t *frame, size_t length)
{
    const uint32_t word = (uint32_t)next_random() | 1;

    for (size_t i = 0; i < length; i++)
        frame[i] = expected(word, i);
    if (length >= 4)
        memcpy(frame, &word, 4);
    if (length > 0 && frame[0] == 0x50)
        frame[0] = 0x51; /* does not begin like a piece */
}

static bool is_made(const uint8_t *frame, size_t length)
{
    uint32_t word;

    if (length < 8)
        return true;
    memcpy(&word, frame, 4);
    for (size_t i = 4; i < length; i++)
        if (frame[i] != expected(word, i) && frame[0] != 0x51)
            return false;
    return true;
}

/* Read everything; returns how many frames came. With `whole` each has to be as it was made. */
static int take(phx_udp *udp, int fd, bool whole)
{
    const int32_t sources[] = {RAIL, fd};
    const int64_t *told = phx_udp_told(udp);
    int frames = 0, count;

    while ((count = phx_udp_receive(udp, sources, 1, SLOTS)) != 0 || told[0] > 0) {
        CHECK(told[0] >= 0 && told[0] <= SLOTS && told[2] == 0);
        CHECK((count & PHX_UDP_MORE) != 0 || told[0] < SLOTS);
        count &= ~PHX_UDP_MORE;
        for (int i = 0; i < count; i++) {
            const int64_t *it = phx_udp_arrived(udp) + i * FIELDS;

            CHECK(it[0] >= -5 && it[0] <= 1 && it[5] == RAIL);
            if (it[0] < 0)
                continue;
            CHECK(it[2] >= 1 && it[2] <= MOST);
            CHECK(it[1] >= 0 && (size_t)(it[1] + it[2]) <= phx_udp_memory_bytes(udp));
            CHECK(!whole || is_made(phx_udp_memory(udp) + it[1], (size_t)it[2]));
            frames++;
        }
    }
    return frames;
}

static size_t any_length(void)
{
    static const size_t edges[] = {1, PACKET, PACKET + 1, 2 * BODY, 2 * BODY + 1, MOST};

    return below(3) == 0 ? edges[below(sizeof edges / sizeof edges[0])] : 1 + below(MOST);
}

/* What one sends, the other gets as it was, whatever else is about. */
static void send_whole(phx_udp *from, int fd, phx_udp *to, int there, uint8_t *frame)
{
    const int32_t peers[] = {0};
    int32_t error;
    const int count = 1 + (int)below(4);

    for (int i = 0; i < count; i++) {
        const size_t length = any_length();
        make(frame, length);
        CHECK(phx_udp_send(from, fd, peers, 1, frame, length, &error) == 1 && error == 0);
    }
    CHECK(take(to, there, true) == count);
}

/* A numbered frame comes when the pieces that were left out at first have been sent, and once. */
static void send_mended(phx_udp *from, int fd, phx_udp *to, int there, uint8_t *frame)
{
    static uint32_t number = UINT32_MAX - 100;
    const size_t length = any_length();
    const uint64_t some = next_random();
    const int32_t peers[] = {0};
    const int session = 1 + (int)below(65535);
    int64_t entries[4 * 64];
    int32_t error;

    make(frame, length);
    number++;
    (void)phx_udp_send_numbered(from, fd, peers, 1, session, number, some, frame, length, &error);
    CHECK(error == 0 || error == EINVAL); /* it may have none of these pieces */
    int frames = take(to, there, true);
    const int count = phx_udp_incomplete(to, entries, 64);
    CHECK(count >= 0 && count <= 64);
    for (int i = 0; i < count; i++) {
        const int64_t *it = entries + i * 4;
        CHECK(it[0] == 0 && it[1] >= 1 && it[1] <= 65535 && it[3] != 0);
        CHECK(it[1] != session || it[2] != number || (it[3] & (int64_t)some) == 0);
    }
    for (int i = 0; i < 2; i++) {
        (void)phx_udp_send_numbered(from, fd, peers, 1, session, number, i == 0 ? ~some : UINT64_MAX,
                                    frame, length, &error);
        frames += take(to, there, true);
    }
    CHECK(frames == 1);
}

/* Pieces as a lossy network or a hostile host may send them, some of them as one. */
static void send_damaged(int fd, const struct sockaddr_in *to, uint8_t *scratch)
{
    uint16_t step = (uint16_t)(1 + below(1500));
    const size_t length = 1 + below(below(4) == 0 ? 60000 : 3000);
    const uint32_t id = (uint32_t)below(4), size = (uint32_t)below(70000);
    const uint16_t body = (uint16_t)(below(3) == 0 ? below(2000) : BODY);
    union {
        uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr header;
    } control = {0};
    struct iovec place = {.iov_base = scratch, .iov_len = length};
    struct msghdr message = {.msg_name = (void *)(uintptr_t)to,
                             .msg_namelen = sizeof *to,
                             .msg_iov = &place,
                             .msg_iovlen = 1};

    if (below(2) == 0)
        step = PACKET;
    for (size_t i = 0; i < length; i++)
        scratch[i] = (uint8_t)next_random();
    for (size_t at = 0, index = below(3); at + HEAD <= length; at += step, index++) {
        uint8_t *p = scratch + at;
        p[0] = p[1] = 0x50;
        p[2] = 1;
        p[3] = (uint8_t)(below(8) == 0 ? below(256) : below(8) == 0 ? 64 + below(6) : index);
        memcpy(p + 4, &id, 4);
        memcpy(p + 8, &size, 4);
        memcpy(p + 12, &body, 2);
        if (below(16) == 0)
            p[below(HEAD)] ^= (uint8_t)(1u << below(8));
    }
    if (below(2) == 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control.bytes;
        control.header.cmsg_level = IPPROTO_UDP;
        control.header.cmsg_type = UDP_SEGMENT;
        control.header.cmsg_len = CMSG_LEN(sizeof step);
        memcpy(CMSG_DATA(&control.header), &step, sizeof step);
    }
    /* The kernel refuses some of these, which is as good. */
    (void)sendmsg(fd, &message, MSG_DONTWAIT);
}

int main(int argc, char **argv)
{
    struct sockaddr_in here, there;
    struct timespec now;
    const int left = open_socket(&here), right = open_socket(&there);
    phx_udp *from = phx_udp_new(SLOTS, PACKET, MOST), *to = phx_udp_new(SLOTS, PACKET, MOST);
    uint8_t *frame = malloc(MOST), *scratch = malloc(65536);
    uint64_t cases = 0;

    CHECK(from != NULL && to != NULL && frame != NULL && scratch != NULL);
    CHECK(phx_udp_learn(from, RAIL, 0, (const uint8_t *)&there, sizeof there) == 0);
    CHECK(phx_udp_learn(to, RAIL, 0, (const uint8_t *)&here, sizeof here) == 0);
    CHECK(phx_udp_learn(to, RAIL, PHX_UDP_OWN - 1, (const uint8_t *)&here, sizeof here) == -1);
    phx_udp_number_from(from, 1000); /* far from those of damaged frames */
    CHECK(phx_udp_new(SLOTS, PACKET, 64 * BODY) == NULL && phx_udp_new(1, HEAD, 1) == NULL);
    if (argc == 2 && strcmp(argv[1], "overread") == 0)
        return phx_udp_memory(to)[phx_udp_memory_bytes(to)];
    CHECK(argc == 3);
    state = strtoull(argv[1], NULL, 10);
    clock_gettime(CLOCK_MONOTONIC, &now);
    const double end = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec + strtod(argv[2], NULL);
    do {
        if (below(3) == 0) {
            send_whole(from, left, to, right, frame);
        } else if (below(3) == 0) {
            send_mended(from, left, to, right, frame);
        } else {
            for (size_t i = below(40); i > 0; i--)
                send_damaged(left, &there, scratch);
            (void)take(to, right, false);
        }
        cases++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)now.tv_sec + 1e-9 * (double)now.tv_nsec < end);
    phx_udp_free(from);
    phx_udp_free(to);
    free(frame);
    free(scratch);
    close(left);
    close(right);
    printf("%" PRIu64 " cases\n", cases);
    return 0;
}
