/* Which links have something for Python: a queue of slots behind one eventfd.
 *
 * Upcalls run on the stack's threads. They accept a newcomer, and otherwise only put a slot here;
 * px_poll reads the sockets. So a reader that does not poll leaves data in the socket, SCTP's own
 * window closes, and memory stays bounded without a queue of ours.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "usrsctp_internal.h"

enum { PX_SWEEP_MS = 25, PX_GRACE_MS = 250 };

/* The caller holds ready_lock. */
static void signal_ready(px_stack *s)
{
    uint64_t one = 1;

    if (s->signalled)
        return;
    s->signalled = true;
    while (write(s->event_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void px_mark_ready(int slot)
{
    px_stack *s = &px_the_stack;

    if (atomic_exchange(&s->links[slot].ready, true))
        return;
    pthread_mutex_lock(&s->ready_lock);
    s->ready[(s->ready_head + s->ready_count) % PX_SLOTS] = (uint16_t)slot;
    s->ready_count++;
    signal_ready(s);
    pthread_mutex_unlock(&s->ready_lock);
}

void px_wake(void)
{
    px_stack *s = &px_the_stack;

    pthread_mutex_lock(&s->ready_lock);
    signal_ready(s);
    pthread_mutex_unlock(&s->ready_lock);
}

/* The next slot that has something, or -1. Its mark is gone before the caller reads, so
 * whatever happens from now on marks it again. */
int px_take_ready(void)
{
    px_stack *s = &px_the_stack;
    int slot = -1;

    pthread_mutex_lock(&s->ready_lock);
    if (s->ready_count > 0) {
        slot = s->ready[s->ready_head];
        s->ready_head = (s->ready_head + 1) % PX_SLOTS;
        s->ready_count--;
        atomic_store(&s->links[slot].ready, false);
    }
    pthread_mutex_unlock(&s->ready_lock);
    return slot;
}

/* Leaves the descriptor readable exactly if the queue is not empty. */
void px_settle_ready(void)
{
    px_stack *s = &px_the_stack;
    uint64_t ignored;

    pthread_mutex_lock(&s->ready_lock);
    if (s->ready_count == 0 && s->signalled) {
        while (read(s->event_fd, &ignored, sizeof ignored) < 0 && errno == EINTR)
            ;
        s->signalled = false;
    }
    pthread_mutex_unlock(&s->ready_lock);
}

/* Looks at one link; the caller holds its lock. */
static void look(px_link *link)
{
    int events = usrsctp_get_events(link->so);
    bool report = (events & (SCTP_EVENT_READ | SCTP_EVENT_ERROR)) != 0;

    if (link->held_length > 0 && (events & SCTP_EVENT_WRITE))
        px_flush_held(link);
    if (link->shutdown_owed)
        px_end_advance(link);
    if (link->blocked && link->held_length == 0)
        report = true;
    if (report)
        px_mark_ready((int)(link - px_the_stack.links));
}

/* The stack calls this, without any lock of its own, after each packet for a socket. The
 * argument is a link's number (0 for the listener), never a pointer: the link may be gone. */
void px_upcall(struct socket *so, void *argument, int flags)
{
    px_link *link;

    (void)flags;
    if (argument == NULL) {
        px_accept_links(so);
        return;
    }
    link = px_lock((int64_t)(intptr_t)argument);
    if (link == NULL)
        return;
    if (link->so != NULL)
        look(link);
    px_unlock(link);
}

/* The stack makes no upcall for what its timers find out (a path that went down, room that an
 * abandoned probe left). This thread looks instead. */
static void *sweep(void *unused)
{
    px_stack *s = &px_the_stack;
    struct timespec until;

    (void)unused;
    pthread_mutex_lock(&s->sweeper_lock);
    while (!s->sweeper_stop) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += PX_SWEEP_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&s->sweeper_wake, &s->sweeper_lock, &until);
        if (s->sweeper_stop)
            break;
        pthread_mutex_unlock(&s->sweeper_lock);
        for (int slot = 0; slot < PX_SLOTS; slot++) {
            px_link *link = &s->links[slot];

            pthread_mutex_lock(&link->lock);
            if (link->number != 0 && link->so != NULL) {
                if (!atomic_load(&link->ready))
                    look(link);
                else if (link->shutdown_owed)
                    px_end_advance(link); /* an end waits for the peer, not for a poll here */
            }
            pthread_mutex_unlock(&link->lock);
        }
        px_tend_graves(PX_GRACE_MS);
        pthread_mutex_lock(&s->sweeper_lock);
    }
    pthread_mutex_unlock(&s->sweeper_lock);
    return NULL;
}

int px_ready_start(void)
{
    px_stack *s = &px_the_stack;
    pthread_condattr_t attributes;
    int failed;

    s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->event_fd < 0)
        return -errno;
    s->ready_head = s->ready_count = 0;
    s->signalled = false;
    s->sweeper_stop = false;
    pthread_mutex_init(&s->ready_lock, NULL);
    pthread_mutex_init(&s->sweeper_lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->sweeper_wake, &attributes);
    pthread_condattr_destroy(&attributes);
    failed = pthread_create(&s->sweeper, NULL, sweep, NULL);
    if (failed != 0) {
        close(s->event_fd);
        s->event_fd = -1;
        return -failed;
    }
    return 0;
}

void px_ready_stop(void)
{
    px_stack *s = &px_the_stack;

    pthread_mutex_lock(&s->sweeper_lock);
    s->sweeper_stop = true;
    pthread_cond_signal(&s->sweeper_wake);
    pthread_mutex_unlock(&s->sweeper_lock);
    pthread_join(s->sweeper, NULL);
}
