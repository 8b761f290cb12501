/* Drives the C side of the user_sctp driver without Python, to be run under ASan and UBSan: one
 * stack that connects to itself over loopback, while another socket throws garbage at it; and one
 * that is opened and closed while others dial it. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "usrsctp_internal.h"

enum {
    BATCH = 2 << 20,
    RECORDS = 4096,
    FRAME_MAX = 256 << 10,
    GARBAGE = 4000,
    SHORT_LIVES = 300,
    OPENINGS = 60,
    OPEN_US_MAX = 20000,
    DIALLERS = 8,
    PORTS = 1 + DIALLERS
};

static const px_address local = {.family = 4, .bytes = {127, 0, 0, 1}, .rail = PX_NO_RAIL};
static uint8_t buffer[BATCH];
static px_record records[RECORDS];
static uint8_t frame[FRAME_MAX + 1];
static unsigned seed = 1;

static struct {
    int ups, lost, writables, primaries, frames;
    int64_t dialled, accepted;
    uint32_t last_reason;
    size_t last_length;
} seen;

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                 \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

static unsigned next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void look(const px_record *r)
{
    CHECK((size_t)r->offset + r->length <= BATCH);
    switch (r->kind) {
    case PX_FRAME:
        for (uint32_t i = 0; i < r->length; i++)
            CHECK(buffer[r->offset + i] == (uint8_t)(r->length + i));
        seen.frames++;
        seen.last_length = r->length;
        break;
    case PX_UP:
        CHECK(r->length % sizeof(px_address) == 0); /* 0: it has ended again */
        seen.ups++;
        *(r->detail ? &seen.accepted : &seen.dialled) = r->link;
        break;
    case PX_LOST:
        seen.lost++;
        seen.last_reason = r->detail;
        break;
    case PX_PATH:
        seen.primaries += r->detail == PX_PATH_PRIMARY;
        break;
    case PX_WRITABLE:
        seen.writables++;
        break;
    default:
        CHECK(!"a kind of record that does not exist");
    }
}

/* Takes what has come by then, and if told so aborts each link that has come up. */
static void take(int wait_ms, bool abort)
{
    struct pollfd waiting = {.fd = px_fileno(), .events = POLLIN};
    size_t used;
    int count;

    poll(&waiting, 1, wait_ms);
    count = px_poll(buffer, sizeof buffer, records, RECORDS, &used);
    CHECK(count >= 0 && used <= sizeof buffer);
    for (int i = 0; i < count; i++) {
        look(&records[i]);
        if (abort && records[i].kind == PX_UP)
            px_disconnect(records[i].link, 1);
    }
}

/* Until the counter reaches the goal; the deadline is generous, as ASan is slow. */
static void until(const int *counter, int goal)
{
    double deadline = now() + 20;

    while (*counter < goal) {
        CHECK(now() < deadline);
        take(100, false);
    }
}

static const uint8_t *fill(size_t length)
{
    for (size_t i = 0; i < length; i++)
        frame[i] = (uint8_t)(length + i);
    return frame;
}

static void throw_garbage(uint16_t port)
{
    static const uint8_t init[] = {0xc3, 0x5d, 0x15, 0x1d, 0, 0, 0, 0, 0, 0, 0, 0,
                                   1, 0, 0, 20, 0x12, 0x34, 0x56, 0x78, 0, 0x0f, 0xff, 0xff,
                                   0, 5, 0, 5, 0x12, 0x34, 0x56, 0x78};
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    uint8_t packet[1500];

    CHECK(fd >= 0);
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < GARBAGE; i++) {
        size_t length = next_random() % sizeof packet;

        for (size_t at = 0; at < length; at++)
            packet[at] = (uint8_t)next_random();
        if (i % 2 == 0) { /* a valid beginning and a valid checksum reach deeper */
            size_t keep = length < sizeof init ? length : sizeof init;
            uint32_t sum;

            memcpy(packet, init, keep);
            if (length > 16)
                packet[12 + next_random() % (length - 12)] ^= (uint8_t)(1u << next_random() % 8);
            if (i % 4 == 0 && length > 12)
                packet[12] = (uint8_t)(next_random() % 16);
            if (length >= 12) {
                memset(packet + 8, 0, 4);
                sum = usrsctp_crc32c(packet, length);
                memcpy(packet + 8, &sum, 4);
            }
        }
        sendto(fd, packet, length, 0, (struct sockaddr *)&target, sizeof target);
    }
    close(fd);
}

