/* Feeds codec.c random, truncated and bit-flipped input and compares what it says with plain
 * reference code. Meant to be built with -fsanitize=address,undefined: every input lies in a
 * block of exactly its size, so that reading one byte past its end ends the program.
 *
 *     fuzz_codec SEED SECONDS     prints "N cases" and exits 0, or says what went wrong
 *     fuzz_codec overread         reads past an end on purpose: must not exit 0
 */

#define _POSIX_C_SOURCE 200809L

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec.h"
#include "fuzz.h"

enum { HEADER = 64, SIZE_MAX_HERE = 700 };

static void fill(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)next_random();
}

static void put_u32(uint8_t *p, uint64_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get_u32(const uint8_t *p)
{
    return p[0] + 256 * (p[1] + 256 * (p[2] + UINT64_C(256) * p[3]));
}

/* A block of exactly n bytes, which the caller frees; NULL for none, so that any read faults. */
static uint8_t *exact(const uint8_t *source, size_t n)
{
    if (n == 0)
        return NULL;
    uint8_t *block = malloc(n);
    CHECK(block != NULL);
    memcpy(block, source, n);
    return block;
}

static uint32_t crc_by_bit(uint32_t value, const uint8_t *p, size_t n)
{
    uint32_t crc = ~value;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82F63B78) : 0);
    }
    return ~crc;
}

static void try_crc(void)
{
    uint8_t bytes[SIZE_MAX_HERE];
    const size_t n = below(sizeof bytes);
    const size_t cut = below(n + 1);
    const uint32_t value = (uint32_t)next_random();
    fill(bytes, n);
    uint8_t *data = exact(bytes, n);
    const uint32_t expected = crc_by_bit(value, bytes, n);
    CHECK(phx_crc32c(value, data, n) == expected);
    CHECK(phx_crc32c_table(value, data, n) == expected);
    if (n > 0) {
        CHECK(phx_crc32c(phx_crc32c(value, data, cut), data + cut, n - cut) == expected);
        CHECK(phx_crc32c_table(phx_crc32c_table(value, data, cut), data + cut, n - cut) ==
              expected);
    }
    free(data);
}

static int64_t count_by_rule(const uint8_t *p, size_t n, size_t offset)
{
    if (offset > n || n - offset < 4)
        return -1;
    const uint64_t count = get_u32(p + offset);
    uint64_t needed = 4 + 4 * count;
    if (needed > n - offset)
        return -1;
    for (uint64_t i = 0; i < count; i++)
        needed += get_u32(p + offset + 4 + 4 * i);
    return needed == n - offset ? (int64_t)count : -1;
}

/* One batch, well formed at first, behind `offset` other bytes; gives its end. */
static size_t make_batch(uint8_t *bytes, size_t offset)
{
    const size_t count = below(12);
    size_t end = offset + 4 + 4 * count;
    put_u32(bytes + offset, count);
    for (size_t i = 0; i < count; i++) {
        const size_t length = below(40);
        put_u32(bytes + offset + 4 + 4 * i, length);
        end += length;
    }
    return end;
}

static void try_batch(void)
{
    uint8_t bytes[SIZE_MAX_HERE];
    fill(bytes, sizeof bytes);
    size_t offset = below(20);
    size_t n = make_batch(bytes, offset);
    const size_t damage = below(8);
    switch (damage) {
    case 0: break;
    case 1: n = below(n); break;
    case 2: n += 1 + below(8); break;
    case 3: bytes[offset + below(n - offset)] ^= (uint8_t)(1 << below(8)); break;
    case 4: put_u32(bytes + offset, next_random() >> (32 + below(32))); break;
    case 5: fill(bytes + offset, n - offset); break;
    case 6: /* two lengths grow by 2^31 each: their sum is the same in 32 bits */
        if (bytes[offset] >= 2) {
            bytes[offset + 7] ^= 0x80;
            bytes[offset + 11] ^= 0x80;
        }
        break;
    default: offset = below(2) ? below(n + 9) : (size_t)next_random(); break;
    }
    uint8_t *data = exact(bytes, n);
    const int64_t count = phx_batch_count(data, n, offset);
    CHECK(count == count_by_rule(bytes, n, offset));
    CHECK(damage != 0 || count >= 0);
    CHECK(damage != 1 || count < 0);
    CHECK(damage != 2 || count < 0);
    free(data);
}

static size_t make_frame(uint8_t *bytes)
{
    const size_t body = below(SIZE_MAX_HERE - HEADER - 8);
    fill(bytes, HEADER + body);
    memcpy(bytes, "\x50\x48\x01\x01", 4);
    bytes[6] = HEADER;
    bytes[7] = 0;
    memset(bytes + 32, 0, 4);
    put_u32(bytes + 36, body);
    memset(bytes + 40, 0, 24);
    const uint32_t crc = crc_by_bit(0, bytes, HEADER + body);
    const size_t head = body / 3;
    const uint8_t *rest = bytes + HEADER + head;
    CHECK(phx_frame_crc(bytes, bytes + HEADER, head, rest, body - head) == crc);
    put_u32(bytes + 40, crc);
    return HEADER + body;
}

static void try_frame(void)
{
    uint8_t bytes[SIZE_MAX_HERE];
    size_t n = make_frame(bytes);
    const size_t damage = below(5);
    switch (damage) {
    case 0: break;
    case 1: n = below(n); break;
    case 2:
        fill(bytes + n, 8);
        n += 1 + below(8);
        break;
    case 3: bytes[below(n)] ^= (uint8_t)(1 << below(8)); break;
    default: { /* garbage from some point on, so that each check is reached */
        const size_t from = below(n < 72 ? n : 72);
        fill(bytes + from, n - from);
        bytes[from] ^= 1;
        n = below(2) ? n : below(n);
        break;
    }
    }
    uint8_t *frame = exact(bytes, n);
    const int outcome = phx_frame_check(frame, n);
    CHECK(outcome >= PHX_FRAME_OK && outcome <= PHX_FRAME_BAD_CRC);
    CHECK(damage != 0 || outcome == PHX_FRAME_OK);
    CHECK((n < HEADER) == (outcome == PHX_FRAME_TOO_SHORT));
    CHECK(damage != 2 || outcome == PHX_FRAME_BAD_LENGTH);
    CHECK((damage != 1 && damage != 3) || outcome != PHX_FRAME_OK);
    if (outcome == PHX_FRAME_OK) {
        const uint32_t sum = (uint32_t)get_u32(bytes + 40);
        memset(bytes + 40, 0, 4);
        CHECK(crc_by_bit(0, bytes, n) == sum);
    }
    free(frame);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "overread") == 0) {
        uint8_t *data = exact((const uint8_t *)"12345678", 8);
        printf("%" PRIu32 "\n", phx_crc32c_table(0, data, 9));
        free(data);
        return 0;
    }
    if (argc != 3) {
        fprintf(stderr, "usage: fuzz_codec SEED SECONDS\n");
        return 2;
    }
    state = strtoull(argv[1], NULL, 10);
    const uint64_t end_ns = now_ns() + (uint64_t)(strtod(argv[2], NULL) * 1e9);
    uint64_t cases = 0;
    do {
        for (int i = 0; i < 100; i++, cases += 3) {
            try_crc();
            try_batch();
            try_frame();
        }
    } while (now_ns() < end_ns);
    printf("%" PRIu64 " cases\n", cases);
    return 0;
}
