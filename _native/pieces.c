#include "pieces.h"

#include <string.h>

enum {
    MAGIC = 0x5050,
    VERSION = 1,
    AT_INDEX = 3,
    AT_ID = 4,
    AT_FRAME_BYTES = 8,
    AT_PIECE_BYTES = 12,
    AT_SESSION = 14,
    FIRST_PARITY = 64 /* parities have places from here on */
};

/* Little-endian, as everything on the wire. */
static uint32_t load(const uint8_t *p, int bytes)
{
    uint32_t value = 0;

    for (int i = 0; i < bytes; i++)
        value |= (uint32_t)p[i] << 8 * i;
    return value;
}

static void store(uint8_t *p, uint32_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (uint8_t)(value >> 8 * i);
}

bool phx_piece_is(const uint8_t *packet, size_t length)
{
    return length >= PHX_PIECE_HEAD_BYTES && load(packet, 2) == MAGIC;
}

/* How long the body of a piece is. */
static uint32_t body_of(const phx_piece *it, uint32_t index)
{
    const uint32_t left = it->frame_bytes - index * it->piece_bytes;

    return left < it->piece_bytes ? left : it->piece_bytes;
}

/* How many parities a frame of so many pieces has: each is of those pieces whose place, divided by
 * that, leaves its own. */
static uint32_t parities_of(uint32_t count)
{
    return count < 2 ? 0 : (count + PHX_PARITY_SPAN - 1) / PHX_PARITY_SPAN;
}

bool phx_piece_read(const uint8_t *packet, size_t length, uint32_t frame_bytes_max, phx_piece *it)
{
    it->index = packet[AT_INDEX];
    it->id = load(packet + AT_ID, 4);
    it->frame_bytes = load(packet + AT_FRAME_BYTES, 4);
    it->piece_bytes = load(packet + AT_PIECE_BYTES, 2);
    it->session = (uint16_t)load(packet + AT_SESSION, 2);
    it->body = packet + PHX_PIECE_HEAD_BYTES;
    it->body_bytes = (uint32_t)(length - PHX_PIECE_HEAD_BYTES);
    if (packet[2] != VERSION || it->piece_bytes == 0 || it->frame_bytes == 0 ||
        it->frame_bytes > frame_bytes_max)
        return false;
    it->count = (it->frame_bytes + it->piece_bytes - 1) / it->piece_bytes;
    if (it->count > PHX_PIECES_MAX)
        return false;
    it->parity = it->index >= FIRST_PARITY;
    if (it->parity) {
        it->index -= FIRST_PARITY;
        return it->index < parities_of(it->count) && it->body_bytes == it->piece_bytes;
    }
    if (it->index >= it->count)
        return false;
    return it->body_bytes == body_of(it, it->index);
}

static void write_head(uint8_t *packet, size_t index, uint16_t session, uint32_t id, size_t length,
                       size_t most)
{
    memset(packet, 0, PHX_PIECE_HEAD_BYTES);
    store(packet, MAGIC, 2);
    packet[2] = VERSION;
    packet[AT_INDEX] = (uint8_t)index;
    store(packet + AT_ID, id, 4);
    store(packet + AT_FRAME_BYTES, (uint32_t)length, 4);
    store(packet + AT_PIECE_BYTES, (uint32_t)most, 2);
    store(packet + AT_SESSION, session, 2);
}

size_t phx_pieces_cut(uint8_t *packets, size_t packet_bytes, uint16_t session, uint32_t id,
                      uint64_t wanted, const uint8_t *frame, size_t length)
{
    const size_t most = packet_bytes - PHX_PIECE_HEAD_BYTES;
    uint8_t *packet = packets;

    for (size_t at = 0, index = 0; at < length; at += most, index++) {
        const size_t size = length - at < most ? length - at : most;
        if ((wanted >> index & 1) == 0)
            continue;
        write_head(packet, index, session, id, length, most);
        memcpy(packet + PHX_PIECE_HEAD_BYTES, frame + at, size);
        packet += PHX_PIECE_HEAD_BYTES + size;
    }
    return (size_t)(packet - packets);
}

