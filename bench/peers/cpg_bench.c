/*
 * One member of a corosync group under measurement: a barrier, agreed order flat out, a round
 * trip, or messages at a pace while something breaks. Built and started by bench/peers/corosync.py,
 * once a node, beside that node's daemon:
 *
 *     cpg_bench barrier|flood|latency|pace NODES COUNT SIZE WARM_UP_NS WINDOW_NS LIFE_S
 *
 * It speaks the lines of bench/peers/lines.py: says that it is ready when all NODES are in the
 * group, begins at the time that "go NS" names, says what it has measured, and ends with "end".
 * One thread, poll and dispatch, as libcpg is meant to be used.
 */
#include "member.h"
#include <corosync/cpg.h>
#include <sys/uio.h>

enum {
    BURST = 16, /* messages sent before what has come is looked at */
    BYTES_MIN = 16,
    BYTES_MAX = 1 << 20,
    COUNT_MAX = 10 * 1000 * 1000,
    RETRY_MS = 1,
    START_S = 30,
    VIEWS_MAX = 256,
};

static cpg_handle_t handle;
static size_t members_now;

/* At a pace: when each message of the first member came, and when the group changed. */
static struct {
    int64_t *times_ns, count, room;
    int64_t view_ns[VIEWS_MAX];
    size_t view_members[VIEWS_MAX];
    int views;
} trace;

static void on_deliver(cpg_handle_t from, const struct cpg_name *group, uint32_t node, uint32_t pid,
                       void *message, size_t bytes)
{
    (void)from, (void)group, (void)pid;
    if (node >= NODES_MAX)
        die("a message of nobody in this group", (int)node);
    take(node, message, bytes);
    if (trace.count < trace.room)
        trace.times_ns[trace.count++] = now_ns();
}

static void on_members(cpg_handle_t from, const struct cpg_name *group,
                       const struct cpg_address *members, size_t count,
                       const struct cpg_address *left, size_t left_count,
                       const struct cpg_address *joined, size_t joined_count)
{
    (void)from, (void)group, (void)members, (void)left, (void)left_count;
    (void)joined, (void)joined_count;
    members_now = count;
    if (trace.room && trace.views < VIEWS_MAX) {
        trace.view_ns[trace.views] = now_ns();
        trace.view_members[trace.views++] = count;
    }
}

/* Take what has come from the group; wait for it up to that long, and for a line if asked to. */
static void take_arrivals(void)
{
    cs_error_t error = cpg_dispatch(handle, CS_DISPATCH_ALL);

    if (error != CS_OK && error != CS_ERR_TRY_AGAIN)
        die("the daemon is gone", error);
}

/* Whether the group has taken the next message. */
static bool send_next(void *message, size_t bytes, uint32_t me)
{
    struct head head = {.node = me, .number = seen.sent + 1};
    struct iovec part = {.iov_base = message, .iov_len = bytes};
    cs_error_t error;

    memcpy(message, &head, sizeof head);
    error = cpg_mcast_joined(handle, CPG_TYPE_AGREED, &part, 1);
    if (error == CS_OK) {
        seen.sent++;
        return true;
    }
    if (error != CS_ERR_TRY_AGAIN)
        die("a message was refused", error);
    seen.retries++;
    return false;
}

static void send_one(void *message, size_t bytes, uint32_t me)
{
    while (!send_next(message, bytes, me))
        turn(RETRY_MS, false);
}

static bool all_have(uint64_t count, int nodes)
{
    for (int node = 1; node <= nodes; node++)
        if (seen.got[node] < count)
            return false;
    return true;
}

static void print_numbers(const int64_t *numbers, int64_t count)
{
    for (int64_t index = 0; index < count; index++)
        printf("%s%" PRId64, index ? "," : "", numbers[index]);
}

static void say_times(const int64_t *times_ns, int64_t count)
{
    printf("{\"ns\":[");
    print_numbers(times_ns, count);
    printf("]}\n");
    fflush(stdout);
}

static void say_trace(void)
{
    printf("{\"times_ns\":[");
    print_numbers(trace.times_ns, trace.count);
    printf("],\"gaps\":%" PRIu64 ",\"views\":[", seen.gaps);
    for (int index = 0; index < trace.views; index++)
        printf("%s[%" PRId64 ",%zu]", index ? "," : "", trace.view_ns[index],
               trace.view_members[index]);
    printf("]}\n");
    fflush(stdout);
}

/* Node 1 alone sends, so many messages a second, until the window ends. */
static void run_pace(void *message, size_t bytes, uint32_t me, int64_t per_s)
{
    int64_t began_ns = seen.window_begins_ns;
    int64_t window_ns = seen.window_ends_ns - began_ns;
    uint64_t wanted;
    int64_t deadline_ns;
    const char *order;

    trace.room = per_s * (window_ns / 1000000000 + 2);
    trace.times_ns = calloc((size_t)trace.room, sizeof *trace.times_ns);
    if (trace.times_ns == NULL)
        die("no memory", 0);
    while (now_ns() < seen.window_ends_ns) {
        int64_t due = (now_ns() - began_ns) * per_s / 1000000000 + 1;

        while (me == 1 && (int64_t)seen.sent < due && send_next(message, bytes, me))
            continue;
        turn(RETRY_MS, false);
    }
    say_sent();
    order = hear();
    if (strncmp(order, "drain ", 6) != 0)
        die("expected to hear what was sent", 0);
    wanted = strtoull(order + 6, NULL, 10);
    deadline_ns = now_ns() + (int64_t)DRAIN_S * 1000000000;
    while (seen.got[1] < wanted && now_ns() < deadline_ns)
        turn(100, false);
    say_trace();
    free(trace.times_ns);
}