static void exchange_frames(void)
{
    static const size_t sizes[] = {1, 2, 3, 1000, 1443, 1444, 1445, 16384, 65536, FRAME_MAX};
    int count = (int)(sizeof sizes / sizeof sizes[0]), before = seen.frames;

    for (int i = 0; i < count; i++) {
        CHECK(px_transmit(seen.dialled, (uint32_t)i % 5, fill(sizes[i]), sizes[i]) == 1);
        CHECK(px_transmit(seen.accepted, (uint32_t)i % 5, frame, sizes[i]) == 1);
    }
    until(&seen.frames, before + 2 * count);
    CHECK(px_probe(seen.dialled, 3, 0, fill(20), 20) == 1);
    until(&seen.frames, before + 2 * count + 1);
}

static void fill_until_refused(void)
{
    int before = seen.frames, taken = 0;

    fill(60000);
    while (px_transmit(seen.dialled, 2, frame, 60000))
        taken++;
    CHECK(taken > 10);
    until(&seen.writables, 1);
    until(&seen.frames, before + taken);
}

/* Associations that end while packets of theirs are on their way and their timers are due: where
 * a socket that is closed meets the stack's threads. */
static void end_in_the_middle(uint16_t port)
{
    for (int i = 0; i < SHORT_LIVES; i++) {
        int ups = seen.ups, lost = seen.lost;

        CHECK(px_connect(&local, 1, 5405, port) > 0);
        until(&seen.ups, ups + 2);
        for (int k = 0; k < 4; k++) {
            px_transmit(seen.dialled, 2, fill(60000), 60000);
            px_transmit(seen.accepted, 2, frame, 60000);
            px_probe(seen.dialled, 1, 0, fill(20), 20);
        }
        if (next_random() % 2)
            usleep(next_random() % 2000);
        px_disconnect(next_random() % 2 ? seen.dialled : seen.accepted, 1);
        until(&seen.lost, lost + 2);
    }
}

static int open_on(uint16_t port)
{
    static const px_tuning tuning = {
        .rto_initial_ms = 50, .rto_min_ms = 20, .rto_max_ms = 100,
        .sack_delay_ms = 10, .sack_freq = 2, .heartbeat_ms = 100,
        .path_max_retrans = 4, .association_max_retrans = 10,
        .init_attempts = 4, .init_timeout_ms = 100,
        .send_buffer_bytes = 1 << 20, .receive_buffer_bytes = 1 << 20,
        .frame_bytes_max = FRAME_MAX, .streams = 5};
    static const px_rail rail = {.family = 4, .prefix_bits = 8, .bytes = {127}, .tag = 0x1234568};
    int stage;

    return px_open(&tuning, &rail, 1, &local, 1, 5405, port, &stage);
}

static void one_life(uint16_t port)
{
    px_path paths[4];
    px_stats stats;
    int primaries, ups;

    memset(&seen, 0, sizeof seen);
    CHECK(open_on(port) == 0);
    CHECK(open_on(port) < 0);
    throw_garbage(port);
    CHECK(px_connect(&local, 1, 5405, port) > 0);
    until(&seen.ups, 2);
    exchange_frames();
    throw_garbage(port);
    fill_until_refused();
    primaries = seen.primaries;
    CHECK(px_set_primary(seen.dialled, 0) == 1);
    until(&seen.primaries, primaries + 1);
    CHECK(px_paths(seen.dialled, paths, 4) == 1);
    CHECK(px_set_primary(seen.dialled, 7) == 0 && px_set_primary(12345, 0) == 0);
    CHECK(px_transmit(999999, 0, frame, 10) == 1);
    CHECK(px_disconnect(seen.dialled, 0) == 1);
    until(&seen.lost, 2);
    CHECK(px_connect(&local, 1, 5405, port) > 0);
    until(&seen.ups, 4);
    CHECK(px_disconnect(seen.accepted, 1) == 1);
    until(&seen.lost, 4);
    CHECK(px_connect(&local, 0, 5405, port) > 0);
    until(&seen.lost, 5);
    CHECK(seen.last_reason == PX_UNREACHABLE);
    end_in_the_middle(port);
    CHECK(px_disconnect(px_connect(&local, 1, 5405, port), 1) == 1); /* before it is up */
    until(&seen.lost, 5 + 2 * SHORT_LIVES + 1);
    ups = seen.ups;
    CHECK(px_connect(&local, 1, 5405, port) > 0); /* left open: px_close has work to do */
    until(&seen.ups, ups + 2);
    px_get_stats(&stats);
    CHECK(stats.links_up == (uint64_t)seen.ups && stats.frames_received == (uint64_t)seen.frames);
    CHECK(px_close() == 0);
    CHECK(px_close() == 0);
}

