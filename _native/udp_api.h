/* Datagrams of one socket, many with one system call; read by the compiler and by cffi.
 *
 * A frame is one packet, or is cut into pieces of one packet each and put together again here;
 * docs/wire.md has the layout of a piece. Peers are known by the bytes of their `sockaddr`, as the
 * kernel gives them. Several sockets, one for each network, may share all of this. None of the calls
 * waits, and none may be made by two threads at once. */

typedef struct phx_udp phx_udp;

/* NULL without memory. `slots` datagrams are received at once; a packet carries at most
 * `packet_bytes`, and a frame has at most `frame_bytes_max`, which is at most 63 pieces. */
phx_udp *phx_udp_new(int slots, int packet_bytes, int frame_bytes_max);
void phx_udp_free(phx_udp *udp);

enum {
    PHX_UDP_GROUP = -1, /* for `node`: a multicast group, from which nothing comes */
    PHX_UDP_OWN = -2    /* an address of our own: what comes from there was sent here */
};

/* The number of an address, from 0 in the order of the calls; -1 without memory, or if `length` is
 * no length of an address. It counts on the sockets of one rail; `node` is who sends from there, 0
 * or more. A node has one address on a rail: another one takes its place, and its number; from one
 * of length 0 nothing comes. */
int phx_udp_learn(phx_udp *udp, int rail, int32_t node, const uint8_t *address, int length);

enum { PHX_UDP_MORE = 0x10000 };

/* Read sockets, each of them as far as `most` datagrams, and all of them together as far as there are
 * slots; `sources` has for each its rail and its descriptor, and there is one at least and no more
 * than there are slots.
 * How many things have arrived: frames, and what is dropped; with PHX_UDP_MORE, if there may be more,
 * or anything else is to be told of a socket. A datagram of which the kernel says that it is several
 * counts once in `most`. */
int phx_udp_receive(phx_udp *udp, const int32_t *sources, int count, int most);

/* For each thing that has arrived: who sent it, or what is wrong with it: -1 its sender is a
 * stranger, -2 its size, -3 it is a piece of nothing, -4 pieces of a frame that never became whole
 * made room for others, -5 it was sent here; then where in `phx_udp_memory` the frame begins, its
 * length, its session and number, 0 if it has none, and its rail. They stand there until the next
 * call of `phx_udp_receive`. */
const int64_t *phx_udp_arrived(const phx_udp *udp);
uint8_t *phx_udp_memory(phx_udp *udp);
size_t phx_udp_memory_bytes(const phx_udp *udp);

/* For each socket that was read last: how many datagrams were read; how many the kernel has had no room
 * for since it was made, if it has said so now (SO_RXQ_OVFL), or 0; and an errno, or 0. */
const int64_t *phx_udp_told(const phx_udp *udp);

/* Frames with a session of which some pieces have come, at most `most`; returns how many. For each:
 * who sent it, its session, its number, and a bit for each piece that is missing. */
int phx_udp_incomplete(const phx_udp *udp, int64_t *entries, int most);

/* Frames that are cut are numbered from here; from where a process before did not. */
void phx_udp_number_from(phx_udp *udp, uint32_t id);

/* Send one frame to each of these addresses, all of them different. Returns how many were sent it as a
 * whole; `errors` has for each 0 or the errno. */
int phx_udp_send(phx_udp *udp, int fd, const int32_t *peers, int count, const uint8_t *frame,
                 size_t length, int32_t *errors);

/* The same for a frame that its sender numbers, within a session (1 to 65,535). Those of its pieces
 * are sent whose bits are set in `wanted`; its highest bit stands for the parities of the frame, from
 * each of which one piece follows that is lost. */
int phx_udp_send_numbered(phx_udp *udp, int fd, const int32_t *peers, int count, int session,
                          uint32_t number, uint64_t wanted, const uint8_t *frame, size_t length,
                          int32_t *errors);
