/* recvmmsg and sendmmsg: one system call, and one crossing from Python, for all that is there. */

#include "udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

typedef struct {
    struct sockaddr_storage address;
    socklen_t length;
} peer;

struct phx_udp {
    int slots;
    int slot_bytes;
    uint8_t *memory;
    int32_t *arrived;
    struct mmsghdr *incoming;
    struct iovec *places;
    struct sockaddr_storage *sources;
    int peers;
    peer *known;
    struct mmsghdr *outgoing;
};

phx_udp *phx_udp_new(int slots, int slot_bytes)
{
    phx_udp *udp = calloc(1, sizeof *udp);
    if (udp == NULL)
        return NULL;
    const size_t n = (size_t)slots;
    udp->slots = slots;
    udp->slot_bytes = slot_bytes;
    udp->memory = calloc(n, (size_t)slot_bytes);
    udp->arrived = calloc(2 * n, sizeof *udp->arrived);
    udp->incoming = calloc(n, sizeof *udp->incoming);
    udp->places = calloc(n, sizeof *udp->places);
    udp->sources = calloc(n, sizeof *udp->sources);
    if (udp->memory == NULL || udp->arrived == NULL || udp->incoming == NULL ||
        udp->places == NULL || udp->sources == NULL) {
        phx_udp_free(udp);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        udp->places[i].iov_base = udp->memory + i * (size_t)slot_bytes;
        udp->places[i].iov_len = (size_t)slot_bytes;
        udp->incoming[i].msg_hdr.msg_iov = &udp->places[i];
        udp->incoming[i].msg_hdr.msg_iovlen = 1;
        udp->incoming[i].msg_hdr.msg_name = &udp->sources[i];
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
    free(udp->known);
    free(udp->outgoing);
    free(udp);
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
    struct mmsghdr *outgoing = realloc(udp->outgoing, n * sizeof *outgoing);
    if (outgoing == NULL)
        return -1;
    udp->outgoing = outgoing;
    memset(&known[udp->peers], 0, sizeof *known);
    memcpy(&known[udp->peers].address, address, (size_t)length);
    known[udp->peers].length = (socklen_t)length;
    return udp->peers++;
}

static int32_t peer_at(const phx_udp *udp, const struct sockaddr_storage *source, socklen_t length)
{
    for (int32_t i = 0; i < udp->peers; i++)
        if (udp->known[i].length == length && memcmp(&udp->known[i].address, source, length) == 0)
            return i;
    return -1;
}

int phx_udp_receive(phx_udp *udp, int fd, int most)
{
    const int asked = most < udp->slots ? most : udp->slots;
    for (int i = 0; i < asked; i++)
        udp->incoming[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_storage);
    int count = recvmmsg(fd, udp->incoming, (unsigned)asked, MSG_DONTWAIT, NULL);
    if (count < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        const struct mmsghdr *message = &udp->incoming[i];
        udp->arrived[2 * i] = peer_at(udp, &udp->sources[i], message->msg_hdr.msg_namelen);
        udp->arrived[2 * i + 1] = (int32_t)message->msg_len;
    }
    return count;
}

const int32_t *phx_udp_arrived(const phx_udp *udp)
{
    return udp->arrived;
}

uint8_t *phx_udp_slots(phx_udp *udp)
{
    return udp->memory;
}

int phx_udp_send(phx_udp *udp, int fd, const int32_t *peers, int count, const uint8_t *frame,
                 size_t length, int32_t *errors)
{
    /* The kernel reads what it sends, whatever the type says. */
    struct iovec place = {.iov_base = (void *)(uintptr_t)frame, .iov_len = length};
    for (int i = 0; i < count; i++) {
        peer *to = &udp->known[peers[i]];
        memset(&udp->outgoing[i], 0, sizeof udp->outgoing[i]);
        udp->outgoing[i].msg_hdr.msg_iov = &place;
        udp->outgoing[i].msg_hdr.msg_iovlen = 1;
        udp->outgoing[i].msg_hdr.msg_name = &to->address;
        udp->outgoing[i].msg_hdr.msg_namelen = to->length;
        errors[i] = 0;
    }
    int sent = 0;
    for (int i = 0; i < count;) {
        /* It stops at the first that cannot be sent, and says why only if that is the first. */
        int done = sendmmsg(fd, udp->outgoing + i, (unsigned)(count - i), MSG_DONTWAIT);
        if (done > 0) {
            sent += done;
            i += done;
        } else {
            errors[i] = errno;
            i++;
        }
    }
    return sent;
}
