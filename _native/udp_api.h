/* Datagrams of one socket, many with one system call; read by the compiler and by cffi.
 *
 * Peers are known by the bytes of their `sockaddr`, as the kernel gives them. None of the calls
 * waits, and none may be made by two threads at once. */

typedef struct phx_udp phx_udp;

/* NULL without memory. `slots` datagrams of at most `slot_bytes` are received at once. */
phx_udp *phx_udp_new(int slots, int slot_bytes);
void phx_udp_free(phx_udp *udp);

/* The number of a peer, from 0 in the order of the calls; -1 without memory, or if `length` is no
 * length of an address. */
int phx_udp_learn(phx_udp *udp, const uint8_t *address, int length);

/* How many were received, at most `most`; 0 if nothing is there, else a negative errno. */
int phx_udp_receive(phx_udp *udp, int fd, int most);

/* For each received: the number of its peer or -1, and its length. What is longer than a slot has
 * been cut to it. */
const int32_t *phx_udp_arrived(const phx_udp *udp);

/* The first slot; the others follow, each `slot_bytes` after the one before. */
uint8_t *phx_udp_slots(phx_udp *udp);

/* Send one frame to each of these peers, all of them different. Returns how many were sent;
 * `errors` has for each 0 or the errno. */
int phx_udp_send(phx_udp *udp, int fd, const int32_t *peers, int count, const uint8_t *frame,
                 size_t length, int32_t *errors);
