/* What Python sees of codec.c. cffi parses this text, and codec.h includes it, so that the
 * prototypes are written once. No preprocessor conditions here: cffi's parser has none.
 *
 * All functions are pure, take no lock and keep no pointer: any thread may call them. */

/* The wire version spoken here, and the oldest one still read. */
#define PHX_WIRE_VERSION 1
#define PHX_WIRE_VERSION_OLDEST 1

/* Outcomes of phx_frame_check, in the order in which they are checked. */
enum phx_frame_outcome {
    PHX_FRAME_OK = 0,
    PHX_FRAME_TOO_SHORT = 1,
    PHX_FRAME_BAD_MAGIC = 2,
    PHX_FRAME_BAD_VERSION = 3,
    PHX_FRAME_BAD_HEADER = 4,
    PHX_FRAME_BAD_LENGTH = 5,
    PHX_FRAME_BAD_CRC = 6
};

/* CRC32C (Castagnoli, RFC 9260 appendix A) of n bytes, continued from `value` (0 to begin). */
uint32_t phx_crc32c(uint32_t value, const uint8_t *data, size_t n);

/* The same without the processor's instruction; what phx_crc32c does where there is none. */
uint32_t phx_crc32c_table(uint32_t value, const uint8_t *data, size_t n);

/* 1 if phx_crc32c uses the processor's instruction, else 0. */
int phx_crc32c_is_hardware(void);

/* The crc field of a frame: `start` is the header's first 36 bytes, the length of the body comes
 * next, and what follows the crc in the header is zero. The body are the n bytes of `head` and the
 * m bytes of `rest`. */
uint32_t phx_frame_crc(const uint8_t *start, const uint8_t *head, size_t n, const uint8_t *rest,
                       size_t m);

/* Whether n bytes are one whole, intact frame that this version reads. */
int phx_frame_check(const uint8_t *frame, size_t n);

/* How many messages the batch has that fills data[offset..n) exactly; -1 if it is malformed. */
int64_t phx_batch_count(const uint8_t *data, size_t n, size_t offset);
