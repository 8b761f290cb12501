/*
 * One change of view with barriers in flight: agreement on view k+1 and its cut, with crashes,
 * restarts and troubles of the network at any point (PROTOCOL 2, 3 and 6).
 *
 * Names are the code's: transport/core/{membership,acceptor,proposal,flush,gather,leases}.py.
 * docs/model.md maps each of them, and says what is not modelled.
 *
 * Messages are sets: once sent they are received at any later time or never. An answer is put
 * at once where its addressee will look for it; when it looks is another step. Time is
 * abstract: a grant runs out where somebody waits for that, so it is relied on to the last.
 *
 * -DN=3            configured nodes, all members of view k
 * -DROUNDS=5       rounds of ballots; needing more is reported as an error
 * -DCRASHES=1      crashes, with or without restart
 * -DTROUBLES=1     cuts, messages lost, time-outs too early, writes that fail
 * -DSECOND=...     what the last node says after its arrival (barrier.pml)
 */

#ifndef N
#define N 3
#endif
#ifndef ROUNDS
#define ROUNDS 5
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef TROUBLES
#define TROUBLES 1
#endif

#ifndef CUTS
#define CUTS 1
#endif
#ifndef PAIRS
#define PAIRS 1
#endif
#ifndef DUELS
#define DUELS 2
#endif

#define BALLOTS (N * ROUNDS)
#define ALL ((1 << N) - 1)
#define BIT(i) (1 << (i))
#define HAS(set, i) (((set) >> (i)) & 1)
#define COUNT(set) (((set) & 1) + (((set) >> 1) & 1) + (((set) >> 2) & 1) + (((set) >> 3) & 1))
/* A set of members has the first incarnations in its low bits, the second ones above. */
#define FIRST(members) ((members) & ALL)
#define NODES(members) (((members) | ((members) >> N)) & ALL)
#define BOTH(i) (BIT(i) | BIT((i) + N))
#define ME(i) BIT((i) + N * again[i])
#ifdef DECIDE_BY_ONE
#define DECIDED_BY(nodes) ((nodes) != 0)
#else
#define DECIDED_BY(nodes) REACHED(nodes)
#endif
#define REACHED(nodes) (2 * COUNT(nodes) > N)

/* Ballots are (round, node), ordered as in the code; 0 is none. */
#define BALLOT(round, node) (((round) - 1) * N + (node) + 1)
#define ROUND(ballot) (((ballot) + N - 1) / N)
#define OWNER(ballot) (((ballot) - 1) % N)

/* standing */
#define MEMBER 0     /* the first incarnation, in view k */
#define NEWCOMER 1   /* restarted: an acceptor that may join */
#define INSTALLED 2  /* in view k+1 */
#define EVICTED 3    /* knows of view k+1 and is not in it */
#define DOWN 4       /* crashed, will start again */
#define DOWN_KNOWING 5 /* the same; its record has view k+1 */
#define DEAD 6       /* crashed for good */
#define UNDECIDED(i) (standing[i] <= NEWCOMER)
#define UP(i) (standing[i] <= EVICTED)

/* phase */
#define NONE 0
#define PREPARE 1
#define HOLD 2
#define ACCEPT 3

/* what waits for the disk */
#define NOTHING 0
#define PROMISE 1
#define ACCEPTANCE 2

byte standing[N];
bit again[N];         /* the second incarnation */
byte everybody = ALL; /* members that are up */
byte target[N] = ALL; /* L as each node sees it */
byte closed;          /* nodes that have closed view k */
byte first_lease;     /* restarted nodes that may not vote yet */
byte given[N] = ALL;  /* by grantor: members whose grant has not run out */

/* acceptor: what is in memory, what waits for the disk, what is durable */
byte promised[N];
byte writing[N];
byte writing_ballot[N];
byte record_promised[N];
byte record_accepted[N];
byte accepted_waits[N]; /* ballot whose ACCEPTED waits for grants to run out */

/* proposer: one attempt each */
byte phase[N];
byte ballot[N];
byte answered[N]; /* promises; members whose HELD is awaited; acceptances */
byte votes[N];
byte best[N];     /* highest ballot accepted among the promises */
byte most[N];     /* the most of each stream among the promises */
byte nacked[N];   /* highest ballot named by a NACK */
byte highest[N];

