/* The one stack of the process: starting, its UDP sockets, stopping, counters. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "usrsctp_internal.h"

enum {
    PX_FINISH_TRIES = 200,
    PX_FINISH_PAUSE_MS = 5,
    PX_SILENCE_TRIES = 500,
    PX_SILENCE_PAUSE_US = 200,
    PX_UDP_BUFFER_BYTES = 4 << 20,
    PX_FRAMES_BUFFERED = 4
};

px_stack px_the_stack = {
    .event_fd = -1, .udp_fds = {-1, -1}, .graves_lock = PTHREAD_MUTEX_INITIALIZER};
px_counters px_count;

typedef struct __user_cap_data_struct px_capabilities[2];

static long capabilities(long call, px_capabilities data)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};

    return syscall(call, &header, data);
}

/* With CAP_NET_RAW the stack would open raw SCTP sockets too, see the packets of the host's
 * other SCTP users, and abort their associations as out of the blue. So this thread does
 * without while the stack starts (capabilities belong to threads). */
static void start_without_raw_sockets(uint16_t udp_port)
{
    px_capabilities before, without;
    bool dropped = false;

    if (capabilities(SYS_capget, before) == 0) {
        memcpy(without, before, sizeof before);
        without[CAP_TO_INDEX(CAP_NET_RAW)].effective &= ~CAP_TO_MASK(CAP_NET_RAW);
        dropped = capabilities(SYS_capset, without) == 0;
    }
    usrsctp_init(udp_port, NULL, NULL);
    if (dropped)
        capabilities(SYS_capset, before);
}

static bool is_udp_on(int fd, uint16_t port)
{
    union {
        struct sockaddr sa;
        struct sockaddr_in sin;
        struct sockaddr_in6 sin6;
    } address;
    socklen_t length = sizeof address;
    int type = 0;
    socklen_t type_length = sizeof type;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) != 0 || type != SOCK_DGRAM ||
        getsockname(fd, &address.sa, &length) != 0)
        return false;
    if (address.sa.sa_family == AF_INET)
        return ntohs(address.sin.sin_port) == port;
    return address.sa.sa_family == AF_INET6 && ntohs(address.sin6.sin6_port) == port;
}

/* The stack says nothing when it cannot bind its UDP port. So its sockets are looked for among
 * the descriptors of the process; found, they are kept from child programs, and get buffers
 * that take a burst of a whole window. */
static int adopt_udp_sockets(px_stack *s)
{
    DIR *descriptors = opendir("/proc/self/fd");
    struct dirent *entry;
    int found = 0, bytes = PX_UDP_BUFFER_BYTES;

    if (descriptors == NULL)
        return -errno;
    while ((entry = readdir(descriptors)) != NULL && found < PX_UDP_SOCKETS) {
        int fd = atoi(entry->d_name);

        if (entry->d_name[0] == '.' || !is_udp_on(fd, s->udp_port))
            continue;
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
        if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0)
            setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        s->udp_fds[found++] = fd;
    }
    closedir(descriptors);
    return found > 0 ? 0 : -EADDRINUSE;
}

static void set_globals(const px_tuning *t)
{
    usrsctp_sysctl_set_sctp_ecn_enable(0);
    /* Addresses are fixed for an association's life: no ASCONF, hence no AUTH. */
    usrsctp_sysctl_set_sctp_asconf_enable(0);
    usrsctp_sysctl_set_sctp_auth_enable(0);
    usrsctp_sysctl_set_sctp_auto_asconf(0);
    usrsctp_sysctl_set_sctp_reconfig_enable(0);
    usrsctp_sysctl_set_sctp_pktdrop_enable(0);
    usrsctp_sysctl_set_sctp_nrsack_enable(0);
    /* The default scheduler never returns when all that waits is bound for other paths, as a
     * probe is. This one does, and lets small frames pass between the parts of large ones. */
    usrsctp_sysctl_set_sctp_default_ss_module(SCTP_SS_FAIR_BANDWITH);
    usrsctp_sysctl_set_sctp_sendspace(t->send_buffer_bytes);
    usrsctp_sysctl_set_sctp_recvspace(t->receive_buffer_bytes);
    usrsctp_sysctl_set_sctp_max_chunks_on_queue(PX_CHUNKS_QUEUED_MAX);
    /* The default, five times the largest timeout, would abort a slow but orderly shutdown. */
    usrsctp_sysctl_set_sctp_shutdown_guard_time_default(PX_SHUTDOWN_GUARD_S);
}

