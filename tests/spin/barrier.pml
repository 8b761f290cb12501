/*
 * What is in flight while the view changes: a multicast of node 0 and a barrier of all members.
 *
 * Node 0 multicasts one fifo batch before it arrives, so its arrival carries a mark. Arrivals are
 * entries of the ordered lane, delivered by epochs (transport/core/epochs.py); the outcome is
 * decided at a position of that order, or at the cut (barrier/table.py, barrier/core.py).
 *
 * -DARRIVED, -DKNOWN    sets of entries: sent, and held by all, when the model begins
 * -DHOLDERS_FIRST       nodes that hold the batch when the model begins
 * -DBATCH_ONLY          no barrier, the batch alone
 * -DSECOND=WITHDRAWAL   the last node takes its arrival back: the order decides which was first
 * -DSECOND=ARRIVAL      the last node arrives twice: a set does not count it twice
 */

#define NOTHING_MORE 0
#define WITHDRAWAL 1
#define ARRIVAL 2
#ifndef SECOND
#define SECOND NOTHING_MORE
#endif

#define SENDER 0
#define LAST (N - 1)
/* Streams are sets of entries: bit i is the arrival of node i. */
#define BATCH BIT(N)
#define AGAIN BIT(N + 1)
#define OF(i) (BIT(i) | ((i) == SENDER -> BATCH : 0) | ((i) == LAST -> AGAIN : 0))

/* outcome */
#define RELEASED 1
#define WITHDRAWN 2
#define LEFT 3    /* a party left the view */
#define CARRIED 4 /* still open: published anew in the next view */

/* Who has arrived when the model begins, each before it saw anything of the others. */
#ifndef ARRIVED
#define ARRIVED 0
#endif
/* Which of these entries everybody holds then. */
#ifndef KNOWN
#define KNOWN 0
#endif
/* Which nodes hold the batch then, its sender among them; 0: it is not sent yet. */
#ifndef HOLDERS_FIRST
#define HOLDERS_FIRST 0
#endif

byte in_flight;    /* sent, and not lost */
byte held[N]; /* of view k, by member */
byte reported[N];             /* the same, as of its last PROMISE */
byte delivered[N]; /* the batch when it is received, entries by epochs */
byte complete[N];             /* epochs delivered */
byte epoch[N];   /* of each arrival; 0 is none yet */
byte epoch_again;
byte ended[N];   /* epochs that each member has closed */
byte outcome[N];
byte verdict;                 /* what the first member that went on was told */

hidden byte result;

#define IN_EPOCH(i, e) (epoch[i] == (e) -> BIT(i) : 0)
#define ENTRIES(e) (IN_EPOCH(0, e) | IN_EPOCH(1, e) | IN_EPOCH(2, e) \
    | (N < 4 -> 0 : IN_EPOCH(N - 1, e)) | (epoch_again == (e) -> AGAIN : 0))
#define ENDED(e) (ended[0] >= (e) && ended[1] >= (e) && ended[2] >= (e) && ended[N - 1] >= (e))

/* Rotated rank order inside an epoch. */
#define PLACE(e, rank) ((e) * N + ((rank) + 4 * N - (e)) % N)
#define WITHDRAWN_IN(seen) (SECOND == WITHDRAWAL && ((seen) & AGAIN) != 0)
#define BEFORE(i) (PLACE(epoch[i], i) < PLACE(epoch_again, LAST))
#define COUNTS(i, seen) (HAS(seen, i) && (!WITHDRAWN_IN(seen) || BEFORE(i)))
#ifdef COUNT_ARRIVALS
#define COMPLETE(seen) (COUNT((seen) & ALL) + (SECOND == ARRIVAL && ((seen) & AGAIN)) >= N)
#else
#define COMPLETE(seen) \
    (COUNTS(0, seen) && COUNTS(1, seen) && COUNTS(2, seen) && COUNTS(N - 1, seen))
#endif

/* What a member does in the open view can be done before the first step of the change as well: it
 * needs nothing that comes later, and all that it needs is there then. So the view works on until
 * the change begins, and from there on only late entries arrive at members that have closed it.
 * -DINTERLEAVED goes without this saving. */