/* by ballot: the value, and who has not received the message yet */
byte members[BALLOTS + 1];
byte cut[BALLOTS + 1];
byte to_prepare[BALLOTS + 1];
byte to_accept[BALLOTS + 1];
byte next_prepare[N]; /* derived: the lowest ballot of each kind, and the highest of both */
byte next_accept[N];
byte last_sent[N];

byte decided; /* the ballot whose value was decided first */
byte to_install;

/* surroundings: who does not reach whom; a pair, or one node and all others */
#define NOBODY N
byte cut_a = NOBODY;
byte cut_b = NOBODY;
byte crashes = CRASHES;
byte troubles = TROUBLES;

hidden byte each;
hidden byte which;
hidden byte sent;
hidden byte its_round;

#define APART(i, j) (cut_a != NOBODY && (i) != (j) && (cut_a == cut_b \
    -> ((i) == cut_a || (j) == cut_a) \
    : (((i) == cut_a && (j) == cut_b) || ((i) == cut_b && (j) == cut_a))))
/* Between the two of a pair, members of view k stay in; then the lowest id. */
#define LOSER (again[cut_a] > again[cut_b] -> cut_a : cut_b)
#define UNREACHED(i) (cut_a == NOBODY -> 0 \
    : (cut_a == cut_b -> (i == cut_a -> 255 - BOTH(i) : BOTH(cut_a)) \
    : (i == cut_a -> BOTH(cut_b) : (i == cut_b -> BOTH(cut_a) : BOTH(LOSER)))))
#define TRUTH(i) (everybody & ~UNREACHED(i))

#define MISSING(i) (ALL & ~target[i] & everybody)
#define STOPPED(i) (REACHED(NODES(target[i])) -> ALL & ~target[i] : 0)
#define CURRENT_STOPPED(i, j) \
    (!HAS(target[i], j) || standing[j] != MEMBER || (MISSING(i) & ~STOPPED(j)) == 0)

/* may_propose, wants_change, is_due */
#define MAY_PROPOSE(i) (standing[i] == MEMBER && HAS(target[i], i) \
    && (target[i] & (BIT(i) - 1)) == 0 && REACHED(NODES(target[i])) \
    && REACHED(NODES(target[i]) & ~first_lease))
#define WANTS_CHANGE(i) (target[i] != ALL || HAS(closed, i) || (closed & NODES(target[i])) != 0)
#define IS_DUE(i) (HAS(closed, i) || (CURRENT_STOPPED(i, 0) && CURRENT_STOPPED(i, 1) \
    && CURRENT_STOPPED(i, 2) && (N < 4 || CURRENT_STOPPED(i, N - 1))))

/* While a cut lasts, two that do not reach each other may take turns for ever (time and chance
 * end that, not the protocol); they are given so many rounds. */
#define IN_TURN(i) (cut_a == NOBODY || (ROUND(highest[i]) < DUELS && ROUND(promised[i]) < DUELS))

#define GRANTED(i) (HAS(given[0], i) + HAS(given[1], i) + HAS(given[2], i) \
    + (N < 4 -> 0 : HAS(given[N - 1], i)))
#define ACTS(i) (standing[i] == MEMBER && !HAS(closed, i) && 2 * GRANTED(i) > N)

#define INSTALLED_BY ((standing[0] == INSTALLED) + (standing[1] == INSTALLED) \
    + (standing[2] == INSTALLED) + (N < 4 -> 0 : standing[N - 1] == INSTALLED))
#define KNOWS(i) (standing[i] == INSTALLED || standing[i] == EVICTED)
#define SOMEBODY_KNOWS (KNOWS(0) || KNOWS(1) || KNOWS(2) || KNOWS(N - 1))

#include "barrier.pml"

/* ------------------------------------------------------------------------------ bookkeeping */