/* Dials for as long as its parent lives, and aborts as soon as it is heard. */
static void dial_and_abort(uint16_t port, uint16_t target)
{
    pid_t parent = getppid();

    CHECK(open_on(port) == 0);
    while (getppid() == parent) {
        double next = now() + 0.002;

        px_connect(&local, 1, 5405, target);
        while (now() < next)
            take(1, true);
    }
    exit(0);
}

/* The stack is opened and closed while newcomers come and go, at any moment of theirs: it is
 * left without a pointer to the listener that was, and without a socket that nobody accepted,
 * because of which it could never be stopped again. */
static void close_among_newcomers(uint16_t port, const uint16_t others[DIALLERS])
{
    pid_t diallers[DIALLERS];

    for (int i = 0; i < DIALLERS; i++) {
        diallers[i] = fork();
        CHECK(diallers[i] >= 0);
        if (diallers[i] == 0)
            dial_and_abort(others[i], port);
    }
    memset(&seen, 0, sizeof seen);
    for (int i = 0; i < OPENINGS; i++) {
        double end = now() + next_random() % OPEN_US_MAX * 1e-6;

        CHECK(open_on(port) == 0);
        while (now() < end)
            take(1, false);
        CHECK(px_close() == 0);
    }
    CHECK(seen.ups > OPENINGS / 10);
    for (int i = 0; i < DIALLERS; i++) {
        kill(diallers[i], SIGKILL);
        waitpid(diallers[i], NULL, 0);
    }
}

/* A newcomer that finds no slot is refused on the thread that has set it up, and leaves nothing. */
static void refuse_without_a_slot(uint16_t port)
{
    static const px_address silent = {.family = 4, .bytes = {127, 9, 9, 9}, .rail = PX_NO_RAIL};
    px_stats stats;
    int lost;

    memset(&seen, 0, sizeof seen);
    CHECK(open_on(port) == 0);
    for (int links = 0; links + 2 < PX_SLOTS; links += 2) {
        CHECK(px_connect(&local, 1, 5405, port) > 0);
        until(&seen.ups, links + 2);
    }
    lost = seen.lost;
    CHECK(px_connect(&silent, 1, 5405, port) > 0);
    CHECK(px_connect(&local, 1, 5405, port) > 0);
    CHECK(px_connect(&local, 1, 5405, port) == -EMFILE);
    until(&seen.lost, lost + 2); /* nobody has answered the one, and the other was aborted */
    px_get_stats(&stats);
    CHECK(stats.links_refused == 2 && seen.accepted > 0); /* the last dial was one, too */
    CHECK(px_connect(&local, 1, 5405, port) > 0); /* there is room again */
    until(&seen.ups, PX_SLOTS + 1);
    CHECK(px_close() == 0);
}

/* A stack that cannot be stopped, here because of a socket that is not ours, keeps its port, says
 * so, and can be opened again with the same one. */
static void open_again_after_failing_to_stop(uint16_t port, uint16_t other)
{
    struct socket *stray;

    CHECK(open_on(port) == 0 && px_kept_port() == 0);
    stray = usrsctp_socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP, NULL, NULL, 0, NULL);
    CHECK(stray != NULL && px_close() == 1 && px_kept_port() == port);
    CHECK(open_on(other) == -EBUSY);
    CHECK(open_on(port) == 0 && px_kept_port() == 0);
    memset(&seen, 0, sizeof seen);
    CHECK(px_connect(&local, 1, 5405, port) > 0);
    until(&seen.ups, 2);
    usrsctp_close(stray);
    CHECK(px_close() == 0 && px_kept_port() == 0);
}

int main(int count, char **arguments)
{
    uint16_t ports[PORTS];

    CHECK(count == 1 + PORTS);
    for (int i = 0; i < PORTS; i++)
        ports[i] = (uint16_t)atoi(arguments[1 + i]);
    one_life(ports[0]);
    one_life(ports[1]);
    close_among_newcomers(ports[0], ports + 1);
    refuse_without_a_slot(ports[0]);
    open_again_after_failing_to_stop(ports[0], ports[1]);
    puts("clean");
    return 0;
}
