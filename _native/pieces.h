/* Large frames in pieces of one packet each: cutting them, and putting them together again in a
 * bounded room. Seen by udp.c alone; docs/wire.md has the layout. */

#ifndef PHX_PIECES_H
#define PHX_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PHX_PIECE_HEAD_BYTES = 16,
    PHX_PIECES_MAX = 63,  /* of a frame: the last bit of a word stands for its parities */
    PHX_PARITY_SPAN = 12, /* so many pieces have one parity at least */
    PHX_PARITIES_MAX = (PHX_PIECES_MAX + PHX_PARITY_SPAN - 1) / PHX_PARITY_SPAN,
    PHX_PUZZLES = 64, /* frames of which some pieces are kept */
    PHX_WHOLE = 1024  /* frames that are known to have become whole */
};

#define PHX_ALL_PIECES (UINT64_MAX >> 1) /* and no parity */

/* Whose frame it is. */
typedef struct {
    int32_t from;
    uint16_t session;
    uint32_t id;
} phx_name;

typedef struct {
    uint16_t session;
    uint32_t id, frame_bytes, piece_bytes, index, count;
    bool parity; /* `index` is its place among these */
    const uint8_t *body;
    uint32_t body_bytes;
} phx_piece;

/* A frame of which pieces have come. */
typedef struct {
    bool used;
    phx_name name;
    uint32_t frame_bytes, piece_bytes, count;
    uint32_t missing; /* 0 in a frame that was given away */
    uint64_t have, parities, touched; /* `parities`: those that have come */
} phx_puzzle;

typedef struct {
    uint32_t frame_bytes_max, packet_bytes;
    uint8_t *frames; /* PHX_PUZZLES places, each with room for a frame and then its parities, */
    size_t step;     /* so many bytes after the one before */
    phx_puzzle all[PHX_PUZZLES];
    uint64_t given; /* a bit for each place whose frame was given away, and may still be read */
    uint64_t clock;
    phx_name whole[PHX_WHOLE]; /* each at a place that follows from it, the latest one; from + 1 */
} phx_puzzles;

/* What became of a piece. */
typedef enum {
    PHX_PIECE_KEPT,
    PHX_PIECE_COMPLETES,
    PHX_PIECE_UNFIT, /* it belongs to a frame of other measures */
    PHX_PIECE_NO_ROOM
} phx_piece_fate;

/* Whether a packet says that it is a piece; and what it is, false if it is one of nothing. */
bool phx_piece_is(const uint8_t *packet, size_t length);
bool phx_piece_read(const uint8_t *packet, size_t length, uint32_t frame_bytes_max, phx_piece *it);

/* Cut a frame into packets, all but the last of `packet_bytes`, and leave out those that are not
 * `wanted`; returns the bytes of all. What stands in `wanted` for parities counts for nothing. */
size_t phx_pieces_cut(uint8_t *packets, size_t packet_bytes, uint16_t session, uint32_t id,
                      uint64_t wanted, const uint8_t *frame, size_t length);

/* The parities of a frame in packets, all of `packet_bytes`; returns the bytes of all, 0 for a frame
 * of one piece. From one of them any one of its pieces follows that is lost. */
size_t phx_pieces_parities(uint8_t *packets, size_t packet_bytes, uint16_t session, uint32_t id,
                           const uint8_t *frame, size_t length);

/* If these packets, each but the last `step` long, are all pieces of one frame in their order: drop
 * what stands between them. Returns the bytes of the frame, or 0 and has changed nothing; `first`
 * is told what the first piece was. */
size_t phx_pieces_close_up(uint8_t *packets, size_t length, size_t step, uint32_t frame_bytes_max,
                           phx_piece *first);

/* Frames that were given away need not be kept any longer. */
void phx_puzzles_release(phx_puzzles *puzzles);

/* Keep a piece. `displaced` says whether another frame has made room; `place` is that of the frame,
 * if it is complete. A piece of a frame that is known to have become whole is dropped. */
phx_piece_fate phx_puzzles_take(phx_puzzles *puzzles, int32_t from, const phx_piece *it,
                                bool *displaced, int *place);

/* A frame has come as a whole: pieces of it that come once more are not kept. False if it had come
 * before. */
bool phx_puzzles_whole(phx_puzzles *puzzles, int32_t from, const phx_piece *it);

#endif
