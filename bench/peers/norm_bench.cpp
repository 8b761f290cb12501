/*
 * One node of a NORM session under measurement (RFC 5740): the first sends a stream flat out, the
 * others receive it. Built and started by bench/peers/norm.py:
 *
 *     norm_bench NODE NODES INTERFACE SIZE WARM_UP_NS WINDOW_NS LIFE_S
 *
 * It speaks the lines of bench/peers/lines.py. One thread beside NORM's own. NORM's congestion
 * control chooses the rate, and the stream goes on only as far as all receivers have acknowledged
 * (its watermarks), so that nothing is lost for good: without that it is a race.
 */
#include "member.h"
#include <normApi.h>

enum {
    SENDER = 1,
    PORT = 6003,
    SEGMENT_BYTES = 1400,
    BLOCK_SEGMENTS = 64,
    PARITY_SEGMENTS = 16,
    STREAM_BYTES = 8 << 20,
    SENDER_BYTES = 32 << 20,
    RECEIVER_BYTES = 64 << 20,
    SOCKET_BYTES = 4 << 20,
    READ_BYTES = 1 << 18,
    BYTES_MIN = 16,
    BYTES_MAX = 1 << 20,
    BURST = 64, /* writes before what has happened is looked at */
    WAIT_MS = 10,
};

static const char GROUP[] = "239.192.77.2";

static NormInstanceHandle instance;
static NormSessionHandle session;
static char *message;
static size_t bytes;

/* The sender's. */
static NormObjectHandle stream;
static size_t window;  /* bytes that may be written and not yet acknowledged */
static size_t unacked; /* that are */
static size_t marked;  /* of these, so many stand before the watermark that is awaited; 0: none is */
static size_t written; /* of the next message */

/* A receiver's. */
static size_t come; /* of the next message */

static void set_watermark(void)
{
    marked = unacked;
    if (!NormSetWatermark(session, stream, true))
        die("no watermark", 0);
}

static void read_stream(NormObjectHandle from)
{
    static char buffer[READ_BYTES];
    unsigned int count;

    for (;;) {
        count = sizeof buffer;
        if (!NormStreamRead(from, buffer, &count)) {
            seen.gaps++; /* a part of the stream is lost for good */
            come = 0;
            if (!NormStreamSeekMsgStart(from))
                return;
            continue;
        }
        if (count == 0)
            return;
        for (size_t at = 0; at < count;) {
            size_t part = bytes - come < count - at ? bytes - come : count - at;

            memcpy(message + come, buffer + at, part);
            come += part;
            at += part;
            if (come == bytes) {
                take(SENDER, message, bytes);
                come = 0;
            }
        }
    }
}

static void take_event(const NormEvent *event)
{
    switch (event->type) {
    case NORM_RX_OBJECT_UPDATED:
        read_stream(event->object);
        break;
    case NORM_RX_OBJECT_ABORTED:
        seen.gaps++;
        break;
    case NORM_TX_WATERMARK_COMPLETED:
        if (NormGetAckingStatus(session, NORM_NODE_ANY) == NORM_ACK_SUCCESS) {
            unacked -= marked;
            marked = 0;
        } else {
            seen.retries++;
            NormResetWatermark(session);
        }
        break;
    default:
        break;
    }
}

static void take_arrivals(void)
{
    NormEvent event;

    while (NormGetNextEvent(instance, &event, false))
        take_event(&event);
}

/* Whether the stream has taken something. */
static bool write_some(void)
{
    size_t part = bytes - written, room = window - unacked;
    unsigned int taken;

    if (room == 0)
        return false;
    if (written == 0) {
        struct head head = {SENDER, 0, seen.sent + 1};

        memcpy(message, &head, sizeof head);
    }
    taken = NormStreamWrite(stream, message + written, (unsigned int)(part < room ? part : room));
    written += taken;
    unacked += taken;
    if (written == bytes) {
        NormStreamMarkEom(stream);
        written = 0;
        seen.sent++;
    }
    if (marked == 0 && unacked >= window / 2)
        set_watermark();
    return taken > 0;
}