/* By words: at -O2 a compiler makes none of single bytes. */
static void add(uint8_t *restrict sum, const uint8_t *restrict piece, size_t bytes)
{
    size_t i = 0;

    for (; i + sizeof(uint64_t) <= bytes; i += sizeof(uint64_t)) {
        uint64_t one, other;
        memcpy(&one, sum + i, sizeof one);
        memcpy(&other, piece + i, sizeof other);
        one ^= other;
        memcpy(sum + i, &one, sizeof one);
    }
    for (; i < bytes; i++)
        sum[i] ^= piece[i];
}

size_t phx_pieces_parities(uint8_t *packets, size_t packet_bytes, uint16_t session, uint32_t id,
                           const uint8_t *frame, size_t length)
{
    const size_t most = packet_bytes - PHX_PIECE_HEAD_BYTES;
    const size_t count = parities_of((uint32_t)((length + most - 1) / most));

    for (size_t i = 0; i < count; i++) {
        uint8_t *packet = packets + i * packet_bytes;
        write_head(packet, FIRST_PARITY + i, session, id, length, most);
        memset(packet + PHX_PIECE_HEAD_BYTES, 0, most);
        for (size_t at = i * most; at < length; at += count * most)
            add(packet + PHX_PIECE_HEAD_BYTES, frame + at, length - at < most ? length - at : most);
    }
    return count * packet_bytes;
}

size_t phx_pieces_close_up(uint8_t *packets, size_t length, size_t step, uint32_t frame_bytes_max,
                           phx_piece *first)
{
    phx_piece next;
    size_t at = 0;

    *first = (phx_piece){.count = 1};
    for (uint32_t i = 0; i < first->count; i++, at += step) {
        if (at >= length)
            return 0;
        const size_t size = length - at < step ? length - at : step;
        if (!phx_piece_is(packets + at, size) ||
            !phx_piece_read(packets + at, size, frame_bytes_max, &next) || next.parity ||
            next.index != i)
            return 0;
        if (i == 0)
            *first = next;
        else if (next.id != first->id || next.session != first->session ||
                 next.frame_bytes != first->frame_bytes || next.piece_bytes != first->piece_bytes)
            return 0;
    }
    if (at < length)
        return 0;
    for (uint32_t i = 0; i < first->count; i++)
        memmove(packets + (size_t)i * first->piece_bytes, packets + i * step + PHX_PIECE_HEAD_BYTES,
                body_of(first, i));
    return first->frame_bytes;
}

void phx_puzzles_release(phx_puzzles *puzzles)
{
    for (int i = 0; puzzles->given != 0; i++, puzzles->given >>= 1)
        if (puzzles->given & 1)
            puzzles->all[i].used = false;
}

static bool same(const phx_name *one, const phx_name *other)
{
    return one->from == other->from && one->session == other->session && one->id == other->id;
}

/* Where it stands whether a frame has become whole; a place is taken over by the latest one. */
static phx_name *whole_place(phx_puzzles *puzzles, const phx_name *name)
{
    const uint32_t key = name->id + (uint32_t)name->from * 331 + name->session * UINT32_C(7919);

    return &puzzles->whole[key % PHX_WHOLE];
}

static bool was_whole(phx_puzzles *puzzles, const phx_name *name)
{
    const phx_name marked = {name->from + 1, name->session, name->id};

    return same(whole_place(puzzles, name), &marked);
}

static void mark_whole(phx_puzzles *puzzles, const phx_name *name)
{
    *whole_place(puzzles, name) = (phx_name){name->from + 1, name->session, name->id};
}

bool phx_puzzles_whole(phx_puzzles *puzzles, int32_t from, const phx_piece *it)
{
    const phx_name name = {from, it->session, it->id};

    if (was_whole(puzzles, &name))
        return false;
    mark_whole(puzzles, &name);
    for (int i = 0; i < PHX_PUZZLES; i++) {
        phx_puzzle *one = &puzzles->all[i];
        if (one->used && one->missing > 0 && same(&one->name, &name))
            one->used = false;
    }
    return true;
}

