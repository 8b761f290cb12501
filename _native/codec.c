/* The byte work on whole frames and whole batches; docs/wire.md has the layouts.
 *
 * Only what costs something per byte or per message is here. Python makes the objects: one call
 * into C for each message would cost more than the message's whole work in Python. */

#include "codec.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

enum {
    HEADER_BYTES = 64,
    MAGIC = 0x4850,

    AT_MAGIC = 0,
    AT_VERSION = 2,
    AT_VERSION_MIN = 3,
    AT_HEADER_BYTES = 6,
    AT_KEY_ID = 32,
    AT_BODY_BYTES = 36,
    AT_CRC = 40,
    AT_AFTER_CRC = 44, /* reserved and authentication tag, up to the end of the header */

    COUNT_BYTES = 4,
    LENGTH_BYTES = 4
};

/* Written out byte by byte for any alignment and byte order; compilers make one load of it. */
static uint32_t load_u16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t load_u32(const uint8_t *p)
{
    return load_u16(p) | load_u16(p + 2) << 16;
}

static void store_u32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> 8 * i);
}

/* ------------------------------------------------------------------------------------ CRC32C
 * The two workers take and give the register itself, which is the complement of the checksum. */

static const uint32_t POLYNOMIAL = 0x82F63B78; /* Castagnoli's, least significant bit first */

/* TABLE[k][b] carries byte b over k further bytes of zeros ("slicing by 8", Kounavis and Berry,
 * 2005: eight independent look-ups instead of a chain of eight). */
static uint32_t TABLE[8][256];

static uint32_t crc_by_table(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        const uint32_t low = crc ^ load_u32(p);
        const uint32_t high = load_u32(p + 4);
        crc = TABLE[7][low & 0xFF] ^ TABLE[6][low >> 8 & 0xFF] ^ TABLE[5][low >> 16 & 0xFF] ^
              TABLE[4][low >> 24] ^ TABLE[3][high & 0xFF] ^ TABLE[2][high >> 8 & 0xFF] ^
              TABLE[1][high >> 16 & 0xFF] ^ TABLE[0][high >> 24];
    }
    for (; n > 0; p++, n--)
        crc = crc >> 8 ^ TABLE[0][(crc ^ *p) & 0xFF];
    return crc;
}

static uint32_t (*crc_update)(uint32_t crc, const uint8_t *p, size_t n) = crc_by_table;

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_by_sse42(uint32_t crc, const uint8_t *p,
                                                               size_t n)
{
    uint64_t wide = crc;
    for (; n >= 8; p += 8, n -= 8)
        wide = _mm_crc32_u64(wide, (uint64_t)load_u32(p) | (uint64_t)load_u32(p + 4) << 32);
    crc = (uint32_t)wide;
    for (; n > 0; p++, n--)
        crc = _mm_crc32_u8(crc, *p);
    return crc;
}
#endif

/* At load time, so that no caller needs a lock: cffi calls run without the interpreter's. */
__attribute__((constructor)) static void initialize(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        TABLE[0][byte] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t byte = 0; byte < 256; byte++)
            TABLE[k][byte] = TABLE[k - 1][byte] >> 8 ^ TABLE[0][TABLE[k - 1][byte] & 0xFF];
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2"))
        crc_update = crc_by_sse42;
#endif
}

uint32_t phx_crc32c(uint32_t value, const uint8_t *data, size_t n)
{
    return ~crc_update(~value, data, n);
}

uint32_t phx_crc32c_table(uint32_t value, const uint8_t *data, size_t n)
{
    return ~crc_by_table(~value, data, n);
}

int phx_crc32c_is_hardware(void)
{
    return crc_update != crc_by_table;
}

/* ------------------------------------------------------------------------------------- Frames */

static const uint8_t ZEROS[HEADER_BYTES - AT_CRC];

uint32_t phx_frame_crc(const uint8_t *start, const uint8_t *head, size_t n, const uint8_t *rest,
                       size_t m)
{
    uint8_t length[LENGTH_BYTES];
    store_u32(length, (uint32_t)(n + m));
    uint32_t crc = crc_update(~UINT32_C(0), start, AT_BODY_BYTES);
    crc = crc_update(crc, length, sizeof length);
    crc = crc_update(crc, ZEROS, sizeof ZEROS);
    crc = crc_update(crc, head, n);
    return ~crc_update(crc, rest, m);
}

int phx_frame_check(const uint8_t *frame, size_t n)
{
    if (n < HEADER_BYTES)
        return PHX_FRAME_TOO_SHORT;
    if (load_u16(frame + AT_MAGIC) != MAGIC)
        return PHX_FRAME_BAD_MAGIC;
    if (frame[AT_VERSION_MIN] > PHX_WIRE_VERSION || frame[AT_VERSION] < PHX_WIRE_VERSION_OLDEST)
        return PHX_FRAME_BAD_VERSION;
    uint32_t reserved = load_u32(frame + AT_KEY_ID);
    for (size_t at = AT_AFTER_CRC; at < HEADER_BYTES; at += 4)
        reserved |= load_u32(frame + at);
    if (load_u16(frame + AT_HEADER_BYTES) != HEADER_BYTES || reserved != 0)
        return PHX_FRAME_BAD_HEADER;
    if (load_u32(frame + AT_BODY_BYTES) != n - HEADER_BYTES)
        return PHX_FRAME_BAD_LENGTH;
    /* All that follows the field in the header is zero by now, as phx_frame_crc has it. */
    const uint8_t *body = frame + HEADER_BYTES;
    if (load_u32(frame + AT_CRC) != phx_frame_crc(frame, body, n - HEADER_BYTES, body, 0))
        return PHX_FRAME_BAD_CRC;
    return PHX_FRAME_OK;
}

/* ------------------------------------------------------------------------------------ Batches */

int64_t phx_batch_count(const uint8_t *data, size_t n, size_t offset)
{
    if (offset > n || n - offset < COUNT_BYTES)
        return -1;
    const uint8_t *table = data + offset + COUNT_BYTES;
    const size_t rest = n - offset - COUNT_BYTES;
    const uint32_t count = load_u32(data + offset);
    if (count > rest / LENGTH_BYTES)
        return -1;
    uint64_t sum = 0; /* cannot overflow: fewer than 2^32 lengths below 2^32 each */
    for (size_t i = 0; i < count; i++)
        sum += load_u32(table + i * LENGTH_BYTES);
    return sum == rest - (size_t)count * LENGTH_BYTES ? (int64_t)count : -1;
}
