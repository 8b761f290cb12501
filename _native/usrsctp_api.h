/* What the C side of the user_sctp driver offers to Python. cffi reads this file as it stands:
 * no preprocessor lines, fixed-width types only. All calls come from one thread; none blocks
 * except px_open and px_close, whose time is bounded. Failures are negative errno values. */

typedef struct {
    uint32_t rto_initial_ms, rto_min_ms, rto_max_ms;
    uint32_t sack_delay_ms, sack_freq;
    uint32_t heartbeat_ms;
    uint32_t path_max_retrans, pf_threshold, association_max_retrans;
    uint32_t init_attempts, init_timeout_ms;
    uint32_t send_buffer_bytes, receive_buffer_bytes;
    uint32_t frame_bytes_max;
    uint32_t streams; /* at most 8; probes have further ones, one for each rail */
} px_tuning;

/* An address: family is 4 or 6, bytes are in network order and zero-padded. */
typedef struct {
    uint8_t family;
    uint8_t bytes[16];
    uint8_t rail; /* index into the rails given to px_open, 255 for none */
} px_address;

/* A rail's network, and the tag that its probes carry as payload protocol identifier; the
 * lowest three bits are the stream that the probe is meant for. */
typedef struct {
    uint8_t family, prefix_bits;
    uint8_t bytes[16];
    uint32_t tag;
} px_rail;

/* One thing that happened to a link. `length` bytes of payload stand at `offset`. */
typedef struct {
    int64_t link;
    uint32_t kind;
    uint32_t detail; /* frame: stream; up: accepted; lost: reason; path: state */
    uint32_t offset, length;
} px_record;

typedef struct {
    px_address address;
    uint32_t state; /* as the detail of a path record */
    uint32_t srtt_ms, rto_ms, cwnd_bytes, mtu_bytes;
} px_path;

typedef struct {
    uint64_t frames_sent, bytes_sent, frames_received, bytes_received;
    uint64_t frames_refused, frames_dropped_lost, probes_sent, probes_dropped, probes_strayed;
    uint64_t nudges_sent, frames_oversized, links_refused, links_up, links_lost;
    uint64_t packets_sent, packets_received, retransmitted, checksum_errors, out_of_the_blue;
} px_stats;

/* Starts the stack and listens. `stage` says what failed: 1 the stack's own UDP socket,
 * 2 the SCTP socket or its options, 3 binding the SCTP port, 4 threads or memory. */
int px_open(const px_tuning *tuning, const px_rail *rails, int rail_count,
            const px_address *locals, int local_count, uint16_t port, uint16_t udp_port,
            int *stage);
/* Aborts every link and stops the stack; 1 if the stack would not stop within its bound, as it
 * may for ever when it has lost count of a socket's users (usrsctp_end.c, ASOCKILL). The process
 * then keeps the UDP port, and only that port can be opened again. */
int px_close(void);
/* The UDP port that a stack keeps which would not stop, else 0. */
uint16_t px_kept_port(void);
/* In a child process after fork: lets go of the parent's descriptors, touches nothing else. */
void px_forget(void);

int px_fileno(void);
/* Makes the descriptor readable, for what the caller itself has to report by its next poll. */
void px_wake(void);
/* Fills records and their payloads; sets *used to the bytes of buffer in use. */
int px_poll(uint8_t *buffer, size_t capacity, px_record *records, int records_max, size_t *used);

int64_t px_connect(const px_address *peers, int count, uint16_t port, uint16_t udp_port);
/* 1 taken (or swallowed: the link is gone), 0 no room. */
int px_transmit(int64_t link, uint32_t stream, const uint8_t *frame, size_t length);
/* The same for `count` frames that stand behind each other; returns how many were taken. */
int px_transmit_many(int64_t link, uint32_t stream, const uint8_t *frames,
                     const uint32_t *lengths, int count);
int px_probe(int64_t link, uint32_t stream, int rail, const uint8_t *frame, size_t length);
int px_set_primary(int64_t link, int rail);
int px_disconnect(int64_t link, int hard);
int px_paths(int64_t link, px_path *paths, int paths_max);
void px_get_stats(px_stats *stats);
