/* What receiving (udp.c) and sending (udp_send.c) share. */

#ifndef PHX_UDP_INTERNAL_H
#define PHX_UDP_INTERNAL_H

#include "udp.h"

#include "pieces.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* All of one frame, and so the most that are sent with one call to one peer. */
enum { PACKETS_MAX = PHX_PIECES_MAX + PHX_PARITIES_MAX };

typedef struct {
    struct sockaddr_storage address;
    socklen_t length;
    int rail;
    int32_t node;    /* who sends from there, or what stands for it in what has arrived */
    bool separately; /* the way there does not take several packets as one */
} peer;

/* What is compared of a peer before its address: most are told apart by it. */
typedef struct {
    int rail;
    uint32_t sum;
} mark;

struct phx_udp {
    int slots;
    uint32_t packet_bytes, frame_bytes_max;
    uint8_t *memory; /* the slots, then the puzzles */
    size_t memory_bytes;
    int64_t *arrived, *told;
    int arrived_count, rail; /* `rail`: whose socket is read */
    struct mmsghdr *incoming;
    struct iovec *places;
    struct sockaddr_storage *sources;
    uint8_t (*controls)[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(uint32_t))];
    uint32_t overruns;
    phx_puzzles puzzles;
    int peers;
    peer *known;
    mark *marks; /* of each of them */
    struct mmsghdr *outgoing; /* as many as there are peers, and at least PACKETS_MAX */
    uint32_t next_id;
    uint8_t *cut, *parities; /* PHX_PIECES_MAX packets, and the PHX_PARITIES_MAX behind them */
};

#endif