bit changing;
#ifdef INTERLEAVED
#define WORKS_ON true
#else
#define WORKS_ON (!changing)
#endif

#define OPEN(i) (standing[i] == MEMBER && !HAS(closed, i))

inline has_arrived(i) {
    if
    :: HAS(ARRIVED, i) ->
        epoch[i] = 1;
        ended[i] = 1;
        held[i] = BIT(i) | (i == SENDER -> BATCH : 0);
        in_flight = in_flight | held[i]
    :: else
    fi;
    held[i] = held[i] | KNOWN | (HAS(HOLDERS_FIRST, i) -> BATCH : 0);
    in_flight = in_flight | (HOLDERS_FIRST -> BATCH : 0);
    delivered[i] = held[i] & BATCH
}

inline lose_streams(i) {
    in_flight = in_flight & ~OF(i)
}

inline forget_view(i) {
    held[i] = 0;
    delivered[i] = 0;
    complete[i] = 0;
    outcome[i] = 0
}

inline close_streams(i) {
    complete[i] = 0;
    if
    :: (FIRST(everybody) & ~closed) == 0 -> forget_epochs()
    :: else
    fi
}

/* Once nobody delivers any more, epochs matter only for which entry is before which. */
inline forget_epochs() {
    complete[0] = 0; complete[1] = 0; complete[2] = 0; complete[N - 1] = 0;
    ended[0] = 0; ended[1] = 0; ended[2] = 0; ended[N - 1] = 0;
    if
    :: SECOND != WITHDRAWAL ->
        epoch[0] = (epoch[0] != 0); epoch[1] = (epoch[1] != 0); epoch[2] = (epoch[2] != 0);
        epoch[N - 1] = (epoch[N - 1] != 0); epoch_again = (epoch_again != 0)
    :: else
    fi
}

inline begin_change() {
    changing = 1;
#ifndef INTERLEAVED
    forget_epochs()
#endif
}

/* Whoever sees anything of an epoch that it has not closed closes it at once. */
inline see(i, upto) {
    ended[i] = (upto > ended[i] -> upto : ended[i])
}

inline arrive(i) {
    epoch[i] = ended[i] + 1;
    see(i, epoch[i]);
    held[i] = held[i] | BIT(i);
    in_flight = in_flight | BIT(i)
}

inline receive(i, entry, its_epoch) {
    held[i] = held[i] | entry;
    if
    :: OPEN(i) -> see(i, its_epoch)
    :: else
    fi
}

#define EVERYBODY_ARRIVED (epoch[0] && epoch[1] && epoch[2] && epoch[N - 1])
#ifdef IGNORE_MARKS
#define ALL_HERE(i) true
#else
#define ALL_HERE(i) ((delivered[i] & BATCH) != 0)
#endif

inline deliver_epoch(i) {
    complete[i]++;
    delivered[i] = delivered[i] | ENTRIES(complete[i]);
    if
    :: !outcome[i] && !COMPLETE(delivered[i]) && WITHDRAWN_IN(delivered[i]) ->
        outcome[i] = WITHDRAWN
    :: else
    fi;
    return_if_all_here(i)
}

inline deliver_batch(i) {
    held[i] = held[i] | BATCH;
    if
    :: OPEN(i) -> delivered[i] = delivered[i] | BATCH; return_if_all_here(i)
    :: else
    fi
}

/* A party returns once the last arrival is delivered and all that belongs to the arrivals. */
inline return_if_all_here(i) {
    if
    :: ACTS(i) && !outcome[i] && COMPLETE(delivered[i]) && ALL_HERE(i) ->
        assert(EVERYBODY_ARRIVED);          /* barrier safety */
        assert((delivered[i] & BATCH) != 0); /* barrier cut */
        outcome[i] = RELEASED
    :: else
    fi
}