/* A message of a ballot too low would only be refused: do so at once, and find the next. */
inline tidy(i) {
    next_prepare[i] = 0;
    next_accept[i] = 0;
    last_sent[i] = 0;
    sent = 1;
    do
    :: sent > BALLOTS -> break
    :: else ->
        if
        :: HAS(to_prepare[sent], i) && (!UNDECIDED(i) || sent <= promised[i]) ->
            to_prepare[sent] = to_prepare[sent] & ~BIT(i);
            refuse(i, sent, PREPARE)
        :: HAS(to_prepare[sent], i) && UNDECIDED(i) && sent > promised[i] ->
            next_prepare[i] = (next_prepare[i] -> next_prepare[i] : sent);
            last_sent[i] = sent
        :: else
        fi;
        if
        :: HAS(to_accept[sent], i) && (!UNDECIDED(i) || sent < promised[i]) ->
            to_accept[sent] = to_accept[sent] & ~BIT(i);
            refuse(i, sent, ACCEPT)
        :: HAS(to_accept[sent], i) && UNDECIDED(i) && sent >= promised[i] ->
            next_accept[i] = (next_accept[i] -> next_accept[i] : sent);
            last_sent[i] = sent
        :: else
        fi;
        sent++
    od;
    sent = 0
}

/* NACK, if that attempt still runs; a node that has decided answers by INSTALL instead. */
inline refuse(i, b, during) {
    if
    :: UNDECIDED(i) && phase[OWNER(b)] == during && ballot[OWNER(b)] == b ->
        nacked[OWNER(b)] = (promised[i] > nacked[OWNER(b)] -> promised[i] : nacked[OWNER(b)])
    :: else
    fi
}

/* Forget the values of ballots that nobody can speak of any more. */
inline sweep() {
    which = 1;
    do
    :: which > BALLOTS -> break
    :: else ->
        if
        :: members[which] && !to_prepare[which] && !to_accept[which] && decided != which &&
            ballot[OWNER(which)] != which ->
            each = 0;
            do
            :: each == N -> members[which] = 0; cut[which] = 0; break
            :: each < N && (record_accepted[each] == which || accepted_waits[each] == which ||
                writing_ballot[each] == which || best[each] == which) -> break
            :: else -> each++
            od
        :: else
        fi;
        which++
    od;
    each = 0;
    which = 0
}

inline forget_attempt(i) {
    phase[i] = NONE;
    ballot[i] = 0;
    answered[i] = 0;
    votes[i] = 0;
    best[i] = 0;
    most[i] = 0;
    nacked[i] = 0
}

/* ---------------------------------------------------------------------------- the proposer */

inline begin(i) {
    highest[i] = (promised[i] > highest[i] -> promised[i] : highest[i]);
    its_round = ROUND(highest[i]) + 1;
    assert(its_round <= ROUNDS); /* else they could go on for ever */
    if
    :: !HAS(closed, i) ->
        /* All grants of L to those that are missing have run out. */
        each = 0;
        do
        :: each == N -> break
        :: else ->
            given[each] = (HAS(target[i], each) && standing[each] == MEMBER
                -> given[each] & ~MISSING(i) : given[each]);
            each++
        od
    :: else
    fi;
    phase[i] = PREPARE;
    ballot[i] = BALLOT(its_round, i);
    highest[i] = ballot[i];
    members[ballot[i]] = target[i];
    to_prepare[ballot[i]] = NODES(target[i]);
    tidy_all();
    receive_prepare(i, ballot[i])
}

inline tidy_all() {
    each = 0;
    do
    :: each == N -> break
    :: else -> tidy(each); each++
    od
}

/* Abort: everything of the attempt goes, the closure and the record stay. */
inline give_up(i) {
    highest[i] = (nacked[i] > highest[i] -> nacked[i] : highest[i]);
    forget_attempt(i);
#ifdef REOPEN_ON_ABORT
    closed = closed & ~BIT(i);
#endif
    look_around(i);
    sweep()
}

/* News of who is there is faster than the wait before the next attempt. */
inline look_around(i) {
    target[i] = TRUTH(i);
    given[i] = (HAS(closed, i) -> given[i] : given[i] | (target[i] & ALL & ~closed))
}

inline timed_out(i) {
    troubles = (troubles -> troubles - 1 : 0);
    give_up(i)
}

