"""`phalanx node`: one node in the foreground, to watch a cluster and to talk through it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path

from phalanx.transport import (
    Batch,
    CarrierChanged,
    Cluster,
    ConfigError,
    Event,
    Evicted,
    EvictedError,
    Message,
    MessageUndelivered,
    MulticastChanged,
    NoQuorum,
    Overloaded,
    PathChanged,
    PeerRefused,
    PhalanxError,
    PrimaryLost,
    PrimaryRegained,
    RecordUnwritable,
    Rejoined,
    StateOverdue,
    UsageError,
    ViewInstalled,
)
from phalanx.transport.config_file import load
from phalanx.transport.core.leases import Quorum

EXIT_FAILED = 1
EXIT_USAGE = 2
READ_BYTES = 1 << 16
BACKGROUND_RETRY_S = 1.0
SEND_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What the command line asks for."""

    config: Path
    name: str
    echo: bool = False
    timeout: float | None = None
    """Seconds until the first view; None waits for ever."""
    rejoin: bool = True
    readmit: bool = False
    force: bool = False


def run(options: NodeOptions) -> int:
    """Run until a signal asks to stop; returns the exit status.

    2 says that the command or the file is wrong, 1 that the machine or the cluster is.
    """
    try:
        asyncio.run(_run(options))
    except PhalanxError as error:
        print(f"phalanx node: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, ConfigError | UsageError) else EXIT_FAILED
    return 0


async def _run(options: NodeOptions) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopped.set)
    with contextlib.suppress(ValueError):
        # In the background of a terminal, reading it is an error for us and not a stop.
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    stopping = asyncio.create_task(stopped.wait())
    node = asyncio.create_task(_node(options))
    await asyncio.wait({stopping, node}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not node.done():
        _log("leaving")
        node.cancel()
        # A second Ctrl-C ends the process at once.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
    with contextlib.suppress(asyncio.CancelledError):
        await node
        return
    _log("left")


async def _node(options: NodeOptions) -> None:
    """Join, watch and talk until cancelled, which leaves in good order."""
    config = load(options.config)
    name = _node_key(options.name)
    try:
        config.node(name)
    except KeyError as error:
        raise UsageError(f"{options.config}: {error.args[0]}") from None
    async with Cluster.join(
        config,
        node=name,
        timeout=options.timeout,
        rejoin=options.rejoin,
        readmit=options.readmit,
        force=options.force,
        deliver=None if options.echo else (),
        on_waiting=lambda words: _log(f"waiting: {words}"),
    ) as cluster:
        _log(f"{cluster.name} (node {cluster.node_id}, start {cluster.incarnation}) has joined")
        watching = asyncio.create_task(_watch(cluster))
        talking = asyncio.create_task(_talk(cluster))
        try:
            await watching
            with contextlib.suppress(asyncio.CancelledError):
                talking.cancel()
                await talking
        finally:
            watching.cancel()
            talking.cancel()


def _node_key(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


# ------------------------------------------------------------------------------------- watching


async def _watch(cluster: Cluster) -> None:
    """Say what happens, until the stream ends."""
    async for event in cluster.batches():
        if isinstance(event, Batch | Message):
            name = cluster.name_of(event.sender)
            payloads = event.payloads if isinstance(event, Batch) else [event.payload]
            lines = [f"{name}: {printable(payload)}\n" for payload in payloads]
            sys.stdout.write("".join(lines))
            sys.stdout.flush()
        else:
            words = _words(cluster, event)
            if words:
                _log(words)


def printable(payload: bytes) -> str:
    """Text of a message; what would steer the terminal is shown as an escape."""
    text = payload.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\t" else ascii(letter)[1:-1] for letter in text
    )


def _words(cluster: Cluster, event: Event) -> str:
    """An event in words, with names instead of ids."""
    name_of = cluster.name_of
    match event:
        case ViewInstalled():
            return _view_words(cluster, event)
        case PathChanged(peer=peer, rail=rail, state=state, primary=primary):
            use = ", carries the traffic" if primary else ""
            return f"path to {name_of(peer)} over rail {rail}: {state.value}{use}"
        case CarrierChanged(peer=peer, multicast=multicast, reason=reason):
            carrier = "the multicast carrier" if multicast else "SCTP"
            return f"{name_of(peer)} is now reached by {carrier}: {reason}"
        case MulticastChanged(peer=peer, rail=rail, arrives=arrives):
            how = "arrive" if arrives else "do not arrive, it is sent its own copies"
            return f"multicasts to {name_of(peer)} over rail {rail} {how}"
        case MessageUndelivered(missing=missing):
            who = ", ".join(f"{name_of(node)} ({why})" for node, why in missing.items())
            return f"a message did not reach {who}"
        case PrimaryLost(reachable=reachable):
            return lost_words(cluster, reachable)
        case PrimaryRegained():
            return "in contact with a majority again"
        case Evicted(view_id=view_id):
            return f"evicted: the cluster went on with view {view_id}"
        case Rejoined(incarnation=incarnation):
            return f"joined again (start {incarnation})"
        case PeerRefused(peer=peer, reason=reason):
            return refused_words(name_of(peer) if peer else "", reason)
        case RecordUnwritable(reason=reason):
            return f"without a vote until the record can be written: {reason}"
        case StateOverdue(donor=donor):
            return f"still waits for the state of the view from {name_of(donor)}"
        case _:
            return ""


def _view_words(cluster: Cluster, event: ViewInstalled) -> str:
    name_of = cluster.name_of
    members = ", ".join(map(name_of, event.view.members))
    changes = [f"{name_of(node)} joined" for node in event.joined]
    changes += [f"{name_of(node)} left: {why}" for node, why in event.left.items()]
    if event.started_over:
        changes.append("the cluster started over: no state of before counts")
    return f"view {event.view.id}: {members}" + (f" ({'; '.join(changes)})" if changes else "")


def lost_words(cluster: Cluster, reachable: Collection[int]) -> str:
    """Why this node may not act: it sees too few, or enough that do not grant it a lease yet."""
    names = ", ".join(map(cluster.name_of, reachable)) or "nobody"
    config = cluster.config
    votes = {node.id: node.votes for node in config.nodes}
    if Quorum(votes, config.quorum.tie_breaker).reached({cluster.node_id, *reachable}):
        return (
            f"not acting: {names} reachable, but not all in the view yet; "
            "lines typed now are refused"
        )
    return f"no contact to a majority any more (reachable: {names}); lines typed now are refused"


def refused_words(name: str, reason: str) -> str:
    """Who turned away whom; without a name the reason says who it was."""
    if not name:
        return reason
    if reason.startswith("it refused us: "):
        return f"{name} refused us: {reason.removeprefix('it refused us: ')}"
    return f"turned away {name}: {reason}"


def _log(words: str) -> None:
    now = time.time()
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    print(f"{clock}.{int(now * 1000) % 1000:03d} {words}", file=sys.stderr, flush=True)


# -------------------------------------------------------------------------------------- talking


async def _talk(cluster: Cluster) -> None:
    """Multicast the lines of standard input; its end does not end the node."""
    rest = b""
    most = cluster.config.limits.message_bytes_max
    async for chunk in _standard_input():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > most:
            _log(f"a line of more than {most} bytes was thrown away")
            rest = b""
        for line in lines:
            await _say(cluster, line)
    if rest:
        await _say(cluster, rest)


async def _say(cluster: Cluster, line: bytes) -> None:
    try:
        await cluster.multicast(line, timeout=SEND_TIMEOUT_S)
    except (NoQuorum, EvictedError, Overloaded, UsageError) as error:
        _log(f"not sent: {error}")


async def _standard_input() -> AsyncIterator[bytes]:
    """What comes on standard input, be it a terminal, a pipe, a file or nothing at all."""
    if sys.stdin is None:
        return  # it was closed, and its number may belong to something else by now
    descriptor = sys.stdin.fileno()
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            while chunk := os.read(descriptor, READ_BYTES):
                yield chunk
            return
    while True:
        if not await _readable(descriptor):
            return
        try:
            chunk = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno != errno.EIO or not os.isatty(descriptor):
                return
            # A terminal says this to its background; one that is gone says it for ever.
            await asyncio.sleep(BACKGROUND_RETRY_S)
            continue
        if not chunk:
            return
        yield chunk


async def _readable(descriptor: int) -> bool:
    """Wait until there is something to read; False if this cannot be waited for."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def arrived() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_reader(descriptor, arrived)
    except OSError:
        return False  # such as /dev/null
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
    return True
