/* Addresses, sockets and their options. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "usrsctp_internal.h"

/* In the library, not in its public header (RFC 7829, section 7.2). */
#define PX_SCTP_PEER_ADDR_THLDS 0x00000023
struct px_paddrthlds {
    struct sockaddr_storage address;
    sctp_assoc_t assoc_id;
    uint16_t path_max_retrans, pf_threshold, switchover_threshold;
};

enum {
    PX_DIAL_PORTS_FROM = 16384,
    PX_DIAL_CLASSES = 64,
    PX_DIAL_PORTS_A_CLASS = (65536 - PX_DIAL_PORTS_FROM) / PX_DIAL_CLASSES,
    PX_DIAL_TRIES = 32,
    PX_BACKLOG = 64
};

int px_rail_of(const px_address *address)
{
    const px_stack *s = &px_the_stack;

    for (int rail = 0; rail < s->rail_count; rail++) {
        const px_rail *network = &s->rails[rail];
        int whole = network->prefix_bits / 8, rest = network->prefix_bits % 8;

        if (network->family != address->family ||
            memcmp(network->bytes, address->bytes, (size_t)whole) != 0)
            continue;
        if (rest == 0 || ((network->bytes[whole] ^ address->bytes[whole]) >> (8 - rest)) == 0)
            return rail;
    }
    return PX_NO_RAIL;
}

void px_from_sockaddr(const struct sockaddr *from, px_address *to)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    memset(to, 0, sizeof *to);
    if (from->sa_family == AF_INET) {
        to->family = 4;
        memcpy(to->bytes, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
    } else if (from->sa_family == AF_INET6) {
        const uint8_t *bytes =
            ((const struct sockaddr_in6 *)(const void *)from)->sin6_addr.s6_addr;

        if (memcmp(bytes, mapped, sizeof mapped) == 0) {
            to->family = 4;
            memcpy(to->bytes, bytes + sizeof mapped, 4);
        } else {
            to->family = 6;
            memcpy(to->bytes, bytes, 16);
        }
    }
    to->rail = (uint8_t)px_rail_of(to);
}

socklen_t px_to_sockaddr(const px_address *from, uint16_t port, union sctp_sockstore *to)
{
    memset(to, 0, sizeof *to);
    if (from->family == 4) {
        to->sin.sin_family = AF_INET;
        to->sin.sin_port = htons(port);
        memcpy(&to->sin.sin_addr, from->bytes, 4);
        return sizeof to->sin;
    }
    to->sin6.sin6_family = AF_INET6;
    to->sin6.sin6_port = htons(port);
    memcpy(&to->sin6.sin6_addr, from->bytes, 16);
    return sizeof to->sin6;
}

static int set(struct socket *so, int option, const void *value, size_t length)
{
    return usrsctp_setsockopt(so, IPPROTO_SCTP, option, value, (socklen_t)length) ? -errno : 0;
}

static int set_timers(struct socket *so, const px_tuning *t)
{
    struct sctp_rtoinfo rto = {.srto_initial = t->rto_initial_ms,
                               .srto_min = t->rto_min_ms,
                               .srto_max = t->rto_max_ms};
    struct sctp_sack_info sack = {.sack_delay = t->sack_delay_ms, .sack_freq = t->sack_freq};
    struct sctp_assocparams association = {
        .sasoc_asocmaxrxt = (uint16_t)t->association_max_retrans};
    struct sctp_paddrparams path = {.spp_hbinterval = t->heartbeat_ms,
                                    .spp_pathmaxrxt = (uint16_t)t->path_max_retrans,
                                    .spp_flags = SPP_HB_ENABLE};
    /* No switch of the primary path by the stack (0xffff): moving it is the core's decision. */
    struct px_paddrthlds thresholds = {.path_max_retrans = (uint16_t)t->path_max_retrans,
                                       .pf_threshold = (uint16_t)t->pf_threshold,
                                       .switchover_threshold = 0xffff};
    uint16_t streams = (uint16_t)(t->streams + PX_RAILS_MAX);
    struct sctp_initmsg init = {.sinit_num_ostreams = streams,
                                .sinit_max_instreams = streams,
                                .sinit_max_attempts = (uint16_t)t->init_attempts,
                                .sinit_max_init_timeo = (uint16_t)t->init_timeout_ms};
    int failed;

    path.spp_address.ss_family = AF_INET;
    thresholds.address.ss_family = AF_INET;
    if ((failed = set(so, SCTP_RTOINFO, &rto, sizeof rto)) ||
        (failed = set(so, SCTP_DELAYED_SACK, &sack, sizeof sack)) ||
        (failed = set(so, SCTP_ASSOCINFO, &association, sizeof association)) ||
        (failed = set(so, SCTP_PEER_ADDR_PARAMS, &path, sizeof path)) ||
        (failed = set(so, PX_SCTP_PEER_ADDR_THLDS, &thresholds, sizeof thresholds)))
        return failed;
    return set(so, SCTP_INITMSG, &init, sizeof init);
}