#define ALL_PROMISED(i) (phase[i] == PREPARE && answered[i] == NODES(members[ballot[i]]))

/* The value accepted under the highest ballot; its members hold its cut already. */
inline adopt(i) {
    members[ballot[i]] = members[best[i]];
    cut[ballot[i]] = cut[best[i]];
    ask_accept(i)
}

inline choose(i) {
    cut[ballot[i]] = most[i];
    phase[i] = HOLD;
    answered[i] = 0;
    each = 0;
    do
    :: each == N -> break
    :: else ->
        if
        :: HAS(FIRST(members[ballot[i]]), each) && (cut[ballot[i]] & ~reported[each]) ->
            answered[i] = answered[i] | BIT(each)
        :: else
        fi;
        each++
    od;
    each = 0;
#ifdef SKIP_HOLD
    answered[i] = 0;
#endif
    if
    :: answered[i] == 0 -> ask_accept(i)
    :: else
    fi
}

inline ask_accept(i) {
    phase[i] = ACCEPT;
    answered[i] = 0;
    votes[i] = 0;
    best[i] = 0;
    most[i] = 0;
    to_accept[ballot[i]] = ALL;
    tidy_all();
    sweep();
    if
    :: next_accept[i] == ballot[i] && writing[i] == NOTHING -> receive_accept(i, ballot[i])
    :: else
    fi
}

inline decide(i) {
    /* Agreement: one view with one cut; and it is primary. */
    assert(decided == 0 ||
        (members[decided] == members[ballot[i]] && cut[decided] == cut[ballot[i]]));
    assert(REACHED(NODES(members[ballot[i]])) && FIRST(members[ballot[i]]) != 0);
    decided = (decided -> decided : ballot[i]);
    to_install = ALL;
    learn(i)
}

/* ---------------------------------------------------------------------------- the acceptor */

inline close(i, b) {
    closed = closed | BIT(i);
    promised[i] = b;
    /* It acts no more, so nobody's grant to it matters. */
    given[0] = given[0] & ~BIT(i);
    given[1] = given[1] & ~BIT(i);
    given[2] = given[2] & ~BIT(i);
    given[N - 1] = given[N - 1] & ~BIT(i);
    close_streams(i)
}

inline receive_prepare(i, b) {
    to_prepare[b] = to_prepare[b] & ~BIT(i);
    if
    :: (members[b] & ME(i)) == 0 || APART(i, OWNER(b)) ->
        which = b;
        refuse(i, which, PREPARE);
        tidy(i)
    :: else ->
        which = b;
        close(i, which);
        tidy(i);
        if
        :: HAS(first_lease, i) -> report(i, which)
        :: else -> writing[i] = PROMISE; writing_ballot[i] = which
        fi
    fi;
    which = 0
}

/* PROMISE, with what was accepted before and what is held of view k. */
inline report(i, b) {
    if
    :: standing[i] == MEMBER -> reported[i] = held[i]
    :: else
    fi;
    if
    :: phase[OWNER(b)] == PREPARE && ballot[OWNER(b)] == b ->
        answered[OWNER(b)] = answered[OWNER(b)] | BIT(i);
        most[OWNER(b)] = most[OWNER(b)] | (standing[i] == MEMBER -> held[i] : 0);
#ifndef ADOPT_NOTHING
        best[OWNER(b)] =
            (record_accepted[i] > best[OWNER(b)] -> record_accepted[i] : best[OWNER(b)])
#endif
    :: else
    fi
}

inline promise_durable(i) {
    record_promised[i] = writing_ballot[i];
    report(i, writing_ballot[i]);
    if
    :: phase[OWNER(writing_ballot[i])] == PREPARE &&
        ballot[OWNER(writing_ballot[i])] == writing_ballot[i] ->
        votes[OWNER(writing_ballot[i])] = votes[OWNER(writing_ballot[i])] | BIT(i)
    :: else
    fi;
    written(i)
}

inline written(i) {
    writing[i] = NOTHING;
    writing_ballot[i] = 0
}

inline receive_accept(i, b) {
    which = b;
    to_accept[which] = to_accept[which] & ~BIT(i);
    if
    :: HAS(first_lease, i)
    :: else ->
        close(i, which);
        writing[i] = ACCEPTANCE;
        writing_ballot[i] = which
    fi;
    which = 0;
    tidy(i)
}