/* The rest up to the cut, and what becomes of the barrier there. */
inline finish(i) {
    assert((cut[decided] & ~held[i]) == 0);       /* who installs holds the cut */
    /* and has delivered nothing above it, so all that go on have delivered the same */
    assert((delivered[i] & ~cut[decided]) == 0);
    if
    :: COMPLETE(cut[decided]) && (cut[decided] & BATCH) ->
        assert(EVERYBODY_ARRIVED);
        result = RELEASED
    :: COMPLETE(cut[decided]) && !(cut[decided] & BATCH) -> result = LEFT
    :: !COMPLETE(cut[decided]) && WITHDRAWN_IN(cut[decided]) -> result = WITHDRAWN
    :: else -> result = (FIRST(members[decided]) == ALL &&
        (!(cut[decided] & BIT(SENDER)) || (cut[decided] & BATCH)) -> CARRIED : LEFT)
    fi;
    /* Barrier uniformity: with what it was told before, and with everybody that goes on. */
    assert(!outcome[i] || outcome[i] == result);
    assert(!verdict || verdict == result);
    verdict = result;
    result = 0
}

/* HOLD: the member fetches what it lacks of the cut from any holder, and answers HELD. */
#define ATTEMPT(i) OWNER(promised[i])
#define HOLDER(i, j) \
    (j != i && HAS(members[promised[i]], j) && standing[j] == MEMBER -> held[j] : 0)
#define HOLDERS(i) (HOLDER(i, 0) | HOLDER(i, 1) | HOLDER(i, 2) | (N < 4 -> 0 : HOLDER(i, N - 1)))
#define MAY_HOLD(i) (standing[i] == MEMBER && promised[i] && phase[ATTEMPT(i)] == HOLD \
    && ballot[ATTEMPT(i)] == promised[i] && HAS(answered[ATTEMPT(i)], i) \
    && (cut[promised[i]] & ~(held[i] | HOLDERS(i))) == 0)

inline hold(i) {
    held[i] = held[i] | cut[promised[i]];
    answered[ATTEMPT(i)] = answered[ATTEMPT(i)] & ~BIT(i)
}

#define MAY_RECEIVE(i, entry) (standing[i] == MEMBER && (in_flight & (entry)) && \
    !(held[i] & (entry)) && (HAS(closed, i) || WORKS_ON))

#if SECOND != NOTHING_MORE
#define SECOND_STEPS \
    :: d_step { me == LAST && WORKS_ON && ACTS(LAST) && epoch[LAST] && !epoch_again && \
        !outcome[LAST] -> \
        epoch_again = ended[LAST] + 1; see(LAST, epoch_again); \
        held[LAST] = held[LAST] | AGAIN; in_flight = in_flight | AGAIN } \
    :: d_step { MAY_RECEIVE(me, AGAIN) && HAS(held[me], LAST) -> \
        receive(me, AGAIN, epoch_again) }
#else
#define SECOND_STEPS
#endif

#if N == 4
#define FOURTH_STEPS \
    :: d_step { MAY_RECEIVE(me, BIT(N - 1)) -> receive(me, BIT(N - 1), epoch[N - 1]) }
#else
#define FOURTH_STEPS
#endif

#ifdef BATCH_ONLY
#define ARRIVES(i) false
#else
#define ARRIVES(i) (ACTS(i) && !epoch[i] && (i != SENDER || (held[SENDER] & BATCH)))
#endif

#define BARRIER_STEPS \
    :: d_step { me == SENDER && WORKS_ON && ACTS(SENDER) && !(held[SENDER] & BATCH) -> \
        in_flight = in_flight | BATCH; deliver_batch(SENDER) } \
    :: d_step { WORKS_ON && ARRIVES(me) -> arrive(me) } \
    :: d_step { MAY_RECEIVE(me, BATCH) -> deliver_batch(me) } \
    :: d_step { MAY_RECEIVE(me, BIT(0)) -> receive(me, BIT(0), epoch[0]) } \
    :: d_step { MAY_RECEIVE(me, BIT(1)) -> receive(me, BIT(1), epoch[1]) } \
    :: d_step { MAY_RECEIVE(me, BIT(2)) -> receive(me, BIT(2), epoch[2]) } \
    FOURTH_STEPS \
    SECOND_STEPS \
    :: d_step { WORKS_ON && OPEN(me) && ENDED(complete[me] + 1) && \
        (ENTRIES(complete[me] + 1) & ~held[me]) == 0 -> deliver_epoch(me) }