/* Flat out until the window ends, and the last message to its end; then until all have everything. */
static void run_sender(void)
{
    int64_t deadline_ns;

    while (now_ns() < seen.window_ends_ns || written) {
        int burst = 0;

        while (burst < BURST && write_some())
            burst++;
        turn(burst ? 0 : WAIT_MS, false);
    }
    say_sent();
    hear();
    deadline_ns = now_ns() + (int64_t)DRAIN_S * 1000000000;
    NormStreamFlush(stream, false, NORM_FLUSH_ACTIVE);
    while (unacked && now_ns() < deadline_ns) {
        if (marked == 0)
            set_watermark();
        turn(WAIT_MS, false);
    }
    say_delivered(unacked == 0);
}

static void enter(int64_t node, int64_t nodes, const char *interface)
{
    instance = NormCreateInstance(false);
    if (instance == NORM_INSTANCE_INVALID)
        die("no instance", 0);
    session = NormCreateSession(instance, GROUP, PORT, (NormNodeId)node);
    if (session == NORM_SESSION_INVALID || !NormSetMulticastInterface(session, interface))
        die("no session on this interface", 0);
    NormSetTTL(session, 1);
    sources[0].fd = NormGetDescriptor(instance);
    sources[0].events = sources[1].events = POLLIN;
    sources[1].fd = STDIN_FILENO;
    if (node != SENDER) {
        NormSetRxCacheLimit(session, 4096);
        if (!NormStartReceiver(session, RECEIVER_BYTES))
            die("no receiver", 0);
        NormSetRxSocketBuffer(session, SOCKET_BYTES);
        return;
    }
    /* What a network of one switch has, instead of the defaults for the Internet. */
    NormSetGrttEstimate(session, 0.001);
    NormSetGrttMax(session, 0.1);
    NormSetGroupSize(session, 10);
    NormSetBackoffFactor(session, 1.0);
    NormSetTxRate(session, 50e6);
    NormSetCongestionControl(session, true, true);
    NormSetTxRateBounds(session, 1e6, 4e9);
    NormSetFlowControl(session, 0.0); /* the watermarks do that */
    if (!NormStartSender(session, 1, SENDER_BYTES, SEGMENT_BYTES, BLOCK_SEGMENTS, PARITY_SEGMENTS, 0))
        die("no sender", 0);
    NormSetTxSocketBuffer(session, SOCKET_BYTES);
    for (int64_t other = 1; other <= nodes; other++)
        if (other != SENDER && !NormAddAckingNode(session, (NormNodeId)other))
            die("no acknowledgements of a node", (int)other);
    stream = NormStreamOpen(session, STREAM_BYTES, NULL, 0);
    if (stream == NORM_OBJECT_INVALID)
        die("no stream", 0);
    NormStreamSetPushEnable(stream, false);
    window = (size_t)NormGetStreamBufferSegmentCount(STREAM_BYTES, SEGMENT_BYTES, BLOCK_SEGMENTS) *
             SEGMENT_BYTES;
}

int main(int argc, char **argv)
{
    int64_t node, nodes, warm_up_ns, window_ns;

    if (argc == 2 && strcmp(argv[1], "version") == 0) {
        int major, minor, patch;

        NormGetVersion(&major, &minor, &patch);
        printf("%d.%d.%d\n", major, minor, patch);
        return 0;
    }
    if (argc != 8)
        die("usage: NODE NODES INTERFACE SIZE WARM_UP_NS WINDOW_NS LIFE_S", argc);
    node = number(argv[1], 1, NODES_MAX - 1);
    nodes = number(argv[2], 2, NODES_MAX - 1);
    bytes = (size_t)number(argv[4], BYTES_MIN, BYTES_MAX);
    warm_up_ns = number(argv[5], 0, INT64_MAX / 4);
    window_ns = number(argv[6], 0, INT64_MAX / 4);
    alarm((unsigned int)number(argv[7], 1, 1 << 20)); /* whatever happens, it ends */
    message = (char *)calloc(1, bytes);
    if (message == NULL)
        die("no memory", 0);
    enter(node, nodes, argv[3]);
    await_start(warm_up_ns, window_ns);
    if (node == SENDER)
        run_sender();
    else
        receive_stream(SENDER);
    hear();
    if (node == SENDER)
        NormStopSender(session);
    else
        NormStopReceiver(session);
    NormDestroySession(session);
    NormDestroyInstance(instance);
    free(message);
    return 0;
}