#ifdef ACCEPT_BEFORE_GRANTS_OUT
#define MUST_WAIT(i) false
#else
/* A restarted acceptor does not remember whom it had granted. */
#define MUST_WAIT(i) (!again[i] && (given[i] & ~members[accepted_waits[i]]) != 0)
#endif

inline acceptance_durable(i) {
    record_promised[i] = writing_ballot[i];
    record_accepted[i] = writing_ballot[i];
    accepted_waits[i] = writing_ballot[i];
    written(i);
    sweep();
    if
    :: !MUST_WAIT(i) -> say_accepted(i)
    :: else
    fi
}

/* Its own grants to members that the value leaves out have run out by now. */
inline say_accepted(i) {
    given[i] = (MUST_WAIT(i) -> given[i] & members[accepted_waits[i]] : given[i]);
    if
    :: phase[OWNER(accepted_waits[i])] == ACCEPT &&
        ballot[OWNER(accepted_waits[i])] == accepted_waits[i] ->
        answered[OWNER(accepted_waits[i])] = answered[OWNER(accepted_waits[i])] | BIT(i)
    :: else
    fi;
    accepted_waits[i] = 0
}

/* ----------------------------------------------------------------------------- the learner */

#define MAY_LEARN(i) (UNDECIDED(i) && decided && (HAS(to_install, i) || SOMEBODY_KNOWS))

inline learn(i) {
    to_install = to_install & ~BIT(i);
    forget_attempt(i);
    written(i);
    accepted_waits[i] = 0;
    highest[i] = 0;
    target[i] = 0;
    if
    :: members[decided] & ME(i) ->
        assert(HAS(closed, i)); /* else its record is lost */
        if
        :: standing[i] == MEMBER -> finish(i)
        :: else
        fi;
        standing[i] = INSTALLED
    :: else ->
        close(i, promised[i]);
        standing[i] = EVICTED
    fi;
    forget_view(i);
    promised[i] = 0;
    tidy(i);
    sweep();
    /* One primary: once a quorum grants in view k+1, nobody acts in view k. */
    assert(2 * INSTALLED_BY <= N || !(ACTS(0) || ACTS(1) || ACTS(2) || ACTS(N - 1)))
}

/* ------------------------------------------------------------------------- crash and restart */

inline crash(i) {
    everybody = everybody & ~BOTH(i);
    forget_attempt(i);
    written(i);
    accepted_waits[i] = 0;
    highest[i] = 0;
    target[i] = 0;
    promised[i] = 0;
    close(i, 0);
    closed = closed & ~BIT(i);
    first_lease = first_lease & ~BIT(i);
    to_install = to_install & ~BIT(i);
    forget_view(i);
    tidy(i);
    sweep()
}

/* What it had sent is lost with its associations. */
inline lose_in_flight(i) {
    each = i + 1;
    do
    :: each > BALLOTS -> break
    :: else -> to_prepare[each] = 0; to_accept[each] = 0; each = each + N
    od;
    to_install = (decided && OWNER(decided) == i -> 0 : to_install);
    lose_streams(i);
    tidy_all();
    sweep();
    each = 0
}

inline restart(i) {
    again[i] = 1;
    everybody = everybody | ME(i);
#ifdef PROMISE_NOT_DURABLE
    record_promised[i] = 0;
#endif
#ifdef FORGET_ACCEPTED
    record_accepted[i] = 0;
#endif
    promised[i] = record_promised[i];
    standing[i] = (standing[i] == DOWN_KNOWING -> EVICTED : NEWCOMER);
#ifndef VOTE_AT_ONCE
    first_lease = (standing[i] == NEWCOMER -> first_lease | BIT(i) : first_lease);
#endif
    tidy(i)
}

/* ------------------------------------------------------------------------------- the nodes */