static void run_barrier(void *message, size_t bytes, uint32_t me, int nodes, int64_t rounds)
{
    int64_t *times_ns = calloc((size_t)rounds + 1, sizeof *times_ns);

    if (times_ns == NULL)
        die("no memory", 0);
    for (int64_t round = 0; round < rounds; round++) {
        int64_t began_ns = now_ns();

        send_one(message, bytes, me);
        while (!all_have((uint64_t)round + 1, nodes))
            turn(100, false);
        times_ns[round] = now_ns() - began_ns;
    }
    say_times(times_ns, rounds);
    free(times_ns);
}

/* Node 1 alone sends, one message at a time, and waits until it is back. */
static void run_latency(void *message, size_t bytes, uint32_t me, int64_t count)
{
    int64_t *times_ns = calloc((size_t)count + 1, sizeof *times_ns);

    if (times_ns == NULL)
        die("no memory", 0);
    if (me != 1)
        count = 0;
    for (int64_t sent = 0; sent < count; sent++) {
        int64_t began_ns = now_ns();

        send_one(message, bytes, me);
        while (seen.got[me] < seen.sent)
            turn(100, false);
        times_ns[sent] = now_ns() - began_ns;
    }
    say_times(times_ns, count);
    free(times_ns);
}

/* Send flat out; then take all that the others say they have sent ("drain" and a count a node). */
static void run_flood(void *message, size_t bytes, uint32_t me, int nodes)
{
    uint64_t counts[NODES_MAX] = {0};
    int64_t deadline_ns;
    bool complete = true;
    const char *order;
    char *next;

    while (now_ns() < seen.window_ends_ns) {
        int burst = 0;

        while (burst < BURST && send_next(message, bytes, me))
            burst++;
        turn(burst ? 0 : RETRY_MS, false);
    }
    say_sent();
    order = hear();
    if (strncmp(order, "drain", 5) != 0)
        die("expected to hear what the others have sent", 0);
    next = (char *)order + 5;
    for (int node = 1; node <= nodes; node++)
        counts[node] = strtoull(next, &next, 10);
    deadline_ns = now_ns() + (int64_t)DRAIN_S * 1000000000;
    for (int node = 1; node <= nodes; node++) {
        while (seen.got[node] < counts[node] && now_ns() < deadline_ns)
            turn(100, false);
        complete = complete && seen.got[node] == counts[node];
    }
    say_delivered(complete);
}

static uint32_t enter_group(int nodes)
{
    cpg_model_v1_data_t model = {.cpg_deliver_fn = on_deliver, .cpg_confchg_fn = on_members};
    struct cpg_name group = {.length = 5, .value = "bench"};
    int64_t deadline_ns = now_ns() + (int64_t)START_S * 1000000000;
    unsigned int me;
    cs_error_t error;

    while ((error = cpg_model_initialize(&handle, CPG_MODEL_V1, (cpg_model_data_t *)&model,
                                         NULL)) != CS_OK) {
        if (now_ns() > deadline_ns)
            die("no daemon", error);
        usleep(50000);
    }
    while ((error = cpg_join(handle, &group)) == CS_ERR_TRY_AGAIN && now_ns() < deadline_ns)
        usleep(20000);
    if (error != CS_OK)
        die("joining the group", error);
    if ((error = cpg_local_get(handle, &me)) != CS_OK || me == 0 || me >= NODES_MAX)
        die("which node is this", error);
    if ((error = cpg_fd_get(handle, &sources[0].fd)) != CS_OK)
        die("no descriptor to wait for", error);
    sources[0].events = sources[1].events = POLLIN;
    sources[1].fd = STDIN_FILENO;
    while (members_now < (size_t)nodes) {
        if (now_ns() > deadline_ns)
            die("not all members came", (int)members_now);
        turn(100, false);
    }
    return me;
}

int main(int argc, char **argv)
{
    int nodes;
    int64_t count, warm_up_ns, window_ns;
    size_t bytes;
    uint32_t me;
    void *message;

    if (argc != 8)
        die("usage: MODE NODES COUNT SIZE WARM_UP_NS WINDOW_NS LIFE_S", argc);
    nodes = (int)number(argv[2], 1, NODES_MAX - 1);
    count = number(argv[3], 0, COUNT_MAX);
    bytes = (size_t)number(argv[4], BYTES_MIN, BYTES_MAX);
    warm_up_ns = number(argv[5], 0, INT64_MAX / 4);
    window_ns = number(argv[6], 0, INT64_MAX / 4);
    alarm((unsigned int)number(argv[7], 1, 1 << 20)); /* whatever happens, it ends */
    message = calloc(1, bytes);
    if (message == NULL)
        die("no memory", 0);
    me = enter_group(nodes);
    await_start(warm_up_ns, window_ns);
    if (strcmp(argv[1], "barrier") == 0)
        run_barrier(message, bytes, me, nodes, count);
    else if (strcmp(argv[1], "latency") == 0)
        run_latency(message, bytes, me, count);
    else if (strcmp(argv[1], "flood") == 0)
        run_flood(message, bytes, me, nodes);
    else if (strcmp(argv[1], "pace") == 0)
        run_pace(message, bytes, me, count);
    else
        die("no such mode", 0);
    hear();
    cpg_finalize(handle);
    free(message);
    return 0;
}