/* The frame that a piece belongs to, begun if need be; NULL if there is no room for another one. */
static phx_puzzle *puzzle_of(phx_puzzles *puzzles, const phx_name *name, const phx_piece *it,
                             bool *displaced)
{
    phx_puzzle *oldest = NULL, *vacant = NULL;

    for (int i = 0; i < PHX_PUZZLES; i++) {
        phx_puzzle *one = &puzzles->all[i];
        if (!one->used)
            vacant = one;
        else if (same(&one->name, name))
            return one;
        else if (one->missing > 0 && (oldest == NULL || one->touched < oldest->touched))
            oldest = one;
    }
    if (vacant == NULL) {
        if (oldest == NULL)
            return NULL;
        *displaced = true;
        vacant = oldest;
    }
    *vacant = (phx_puzzle){.used = true,
                           .name = *name,
                           .frame_bytes = it->frame_bytes,
                           .piece_bytes = it->piece_bytes,
                           .count = it->count,
                           .missing = it->count};
    return vacant;
}

/* Where a parity of the frame at a place stands. */
static uint8_t *parity_at(phx_puzzles *puzzles, size_t place, uint32_t index)
{
    return puzzles->frames + place * puzzles->step + puzzles->frame_bytes_max +
           (size_t)index * puzzles->packet_bytes;
}

/* If all but one of the pieces of a parity are here, and the parity is: make that one. */
static void mend(phx_puzzles *puzzles, size_t place, uint32_t parity)
{
    phx_puzzle *one = &puzzles->all[place];
    uint8_t *frame = puzzles->frames + place * puzzles->step;
    const uint32_t step = parities_of(one->count);
    const phx_piece measures = {.frame_bytes = one->frame_bytes, .piece_bytes = one->piece_bytes};
    uint32_t lost = one->count;

    if ((one->parities >> parity & 1) == 0)
        return;
    for (uint32_t i = parity; i < one->count; i += step) {
        if (one->have >> i & 1)
            continue;
        if (lost < one->count)
            return;
        lost = i;
    }
    if (lost == one->count)
        return;
    uint8_t *sum = parity_at(puzzles, place, parity);
    for (uint32_t i = parity; i < one->count; i += step)
        if (i != lost)
            add(sum, frame + (size_t)i * one->piece_bytes, body_of(&measures, i));
    memcpy(frame + (size_t)lost * one->piece_bytes, sum, body_of(&measures, lost));
    one->have |= (uint64_t)1 << lost;
    one->missing--;
}

phx_piece_fate phx_puzzles_take(phx_puzzles *puzzles, int32_t from, const phx_piece *it,
                                bool *displaced, int *place)
{
    const phx_name name = {from, it->session, it->id};

    *displaced = false;
    if (was_whole(puzzles, &name))
        return PHX_PIECE_KEPT; /* doubled on the way, or mended twice */
    phx_puzzle *one = puzzle_of(puzzles, &name, it, displaced);
    if (one == NULL)
        return PHX_PIECE_NO_ROOM;
    if (one->frame_bytes != it->frame_bytes || one->piece_bytes != it->piece_bytes)
        return PHX_PIECE_UNFIT;
    uint64_t *here = it->parity ? &one->parities : &one->have;
    if (one->missing == 0 || *here >> it->index & 1)
        return PHX_PIECE_KEPT;
    *place = (int)(one - puzzles->all);
    uint8_t *frame = puzzles->frames + (size_t)*place * puzzles->step;
    uint8_t *at = it->parity ? parity_at(puzzles, (size_t)*place, it->index)
                             : frame + (size_t)it->index * it->piece_bytes;
    memcpy(at, it->body, it->body_bytes);
    *here |= (uint64_t)1 << it->index;
    one->missing -= !it->parity;
    one->touched = ++puzzles->clock;
    mend(puzzles, (size_t)*place, it->index % parities_of(one->count));
    if (one->missing > 0)
        return PHX_PIECE_KEPT;
    mark_whole(puzzles, &name);
    puzzles->given |= (uint64_t)1 << *place;
    return PHX_PIECE_COMPLETES;
}