proctype node(byte me) {
end:
    do
    /* acceptor */
    :: atomic { next_prepare[me] && writing[me] == NOTHING ->
        d_step { true -> receive_prepare(me, next_prepare[me]) } }
    :: atomic { next_accept[me] && writing[me] == NOTHING ->
        d_step { true -> receive_accept(me, next_accept[me]) } }
    :: atomic { writing[me] == PROMISE ->
        d_step { true -> promise_durable(me) } }
    :: atomic { writing[me] == ACCEPTANCE ->
        d_step { true -> acceptance_durable(me) } }
    :: atomic { accepted_waits[me] ->
        d_step { true -> say_accepted(me) } }
    :: atomic { HAS(first_lease, me) ->
        d_step { true -> /* A lease after its start every grant of its former life has run out. */
            given[me] = 0; first_lease = first_lease & ~BIT(me) } }
    :: atomic { MAY_LEARN(me) && phase[me] == NONE ->
        d_step { true -> learn(me) } }

    /* gather */
    :: atomic { standing[me] == MEMBER && target[me] != TRUTH(me) ->
        d_step { true -> look_around(me) } }

    /* proposer */
    :: atomic { phase[me] == NONE && MAY_PROPOSE(me) && WANTS_CHANGE(me) && IS_DUE(me) &&
        IN_TURN(me) && writing[me] == NOTHING ->
        d_step { true -> begin(me) } }
    :: atomic { ALL_PROMISED(me) && REACHED(votes[me]) && best[me] ->
        d_step { true -> adopt(me) } }
    :: atomic { ALL_PROMISED(me) && REACHED(votes[me]) && !best[me] ->
        d_step { true -> choose(me) } }
    :: atomic { phase[me] == HOLD && answered[me] == 0 ->
        d_step { true -> ask_accept(me) } }
    :: atomic { phase[me] == ACCEPT && DECIDED_BY(answered[me]) ->
        d_step { true -> decide(me) } }

    /* a member that is asked to hold the cut */
    :: atomic { MAY_HOLD(me) ->
        d_step { true -> hold(me) } }

    /* every way in which an attempt ends; none of these may be unreached */
    :: atomic { ALL_PROMISED(me) && !REACHED(votes[me]) ->
        d_step { true -> give_up(me) } /* abort: no quorum of votes */ }
    :: atomic { phase[me] == PREPARE && (members[ballot[me]] & ~target[me]) ->
        d_step { true -> give_up(me) } /* abort: suspicion in PREPARE */ }
    :: atomic { phase[me] == HOLD && (members[ballot[me]] & ~target[me]) ->
        d_step { true -> give_up(me) } /* abort: suspicion in HOLD */ }
    :: atomic { phase[me] == PREPARE && nacked[me] ->
        d_step { true -> give_up(me) } /* abort: NACK in PREPARE */ }
    :: atomic { phase[me] == ACCEPT && nacked[me] ->
        d_step { true -> give_up(me) } /* abort: NACK in ACCEPT */ }
    :: atomic { phase[me] == PREPARE && (troubles || timeout) ->
        d_step { true -> timed_out(me) } /* abort: time-out in PREPARE */ }
    :: atomic { phase[me] == HOLD && (troubles || timeout) ->
        d_step { true -> timed_out(me) } /* abort: time-out in HOLD */ }
    :: atomic { phase[me] == ACCEPT && (troubles || timeout) ->
        d_step { true -> timed_out(me) } /* abort: time-out in ACCEPT */ }
    :: atomic { phase[me] == PREPARE && MAY_LEARN(me) ->
        d_step { true -> learn(me) } /* abort: a view is learned in PREPARE */ }
    :: atomic { phase[me] == HOLD && MAY_LEARN(me) ->
        d_step { true -> learn(me) } /* abort: a view is learned in HOLD */ }
    :: atomic { phase[me] == ACCEPT && MAY_LEARN(me) ->
        d_step { true -> learn(me) } /* abort: a view is learned in ACCEPT */ }

    /* view k works on */
#ifndef QUIET
    BARRIER_STEPS
#endif

    /* crash and restart */
    :: atomic { changing && crashes && UP(me) ->
        crashes--;
        if
        :: standing[me] = (KNOWS(me) -> DOWN_KNOWING : DOWN)
        :: KNOWS(me) -> standing[me] = DOWN
        :: standing[me] = DEAD
        fi;
        standing[me] = (again[me] -> DEAD : standing[me]);
        if /* what waited for the disk is durable, or is not */
        :: writing[me] != NOTHING ->
            record_promised[me] = writing_ballot[me];
            record_accepted[me] = (writing[me] == ACCEPTANCE -> writing_ballot[me]
                : record_accepted[me])
        :: true
        fi;
        d_step { crash(me) };
        if
        :: true
        :: d_step { true -> lose_in_flight(me) }
        fi }
    :: atomic { standing[me] == DOWN || standing[me] == DOWN_KNOWING ->
        d_step { true -> restart(me) } }

    /* troubles: a message is lost, or a write fails */
    :: atomic { next_prepare[me] && (troubles || last_sent[me] > next_prepare[me]) ->
        d_step { true ->
            troubles = (last_sent[me] > next_prepare[me] -> troubles : troubles - 1);
            to_prepare[next_prepare[me]] = to_prepare[next_prepare[me]] & ~BIT(me);
            tidy(me); sweep() } }
    :: atomic { next_accept[me] && (troubles || last_sent[me] > next_accept[me]) ->
        d_step { true ->
            troubles = (last_sent[me] > next_accept[me] -> troubles : troubles - 1);
            to_accept[next_accept[me]] = to_accept[next_accept[me]] & ~BIT(me);
            tidy(me); sweep() } }
    :: atomic { troubles && writing[me] == PROMISE ->
        d_step { true -> /* the PROMISE is lost */
            troubles--; record_promised[me] = writing_ballot[me]; written(me) } }
    :: atomic { troubles && writing[me] == PROMISE ->
        d_step { true -> /* not durable: no vote */
            troubles--; report(me, writing_ballot[me]); written(me) } }
    :: atomic { troubles && writing[me] == ACCEPTANCE ->
        d_step { true -> /* the ACCEPTED is lost */
            troubles--; record_promised[me] = writing_ballot[me];
            record_accepted[me] = writing_ballot[me]; written(me); sweep() } }
    :: atomic { troubles && writing[me] == ACCEPTANCE ->
        d_step { true -> /* not durable: nothing is said */
            troubles--; written(me); sweep() } }
    od
}

