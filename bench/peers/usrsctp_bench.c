/*
 * One end of a bare usrsctp association under measurement: the first node sends flat out, the other
 * receives. Built and started by bench/peers/usrsctp.py:
 *
 *     usrsctp_bench NODE ADDRESS PEER SIZE WARM_UP_NS WINDOW_NS LIFE_S
 *
 * It speaks the lines of bench/peers/lines.py. One path, one stream, a message of SCTP for each
 * message: what the library itself can do, without anything of phalanx around it.
 */
#include "member.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <usrsctp.h>

enum {
    SENDER = 1,
    RECEIVER = 2,
    PORT = 6004,
    UDP_PORT = 9899,
    BUFFER_BYTES = 4 << 20,
    CHUNKS_QUEUED_MAX = 1 << 16,
    BYTES_MIN = 16,
    BYTES_MAX = 1 << 20,
    BURST = 64, /* messages before what has happened is looked at */
    WAIT_MS = 10,
    CONNECT_S = 20,
    FDS_MAX = 64,
};

static struct socket *association;
static char *message;
static size_t bytes, come;
static bool receives; /* else it sends: what wakes it is room */

static void woken(struct socket *so, void *unused, int flags)
{
    uint64_t one = 1;

    (void)so;
    (void)unused;
    (void)flags;
    while (write(sources[0].fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void receive(void)
{
    for (;;) {
        struct sctp_rcvinfo info;
        socklen_t from = 0, length = sizeof info;
        unsigned int kind = 0;
        int flags = 0;
        ssize_t got = usrsctp_recvv(association, message + come, bytes - come, NULL, &from, &info,
                                    &length, &kind, &flags);

        if (got <= 0)
            return; /* nothing, or the end */
        come += (size_t)got;
        if (flags & MSG_EOR) {
            take(SENDER, message, come);
            come = 0;
        }
    }
}

static void take_arrivals(void)
{
    uint64_t ignored;

    /* Emptied before the association is read: what comes after makes it readable again. */
    if (read(sources[0].fd, &ignored, sizeof ignored) > 0 && receives)
        receive();
}

static bool send_one(void)
{
    struct head head = {SENDER, 0, seen.sent + 1};

    memcpy(message, &head, sizeof head);
    if (usrsctp_sendv(association, message, bytes, NULL, 0, NULL, 0, SCTP_SENDV_NOINFO, 0) < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS && errno != ENOMEM)
            die("cannot send", errno);
        return false;
    }
    seen.sent++;
    return true;
}

static void run_sender(void)
{
    while (now_ns() < seen.window_ends_ns) {
        int burst = 0;

        while (burst < BURST && send_one())
            burst++;
        turn(burst ? 0 : WAIT_MS, false);
    }
    say_sent();
    hear();
    say_delivered(true);
}

/* The library gives no handle of its UDP sockets, and the default buffers lose a burst. */
static void enlarge_udp_buffers(void)
{
    int size = BUFFER_BYTES;

    for (int fd = 3; fd < FDS_MAX; fd++) {
        struct sockaddr_in at;
        socklen_t length = sizeof at;

        if (getsockname(fd, (struct sockaddr *)&at, &length) == 0 &&
            ntohs(at.sin_port) == UDP_PORT) {
            setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
            setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
        }
    }
}

static struct sockaddr_in address_of(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};

    if (inet_pton(AF_INET, text, &address.sin_addr) != 1)
        die("no address", 0);
    return address;
}

static void set(struct socket *so, int level, int option, const void *value, socklen_t length)
{
    if (usrsctp_setsockopt(so, level, option, value, length) != 0)
        die("cannot set an option", option);
}

static struct socket *make_socket(const char *own)
{
    struct sockaddr_in here = address_of(own);
    struct sctp_udpencaps encapsulation = {.sue_port = htons(UDP_PORT)};
    int on = 1, size = BUFFER_BYTES;
    struct socket *so =
        usrsctp_socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP, NULL, NULL, 0, NULL);

    if (so == NULL)
        die("no socket", errno);
    encapsulation.sue_address.ss_family = AF_INET;
    set(so, IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, &encapsulation, sizeof encapsulation);
    set(so, IPPROTO_SCTP, SCTP_NODELAY, &on, sizeof on);
    set(so, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    set(so, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (usrsctp_bind(so, (struct sockaddr *)&here, sizeof here) != 0)
        die("cannot bind", errno);
    return so;
}

static void enter(int64_t node, const char *own, const char *peer)
{
    struct socket *so;
    int64_t deadline_ns = now_ns() + (int64_t)CONNECT_S * 1000000000;

    sources[0].fd = eventfd(0, EFD_NONBLOCK);
    sources[0].events = sources[1].events = POLLIN;
    sources[1].fd = STDIN_FILENO;
    usrsctp_init(UDP_PORT, NULL, NULL);
    enlarge_udp_buffers();
    usrsctp_sysctl_set_sctp_ecn_enable(0);
    usrsctp_sysctl_set_sctp_max_chunks_on_queue(CHUNKS_QUEUED_MAX);
    so = make_socket(own);
    if (node == RECEIVER) {
        if (usrsctp_listen(so, 1) != 0)
            die("cannot listen", errno);
        association = usrsctp_accept(so, NULL, NULL); /* whoever started this bounds it */
    } else {
        struct sockaddr_in there = address_of(peer);

        /* The receiver may not listen yet: both ends are started at once. */
        while (usrsctp_connect(so, (struct sockaddr *)&there, sizeof there) != 0) {
            if (errno != ECONNREFUSED || now_ns() > deadline_ns)
                die("cannot connect", errno);
            usleep(WAIT_MS * 1000);
            usrsctp_close(so);
            so = make_socket(own);
        }
        association = so;
    }
    if (association == NULL)
        die("no association", errno);
    usrsctp_set_non_blocking(association, 1);
    usrsctp_set_upcall(association, woken, NULL);
}

int main(int argc, char **argv)
{
    int64_t node, warm_up_ns, window_ns;

    if (argc != 8)
        die("usage: NODE ADDRESS PEER SIZE WARM_UP_NS WINDOW_NS LIFE_S", argc);
    node = number(argv[1], SENDER, RECEIVER);
    bytes = (size_t)number(argv[4], BYTES_MIN, BYTES_MAX);
    warm_up_ns = number(argv[5], 0, INT64_MAX / 4);
    window_ns = number(argv[6], 0, INT64_MAX / 4);
    alarm((unsigned int)number(argv[7], 1, 1 << 20)); /* whatever happens, it ends */
    message = calloc(1, bytes);
    if (message == NULL)
        die("no memory", 0);
    receives = node == RECEIVER;
    enter(node, argv[2], argv[3]);
    await_start(warm_up_ns, window_ns);
    if (node == SENDER)
        run_sender();
    else
        receive_stream(SENDER);
    hear();
    _exit(0); /* what the library still has to say to the peer interests nobody */
}
