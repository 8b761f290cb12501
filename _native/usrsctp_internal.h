/* Shared by the files of the user_sctp driver's C side; not seen by Python. */
#ifndef PHALANX_USRSCTP_INTERNAL_H
#define PHALANX_USRSCTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <usrsctp.h>

#include "usrsctp_api.h"

enum { PX_FRAME = 1, PX_UP = 2, PX_LOST = 3, PX_PATH = 4, PX_WRITABLE = 5 };
enum { PX_PATH_UP = 1, PX_PATH_DOWN = 2, PX_PATH_PRIMARY = 3 };
enum {
    PX_NOT_LOST = 0,
    PX_UNREACHABLE = 1,
    PX_REFUSED = 2,
    PX_SHUTDOWN = 3,
    PX_ABORTED = 4,
    PX_TIMED_OUT = 5,
    PX_RESTARTED = 6,
    PX_LOCAL = 7
};

enum {
    PX_SLOTS = 256, /* links at a time; a power of two, as link numbers hold the slot below */
    PX_RAILS_MAX = 8,
    PX_PEERS_MAX = 16,
    PX_NO_RAIL = 255,
    PX_STREAM_BITS = 7, /* of a probe's payload protocol identifier */
    PX_STREAM_CONTROL = 0, /* may use the reserve */
    PX_RESERVE_BYTES = 512 << 10,
    PX_CHUNKS_QUEUED_MAX = 16384,
    PX_RESERVE_CHUNKS = 4096,
    PX_UDP_SOCKETS = 2, /* the stack opens one for IPv4 and one for IPv6 */
    PX_DETAIL_MAX = 64,
    PX_SHUTDOWN_GUARD_S = 120
};

/* A socket that waits to be closed; see usrsctp_end.c. */
typedef struct px_grave {
    struct socket *so;
    int64_t abort_at_ms; /* not before that */
    int64_t gone_at_ms;  /* when it was seen without an association, 0 before */
    struct px_grave *next;
} px_grave;

/* One association. The lock guards everything below it; it is also taken on the stack's
 * threads (upcalls), so it is never held while a socket is closed. */
typedef struct {
    pthread_mutex_t lock;
    int64_t number; /* 0 while the slot is free */
    struct socket *so;
    bool up, accepted, closing;
    bool lowered;       /* the stack's bound is lower while a caller waits for room */
    bool blocked;       /* a frame was refused: a PX_WRITABLE is owed */
    bool shutdown_owed; /* shut down as soon as everything is acknowledged */
    int64_t end_by_ms, nudge_at_ms; /* of CLOCK_MONOTONIC, while that is owed */
    uint32_t lost;      /* reason that is not reported yet */
    char lost_detail[PX_DETAIL_MAX];
    int primary_owed; /* rail + 1 of a set_primary that is not reported yet */
    px_address peers[PX_PEERS_MAX];
    int peer_count;
    uint16_t peer_port, out_streams;
    /* The one frame that was accepted although the stack had no room. It makes "no room"
     * exact: the next frame is refused until this one is away, whatever its size. */
    uint8_t *held;
    size_t held_length, held_capacity;
    uint32_t held_stream;
    /* The parts of a frame that the stack delivers in pieces. */
    uint8_t *partial;
    size_t partial_length;
    uint16_t partial_stream;
    atomic_bool ready; /* stands in the ready queue */
} px_link;

typedef struct {
    pid_t pid; /* of the process that opened the stack, 0 while closed */
    px_tuning tuning;
    px_rail rails[PX_RAILS_MAX];
    int rail_count;
    px_address locals[PX_RAILS_MAX];
    int local_count;
    uint16_t port, udp_port;
    int domain;
    int event_fd;
    int udp_fds[PX_UDP_SOCKETS];
    bool stack_running;
    uint16_t stack_udp_port;
    struct socket *listener;
    atomic_int_fast64_t serial; /* grows for ever, so that link numbers are never used twice */
    px_link links[PX_SLOTS];
    /* Slots with something to read or to report, each at most once. */
    pthread_mutex_t ready_lock;
    uint16_t ready[PX_SLOTS];
    int ready_head, ready_count;
    bool signalled;
    pthread_t sweeper;
    pthread_cond_t sweeper_wake;
    pthread_mutex_t sweeper_lock;
    bool sweeper_stop;
    pthread_mutex_t graves_lock;
    px_grave *graves;
} px_stack;

typedef struct {
    atomic_uint_fast64_t frames_sent, bytes_sent, frames_received, bytes_received;
    atomic_uint_fast64_t frames_refused, frames_dropped_lost;
    atomic_uint_fast64_t probes_sent, probes_dropped, probes_strayed, nudges_sent;
    atomic_uint_fast64_t frames_oversized, links_refused, links_up, links_lost;
} px_counters;

extern px_stack px_the_stack;
extern px_counters px_count;

#define PX_ADD(counter, n) atomic_fetch_add_explicit(&px_count.counter, (n), memory_order_relaxed)

/* usrsctp_ready.c: the ready queue and the thread that catches what upcalls do not tell. */
int px_ready_start(void);
void px_ready_stop(void);
void px_mark_ready(int slot);
int px_take_ready(void);
void px_settle_ready(void);
void px_upcall(struct socket *so, void *argument, int flags);

/* usrsctp_socket.c: addresses, sockets and their options. */
int px_rail_of(const px_address *address);
void px_from_sockaddr(const struct sockaddr *from, px_address *to);
socklen_t px_to_sockaddr(const px_address *from, uint16_t port, union sctp_sockstore *to);
struct socket *px_make_socket(uint16_t remote_udp_port);
int px_bind(struct socket *so, uint16_t port);
void px_learn_peers(px_link *link);

/* usrsctp_link.c: the table of links. */
px_link *px_claim(struct socket *so);
void px_accept_links(struct socket *listener);
px_link *px_lock(int64_t number);
void px_unlock(px_link *link);
void px_release(px_link *link);
void px_flush_held(px_link *link);
int px_send_now(px_link *link, uint32_t stream, const uint8_t *frame, size_t length);
void px_note_lost(px_link *link, uint32_t reason, const char *detail);

/* usrsctp_end.c: the orderly end of a link, and the end of its socket. */
void px_end_begin(px_link *link);
void px_end_advance(px_link *link);
void px_bury(struct socket *so);
bool px_tend_graves(int grace_ms);
void px_close_graves(void);

#endif