/* -------------------------------------------------------------------------- the surroundings */

#define ALL_LEARNED (!(UNDECIDED(0) || UNDECIDED(1) || UNDECIDED(2) || UNDECIDED(N - 1)))
#define AS_IT_WAS (decided == 0 && everybody == ALL && closed == 0)

/* Once faults stop: whoever could agree has done so. */
#define SETTLED (!REACHED(NODES(everybody)) || FIRST(everybody) == 0 || ALL_LEARNED || AS_IT_WAS)

inline cut_off() {
    if
    :: cut_a = 0; cut_b = 0
    :: cut_a = 1; cut_b = 1
    :: cut_a = 2; cut_b = 2
    :: PAIRS -> cut_a = 0; cut_b = 1
    :: PAIRS -> cut_a = 0; cut_b = 2
    :: PAIRS -> cut_a = 1; cut_b = 2
#if N == 4
    :: cut_a = 3; cut_b = 3
    :: PAIRS -> cut_a = 0; cut_b = 3
    :: PAIRS -> cut_a = 1; cut_b = 3
    :: PAIRS -> cut_a = 2; cut_b = 3
#endif
    fi
}

proctype surroundings() {
    do
    :: atomic { !changing ->
        begin_change();
        /* The reason of it all: somebody is cut off, or the first crash. */
        if
        :: CUTS -> cut_off()
        :: true
        fi }
    :: atomic { changing && CUTS && troubles && cut_a == NOBODY && !decided ->
        troubles--; cut_off() }
    :: d_step { cut_a != NOBODY -> cut_a = NOBODY; cut_b = NOBODY }
    :: timeout && SETTLED -> break
    od
}

init {
    atomic {
        d_step {
            has_arrived(0);
            has_arrived(1);
            has_arrived(2);
#if N == 4
            has_arrived(3)
#endif
        };
        run node(0);
        run node(1);
        run node(2);
#if N == 4
        run node(3);
#endif
        run surroundings()
    }
}