static int set_options(struct socket *so, uint16_t remote_udp_port)
{
    static const uint16_t events[] = {SCTP_ASSOC_CHANGE, SCTP_PEER_ADDR_CHANGE,
                                      SCTP_PARTIAL_DELIVERY_EVENT};
    const px_tuning *t = &px_the_stack.tuning;
    struct linger abort_on_close = {.l_onoff = 1, .l_linger = 0};
    int on = 1, off = 0, failed;
    int send_bytes = (int)t->send_buffer_bytes, receive_bytes = (int)t->receive_buffer_bytes;

    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        struct sctp_event event = {
            .se_assoc_id = SCTP_ALL_ASSOC, .se_type = events[i], .se_on = 1};

        if ((failed = set(so, SCTP_EVENT, &event, sizeof event)))
            return failed;
    }
    /* Level 0: a frame that is delivered in parts is not mixed with anything else. */
    if ((failed = set(so, SCTP_FRAGMENT_INTERLEAVE, &off, sizeof off)) ||
        (failed = set(so, SCTP_NODELAY, &on, sizeof on)) ||
        (failed = set(so, SCTP_RECVRCVINFO, &on, sizeof on)) || (failed = set_timers(so, t)))
        return failed;
    if (remote_udp_port != 0) {
        struct sctp_udpencaps encapsulation = {.sue_port = htons(remote_udp_port)};

        encapsulation.sue_address.ss_family = AF_INET;
        failed = set(so, SCTP_REMOTE_UDP_ENCAPS_PORT, &encapsulation, sizeof encapsulation);
        if (failed)
            return failed;
    }
    if (usrsctp_setsockopt(so, SOL_SOCKET, SO_LINGER, &abort_on_close, sizeof abort_on_close) ||
        usrsctp_setsockopt(so, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof send_bytes) ||
        usrsctp_setsockopt(so, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes) ||
        usrsctp_set_non_blocking(so, 1))
        return -errno;
    return 0;
}

/* A one-to-one socket with everything set; NULL with errno. Accepted sockets inherit it all. */
struct socket *px_make_socket(uint16_t remote_udp_port)
{
    struct socket *so = usrsctp_socket(px_the_stack.domain, SOCK_STREAM, IPPROTO_SCTP, NULL,
                                       NULL, 0, NULL);
    int failed;

    if (so == NULL)
        return NULL;
    failed = set_options(so, remote_udp_port);
    if (failed == 0)
        return so;
    usrsctp_close(so);
    errno = -failed;
    return NULL;
}

static int bind_all(struct socket *so, uint16_t port)
{
    const px_stack *s = &px_the_stack;

    for (int i = 0; i < s->local_count; i++) {
        union sctp_sockstore address;

        px_to_sockaddr(&s->locals[i], port, &address);
        if (usrsctp_bindx(so, &address.sa, 1, SCTP_BINDX_ADD_ADDR) != 0)
            return -errno;
    }
    return 0;
}

/* Binds to every local rail address: to `port` and listening, or for 0 to an ephemeral port.
 * Several nodes on one address differ only by their UDP port, which is no part of an
 * association's name: each dials from SCTP ports of its own class, or one node's INIT would
 * look like the restart of another's association. */
int px_bind(struct socket *so, uint16_t port)
{
    const px_stack *s = &px_the_stack;
    int failed;

    if (port != 0) {
        failed = bind_all(so, port);
        return failed ? failed : usrsctp_listen(so, PX_BACKLOG) ? -errno : 0;
    }
    for (int attempt = 0; attempt < PX_DIAL_TRIES; attempt++) {
        uint16_t random;

        if (getrandom(&random, sizeof random, 0) != sizeof random)
            random = (uint16_t)(s->serial + attempt);
        random %= PX_DIAL_PORTS_A_CLASS;
        failed = bind_all(so, (uint16_t)(PX_DIAL_PORTS_FROM + PX_DIAL_CLASSES * random +
                                         s->udp_port % PX_DIAL_CLASSES));
        if (failed != -EADDRINUSE)
            return failed;
    }
    return -EADDRINUSE;
}

/* Asks the stack for the peer's addresses; the primary one comes first. */
void px_learn_peers(px_link *link)
{
    struct sctp_status status;
    socklen_t length = sizeof status;
    struct sockaddr *addresses = NULL;
    int count = usrsctp_getpaddrs(link->so, 0, &addresses);
    const uint8_t *at = (const uint8_t *)addresses;

    link->peer_count = 0;
    for (int i = 0; i < count && link->peer_count < PX_PEERS_MAX; i++) {
        union sctp_sockstore address;

        memcpy(&address.sa, at, sizeof address.sa);
        if (address.sa.sa_family == AF_INET) {
            memcpy(&address.sin, at, sizeof address.sin);
            at += sizeof address.sin;
            link->peer_port = ntohs(address.sin.sin_port);
        } else if (address.sa.sa_family == AF_INET6) {
            memcpy(&address.sin6, at, sizeof address.sin6);
            at += sizeof address.sin6;
            link->peer_port = ntohs(address.sin6.sin6_port);
        } else {
            break;
        }
        px_from_sockaddr(&address.sa, &link->peers[link->peer_count++]);
    }
    if (addresses != NULL)
        usrsctp_freepaddrs(addresses);
    memset(&status, 0, sizeof status);
    if (usrsctp_getsockopt(link->so, IPPROTO_SCTP, SCTP_STATUS, &status, &length) == 0) {
        px_address primary;

        link->out_streams = status.sstat_outstrms;
        px_from_sockaddr((const struct sockaddr *)&status.sstat_primary.spinfo_address, &primary);
        for (int i = 1; i < link->peer_count; i++) {
            if (memcmp(&link->peers[i], &primary, sizeof primary) == 0) {
                px_address first = link->peers[0];

                link->peers[0] = primary;
                link->peers[i] = first;
            }
        }
    }
}
