/* sendmmsg: one system call, and one crossing from Python, for all peers of a frame.
 *
 * What does not fit into one packet is cut into pieces, and the kernel is given all of a frame as one
 * (UDP_SEGMENT, Linux 4.18). */

#include "udp_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

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

typedef union {
    uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
    struct cmsghdr header;
} segment;

/* Have the kernel make packets of a message. */
static void make_packets(phx_udp *udp, int place, segment *control)
{
    const uint16_t step = (uint16_t)udp->packet_bytes;

    memset(control, 0, sizeof *control);
    udp->outgoing[place].msg_hdr.msg_control = control;
    udp->outgoing[place].msg_hdr.msg_controllen = sizeof control->bytes;
    control->header.cmsg_level = IPPROTO_UDP;
    control->header.cmsg_type = UDP_SEGMENT;
    control->header.cmsg_len = CMSG_LEN(sizeof step);
    memcpy(CMSG_DATA(&control->header), &step, sizeof step);
}

/* Send the first messages in `outgoing`; 0, or the errno of the first that was not sent. */
static int32_t send_first(phx_udp *udp, int fd, int count)
{
    int32_t errors[PACKETS_MAX];

    if (send_all(udp, fd, count, errors) < count)
        for (int i = 0; i < count; i++)
            if (errors[i] != 0)
                return errors[i];
    return 0;
}

/* Send the packets of a frame and its parities to one peer; 0, or the errno of the first that was
 * not sent. */
static int32_t send_cut(phx_udp *udp, int fd, peer *to, const struct iovec parts[2])
{
    struct iovec places[PACKETS_MAX];
    int count = 0;

    if (!to->separately && parts[0].iov_len + parts[1].iov_len > udp->packet_bytes) {
        segment controls[2];

        for (int i = 0; i < 2; i++) {
            if (parts[i].iov_len == 0)
                continue;
            places[count] = parts[i];
            address(udp, count, to, &places[count]);
            if (parts[i].iov_len > udp->packet_bytes)
                make_packets(udp, count, &controls[count]);
            count++;
        }
        const int32_t failed = send_first(udp, fd, count);
        /* An old kernel takes no such message, and a device or a narrow path not such a packet. */
        if (failed != EINVAL && failed != EIO && failed != EMSGSIZE && failed != EOPNOTSUPP)
            return failed;
        to->separately = true;
        count = 0;
    }
    for (int i = 0; i < 2; i++) {
        uint8_t *packet = parts[i].iov_base;
        for (size_t left = parts[i].iov_len; left > 0; count++) {
            const size_t size = left < udp->packet_bytes ? left : udp->packet_bytes;
            places[count] = (struct iovec){.iov_base = packet, .iov_len = size};
            address(udp, count, to, &places[count]);
            packet += size;
            left -= size;
        }
    }
    return send_first(udp, fd, count);
}

/* Send a frame in pieces, those that are wanted of them. */
static int send_pieces(phx_udp *udp, int fd, const int32_t *peers, int count, uint16_t session,
                       uint32_t id, uint64_t wanted, const uint8_t *frame, size_t length,
                       int32_t *errors)
{
    const size_t size = udp->packet_bytes;
    struct iovec parts[2] = {{.iov_base = udp->cut}, {.iov_base = udp->parities}};
    int sent = 0;

    parts[0].iov_len = phx_pieces_cut(udp->cut, size, session, id, wanted, frame, length);
    if (wanted >> PHX_PIECES_MAX & 1)
        parts[1].iov_len =
            phx_pieces_parities(udp->parities, size, session, id, frame, length);
    const bool nothing = parts[0].iov_len + parts[1].iov_len == 0;
    for (int i = 0; i < count; i++) {
        errors[i] = nothing ? EINVAL : send_cut(udp, fd, &udp->known[peers[i]], parts);
        sent += errors[i] == 0;
    }
    return sent;
}

static int too_long(int count, int32_t *errors)
{
    for (int i = 0; i < count; i++)
        errors[i] = EMSGSIZE;
    return 0;
}

int phx_udp_send(phx_udp *udp, int fd, const int32_t *peers, int count, const uint8_t *frame,
                 size_t length, int32_t *errors)
{
    if (length > udp->frame_bytes_max)
        return too_long(count, errors);
    if (length > udp->packet_bytes)
        return send_pieces(udp, fd, peers, count, 0, udp->next_id++, PHX_ALL_PIECES, frame,
                           length, errors);
    /* The kernel reads what it sends, whatever the type says. */
    struct iovec place = {.iov_base = (void *)(uintptr_t)frame, .iov_len = length};
    for (int i = 0; i < count; i++)
        address(udp, i, &udp->known[peers[i]], &place);
    return send_all(udp, fd, count, errors);
}

int phx_udp_send_numbered(phx_udp *udp, int fd, const int32_t *peers, int count, int session,
                          uint32_t number, uint64_t wanted, const uint8_t *frame, size_t length,
                          int32_t *errors)
{
    if (length > udp->frame_bytes_max)
        return too_long(count, errors);
    return send_pieces(udp, fd, peers, count, (uint16_t)session, number, wanted, frame, length,
                       errors);
}