static bool stop_stack(px_stack *s)
{
    struct timespec pause = {.tv_nsec = PX_FINISH_PAUSE_MS * 1000000L};

    for (int attempt = 0; attempt < PX_FINISH_TRIES; attempt++) {
        if (usrsctp_finish() == 0) {
            s->stack_running = false;
            s->udp_fds[0] = s->udp_fds[1] = -1;
            return true;
        }
        nanosleep(&pause, NULL);
    }
    return false;
}

/* Whether a thread of this process is asleep in recvmsg on this descriptor. */
static bool is_received_from(int fd)
{
    DIR *threads = opendir("/proc/self/task");
    struct dirent *entry;
    bool found = false;

    while (threads != NULL && !found && (entry = readdir(threads)) != NULL) {
        char path[sizeof "/proc/self/task//syscall" + sizeof entry->d_name];
        long call;
        unsigned long first;
        FILE *file;

        snprintf(path, sizeof path, "/proc/self/task/%s/syscall", entry->d_name);
        if (entry->d_name[0] == '.' || (file = fopen(path, "re")) == NULL)
            continue;
        found = fscanf(file, "%ld %lx", &call, &first) == 2 && call == SYS_recvmsg &&
                first == (unsigned long)fd;
        fclose(file);
    }
    if (threads != NULL)
        closedir(threads);
    return found;
}

/* No packet is taken from now on, and none is under way when this returns: the receiving
 * threads, of which the stack gives no handle, have all been seen asleep. Where the kernel does
 * not show what a thread does, they have had the time of the bound. */
