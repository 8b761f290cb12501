/*
 * What members in C and C++ share: the lines that they hear from whoever started them (lines.py), the clock,
 * and a hash of what has come. Included once by each program.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    NODES_MAX = 64, /* ids are 1 to 63 */
    LINE_BYTES_MAX = 2048,
    RECEIVE_MS = 10,
    DRAIN_S = 30, /* so long what was sent flat out may take to arrive: as in lines.py */
};

/* Each message begins with these, in the byte order of this machine: all members run on it. */
struct head {
    uint32_t node;
    uint32_t unused;
    uint64_t number; /* from 1, per sender */
};

static struct {
    uint64_t got[NODES_MAX]; /* the number of the last message, by sender */
    uint64_t all, in_window, gaps, hash, sent, retries;
    int64_t window_begins_ns, window_ends_ns;
} seen = {{0}, 0, 0, 0, 14695981039346656037u, 0, 0, INT64_MAX, 0};

static struct pollfd sources[2]; /* what is measured, and standard input */
static char line[LINE_BYTES_MAX];
static size_t line_bytes;
static bool line_whole, input_ended;

static void die(const char *what, int code)
{
    fprintf(stderr, "%s (%d)\n", what, code);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* FNV-1a by words: what it has to notice is another order, and it must not slow the group down. */
static uint64_t hashed(uint64_t hash, const void *data, size_t bytes)
{
    const char *at = (const char *)data;
    uint64_t word;

    for (; bytes >= sizeof word; bytes -= sizeof word, at += sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = (hash ^ word) * 1099511628211u;
    }
    word = 0;
    memcpy(&word, at, bytes);
    return (hash ^ word) * 1099511628211u;
}

static void read_input(void)
{
    char byte;

    while (!line_whole) {
        ssize_t count = read(STDIN_FILENO, &byte, 1);

        if (count <= 0) {
            input_ended = true;
            return;
        }
        if (byte == '\n') {
            line[line_bytes] = '\0';
            line_whole = true;
        } else if (line_bytes < sizeof line - 1) {
            line[line_bytes++] = byte;
        }
        if (poll(&sources[1], 1, 0) <= 0)
            return;
    }
}

static int64_t number(const char *text, int64_t least, int64_t most)
{
    char *end;
    int64_t value = strtoll(text, &end, 10);

    if (*text == '\0' || *end != '\0' || value < least || value > most)
        die("an argument is out of range", 0);
    return value;
}

/* A message of a sender has come. */
static void take(uint32_t node, const void *message, size_t bytes)
{
    struct head head;
    int64_t at_ns = now_ns();

    if (bytes < sizeof head)
        die("a message of nobody in this group", (int)node);
    memcpy(&head, message, sizeof head);
    if (head.node != node || head.number != seen.got[node] + 1)
        seen.gaps++;
    seen.got[node] = head.number;
    seen.all++;
    seen.hash = hashed(hashed(seen.hash, &node, sizeof node), message, bytes);
    if (at_ns >= seen.window_begins_ns && at_ns < seen.window_ends_ns)
        seen.in_window++;
}

/* Take what has come of what is measured: each program has its own. */
static void take_arrivals(void);

/* Take what has come; wait for it up to that long, and for a line if asked to. */
static void turn(int wait_ms, bool listen)
{
    bool also = listen && !line_whole && !input_ended;

    sources[0].revents = sources[1].revents = 0;
    if (poll(sources, also ? 2 : 1, wait_ms) <= 0)
        return;
    if (sources[0].revents)
        take_arrivals();
    if (also && sources[1].revents)
        read_input();
}

/* The next line; what comes from the group meanwhile is taken. */
static const char *hear(void)
{
    while (!line_whole && !input_ended)
        turn(100, true);
    if (!line_whole)
        exit(1); /* whoever started this is gone */
    line_whole = false;
    line_bytes = 0;
    return line;
}

/* Say that the group is complete; come back when all are to begin. */
static void await_start(int64_t warm_up_ns, int64_t window_ns)
{
    const char *order;
    int64_t start_ns;

    printf("{\"ready\":true}\n");
    fflush(stdout);
    order = hear();
    if (strncmp(order, "go ", 3) != 0)
        die("expected to hear when it begins", 0);
    start_ns = number(order + 3, 0, INT64_MAX / 4);
    while (now_ns() < start_ns)
        turn(1, false);
    seen.window_begins_ns = start_ns + warm_up_ns;
    seen.window_ends_ns = seen.window_begins_ns + window_ns;
}

static void say_sent(void)
{
    printf("{\"sent\":%" PRIu64 "}\n", seen.sent);
    fflush(stdout);
}

static void say_delivered(bool complete)
{
    printf("{\"delivered\":%" PRIu64 ",\"total\":%" PRIu64 ",\"gaps\":%" PRIu64
           ",\"complete\":%s,\"hash\":\"%016" PRIx64 "\",\"retries\":%" PRIu64 "}\n",
           seen.in_window, seen.all, seen.gaps, complete ? "true" : "false", seen.hash,
           seen.retries);
    fflush(stdout);
}

/* All of a receiver's run but its beginning: until the window ends, and then until all that its only
 * sender has sent is here. Not every program has such members. */
__attribute__((unused)) static void receive_stream(uint32_t sender)
{
    const char *order;
    uint64_t count;
    int64_t deadline_ns;

    while (now_ns() < seen.window_ends_ns)
        turn(RECEIVE_MS, false);
    say_sent();
    order = hear();
    if (strncmp(order, "drain ", 6) != 0)
        die("expected to hear what was sent", 0);
    count = strtoull(order + 6, NULL, 10);
    deadline_ns = now_ns() + (int64_t)DRAIN_S * 1000000000;
    while (seen.got[sender] < count && now_ns() < deadline_ns)
        turn(RECEIVE_MS, false);
    say_delivered(seen.all == count);
}