static void silence_receivers(const px_stack *s)
{
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog filter = {.len = 1, .filter = &nothing};
    struct timespec pause = {.tv_nsec = PX_SILENCE_PAUSE_US * 1000L};

    for (int i = 0; i < PX_UDP_SOCKETS; i++) {
        if (s->udp_fds[i] >= 0)
            setsockopt(s->udp_fds[i], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
    }
    for (int i = 0; i < PX_UDP_SOCKETS; i++) {
        for (int attempt = 0; s->udp_fds[i] >= 0 && attempt < PX_SILENCE_TRIES &&
                              !is_received_from(s->udp_fds[i]);
             attempt++)
            nanosleep(&pause, NULL);
    }
}

/* Undoes it for a stack that could not be stopped and goes on. */
static void hear_again(const px_stack *s)
{
    int unused = 0;

    for (int i = 0; i < PX_UDP_SOCKETS; i++) {
        if (s->udp_fds[i] >= 0)
            setsockopt(s->udp_fds[i], SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
    }
}

static int listen_on_rails(px_stack *s, int *stage)
{
    int failed;

    *stage = 2;
    s->listener = px_make_socket(0);
    if (s->listener == NULL)
        return -errno;
    *stage = 3;
    usrsctp_set_upcall(s->listener, px_upcall, NULL); /* before anything can come */
    failed = px_bind(s->listener, s->port);
    if (failed == 0)
        return 0;
    usrsctp_close(s->listener);
    s->listener = NULL;
    return failed;
}

static int start(px_stack *s, int *stage)
{
    int failed = 0;

    *stage = 1;
    if (!s->stack_running) {
        start_without_raw_sockets(s->udp_port);
        s->stack_running = true;
        s->stack_udp_port = s->udp_port;
        failed = adopt_udp_sockets(s);
        if (failed != 0) {
            stop_stack(s);
            return failed;
        }
    } else if (s->stack_udp_port != s->udp_port) {
        return -EBUSY;
    } else {
        hear_again(s);
    }
    set_globals(&s->tuning);
    *stage = 4;
    failed = px_ready_start();
    if (failed != 0) {
        stop_stack(s);
        return failed;
    }
    failed = listen_on_rails(s, stage);
    if (failed != 0) {
        px_ready_stop();
        close(s->event_fd);
        s->event_fd = -1;
        stop_stack(s);
    }
    return failed;
}

int px_open(const px_tuning *tuning, const px_rail *rails, int rail_count,
            const px_address *locals, int local_count, uint16_t port, uint16_t udp_port,
            int *stage)
{
    static bool locks_made;
    px_stack *s = &px_the_stack;
    int failed;

    *stage = 0;
    if (s->pid != 0)
        return -EALREADY;
    if (rail_count < 1 || rail_count > PX_RAILS_MAX || local_count < 1 ||
        local_count > PX_RAILS_MAX)
        return -EINVAL;
    for (int slot = 0; !locks_made && slot < PX_SLOTS; slot++)
        pthread_mutex_init(&s->links[slot].lock, NULL);
    locks_made = true;
    s->tuning = *tuning;
    /* The stack delivers a frame in parts once it fills half the buffer. It frees one that was
     * read to its end twice if the association ends meanwhile (usrsctp 0.9.5, sctp_free_assoc and
     * sctp_clean_up_stream), so no allowed frame may be that large. */
    if (s->tuning.receive_buffer_bytes < PX_FRAMES_BUFFERED * tuning->frame_bytes_max)
        s->tuning.receive_buffer_bytes = PX_FRAMES_BUFFERED * tuning->frame_bytes_max;
    s->rail_count = rail_count;
    memcpy(s->rails, rails, (size_t)rail_count * sizeof rails[0]);
    s->local_count = local_count;
    s->domain = AF_INET;
    for (int i = 0; i < local_count; i++) {
        s->locals[i] = locals[i];
        if (locals[i].family == 6)
            s->domain = AF_INET6;
    }
    s->port = port;
    s->udp_port = udp_port;
    memset(&px_count, 0, sizeof px_count);
    failed = start(s, stage);
    if (failed == 0)
        s->pid = getpid();
    return failed;
}

/* Aborts and closes every link. The sweeper must have stopped. */
static void release_all(px_stack *s)
{
    for (int slot = 0; slot < PX_SLOTS; slot++) {
        px_link *link = &s->links[slot];

        pthread_mutex_lock(&link->lock);
        atomic_store(&link->ready, false);
        if (link->number != 0)
            px_release(link);
        else
            px_unlock(link);
    }
    px_close_graves();
}

int px_close(void)
{
    px_stack *s = &px_the_stack;

    if (s->pid == 0)
        return 0;
    s->pid = 0;
    px_ready_stop();
    usrsctp_listen(s->listener, 0);
    release_all(s);
    /* A receiving thread that is just setting up a newcomer keeps a pointer to the listener
     * (sctp_common_input_processing): it has to come to the end of its packet before that goes. */
    silence_receivers(s);
    release_all(s);
    usrsctp_close(s->listener);
    s->listener = NULL;
    if (!stop_stack(s)) {
        /* The event descriptor stays open: an upcall may still be under way. */
        return 1;
    }
    close(s->event_fd);
    s->event_fd = -1;
    return 0;
}

uint16_t px_kept_port(void)
{
    const px_stack *s = &px_the_stack;

    return s->pid == 0 && s->stack_running ? s->stack_udp_port : 0;
}

void px_forget(void)
{
    px_stack *s = &px_the_stack;

    for (int i = 0; i < PX_UDP_SOCKETS; i++) {
        if (s->udp_fds[i] >= 0)
            close(s->udp_fds[i]);
        s->udp_fds[i] = -1;
    }
    if (s->event_fd >= 0)
        close(s->event_fd);
    s->event_fd = -1;
}

int px_fileno(void)
{
    return px_the_stack.event_fd;
}

void px_get_stats(px_stats *stats)
{
    struct sctpstat stack;

    memset(&stack, 0, sizeof stack);
    if (px_the_stack.stack_running)
        usrsctp_get_stat(&stack);
    *stats = (px_stats){.frames_sent = px_count.frames_sent,
                        .bytes_sent = px_count.bytes_sent,
                        .frames_received = px_count.frames_received,
                        .bytes_received = px_count.bytes_received,
                        .frames_refused = px_count.frames_refused,
                        .frames_dropped_lost = px_count.frames_dropped_lost,
                        .probes_sent = px_count.probes_sent,
                        .probes_dropped = px_count.probes_dropped,
                        .probes_strayed = px_count.probes_strayed,
                        .nudges_sent = px_count.nudges_sent,
                        .frames_oversized = px_count.frames_oversized,
                        .links_refused = px_count.links_refused,
                        .links_up = px_count.links_up,
                        .links_lost = px_count.links_lost,
                        .packets_sent = stack.sctps_sendpackets,
                        .packets_received = stack.sctps_recvpackets,
                        .retransmitted = stack.sctps_sendretransdata,
                        .checksum_errors = stack.sctps_checksumerrors,
                        .out_of_the_blue = stack.sctps_outoftheblue};
}
