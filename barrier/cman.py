"""cman's barrier API, for those who know it: its names, its attributes, its return codes.

Red Hat's cman (kernel 2004, daemon 2005) let a program `register` a named barrier, `change` its
attributes, `wait` at it and `delete` it. `CmanBarriers` has the same calls, which return 0 or a
negative errno and raise nothing that cman answered by a code. Underneath is `Barriers`, so that
whatever the outcome is, it is decided at one position of the agreed order. What differs, and why:

* cman counted WAIT messages, whoever sent them; here parties are (node, incarnation), so that
  nobody counts twice.
* A message carried a name only, so that a late COMPLETE hit the next use of it; here a use is
  named by the place in the order where it began.
* A WAIT for a name that was not registered yet was dropped; here an arrival stands, whoever
  registers when.
* Two rounds, 2N multicasts; here one agreed entry for each party.
* MULTISTEP was refused, and a barrier used once; here a complete one may be used again (`wait`).
* After a death the kernel said -ESRCH, and since August 2005 nobody was woken; here every party
  gets -ESRCH.
* nodes=0 was not looked at again after a death, and hung; here those who are left meet among
  themselves. It means the members when the first one arrives, not those of each moment.
* A time-out was local, and the others waited on; here every party gets -ETIMEDOUT.
* Different counts were not noticed; here every party gets -EINVAL.
* `delete` freed the barrier under those who waited, and told nobody; here they get -ENOENT, and
  the other parties -EINVAL at once.
* After a signal every later wait returned -EINTR at once; here, after `interrupt`, the arrival
  stands and may be waited for again. (A task that is cancelled raises as any other.)
* NODES of an active barrier returned with a lock held; here -EINVAL, as was meant.
* An unknown attribute or flag was taken and did nothing; here -EINVAL.
* Who was no member got -ENOENT or -ENOTCONN; here -ENOTCONN, which a node without a majority
  gets as well.
* libcman let a name of 33 bytes pass, one too many for the daemon; here at most 32, of UTF-8.

As in cman, names are a namespace of their own. With a count, the death of *any* member breaks the
barrier, for nobody can know whether it was waited for. The flags MANUAL, ENABLED and CALLBACK of
`register` are kept and have no effect: `change` arrives, and sets the callback.
"""

from __future__ import annotations

import asyncio
import errno

from phalanx.transport import Cluster
from phalanx.transport.calls import FOREVER_S
from phalanx.transport.config import NODES_MAX
from phalanx.transport.errors import (
    BarrierBroken,
    BarrierMismatch,
    BarrierTimeout,
    NoQuorum,
    Overloaded,
    PhalanxError,
    UsageError,
)
from phalanx.transport.events import Position, View, ViewId

from .cman_state import (
    KNOWN_FLAGS,
    SWITCHES,
    TIMEOUT_S_MAX,
    Attribute,
    Callback,
    Flag,
    Registered,
    Use,
    is_name,
    is_number,
    wake,
)
from .events import GenerationStatus
from .service import Barriers

__all__ = ["Attribute", "Callback", "CmanBarriers", "Flag"]

PREFIX = "cman:"
"""Before the name of each barrier of ours among those of the cluster."""


class CmanBarriers:
    """The barriers of a node as cman had them; `CmanBarriers(cluster)` twice is the same.

    Every call is made in the cluster's event loop.

    Raises:
        UsageError: by every call from another event loop or process, and if the cluster was
            joined before `phalanx.barrier` was imported.
    """

    _cluster: Cluster
    _barriers: Barriers
    _registered: dict[str, Registered]
    _view: View | None
    _lost_in: ViewId | None
    """The last view in which a member of the one before was missing."""

    def __new__(cls, cluster: Cluster) -> CmanBarriers:
        """The face of this cluster."""
        face, fresh = cluster.layer_face, super().__new__(cls)
        face.check_caller()
        return face.service(CmanBarriers, lambda: fresh._begun(cluster))

    def _begun(self, cluster: Cluster) -> CmanBarriers:
        self._cluster = cluster
        self._barriers = Barriers(cluster)
        self._registered = {}
        self._view = None
        self._lost_in = None
        self._look_at_view()
        cluster.layer_face.add_layer_listener(self._turned)
        return self

    # ------------------------------------------------------------------------------- the calls

    async def register(self, name: str, flags: int = 0, nodes: int = 0) -> int:
        """Make a barrier known to this node; nobody else is told.

        Args:
            name: 1 to 32 bytes of UTF-8.
            flags: AUTODELETE 1 (it is deleted when complete), MULTISTEP 2 (it may be used again);
                MANUAL 4, ENABLED 8 and CALLBACK 16 have no effect.
            nodes: how many nodes have to come; 0 means all members.

        Returns:
            0, also if it was registered with the same `nodes` before; -ENOTCONN if this node is
            no member or has no majority; -EINVAL for a bad argument, or if it was registered
            with another number.
        """
        self._cluster.layer_face.check_caller()
        if self._cluster.detached:
            return -errno.ENOTCONN
        if not is_name(name) or not is_number(nodes, NODES_MAX):
            return -errno.EINVAL
        if not is_number(flags, KNOWN_FLAGS):
            return -errno.EINVAL
        known = self._registered.get(name)
        if known is not None:
            return 0 if known.nodes == nodes else -errno.EINVAL
        self._registered[name] = Registered(name=name, flags=int(flags), nodes=int(nodes))
        return 0

    async def change(self, name: str, attribute: int, value: int | Callback | None) -> int:
        """Set an attribute of a barrier at this node.

        * AUTODELETE 1, MULTISTEP 2: on or off, at any time.
        * ENABLED 3: 1 arrives without waiting (a split-phase barrier); 0 is -EINVAL.
        * NODES 4: how many nodes have to come; before the arrival only, else -EINVAL.
        * CALLBACK 5: a function or None; called from the event loop with the name and the code,
          once for each use; before the arrival only.
        * TIMEOUT 6: whole seconds from the arrival on, 0 for none; before the arrival only.

        Returns:
            0, also (and without any effect) if the barrier is complete and not MULTISTEP;
            -ENOENT if it is not registered; -EINVAL; for ENABLED whatever kept it from arriving.
        """
        self._cluster.layer_face.check_caller()
        barrier = self._registered.get(name)
        if barrier is None:
            return -errno.ENOENT
        if barrier.complete and not barrier.multistep:
            return 0
        match attribute:
            case Attribute.AUTODELETE | Attribute.MULTISTEP:
                switch = SWITCHES[Attribute(attribute)]
                barrier.flags = barrier.flags | switch if value else barrier.flags & ~switch
                return 0
            case Attribute.ENABLED:
                return await self._enable(barrier) if value else -errno.EINVAL
            case _ if barrier.active:
                return -errno.EINVAL
            case Attribute.NODES if is_number(value, NODES_MAX):
                barrier.nodes = int(value)
            case Attribute.TIMEOUT if is_number(value, TIMEOUT_S_MAX):
                barrier.timeout_s = int(value)
            case Attribute.CALLBACK if value is None or callable(value):
                barrier.callback = value
            case _:
                return -errno.EINVAL
        return 0

    async def wait(self, name: str) -> int:
        """Arrive, if that is not done, and wait for the others.

        A complete barrier returns its code again and again. With MULTISTEP the code of each use
        is returned to those who wait when it is there, or to the next who asks; whoever asks
        after that arrives anew. Cancelling the task ends this wait alone: the arrival stands.

        Returns:
            0 if all have come; -ENOENT if it is not registered, or deleted meanwhile; -ESRCH if
            a node died (with nodes=0 those who are left go on); -ETIMEDOUT if a party's time was
            up; -EINVAL if the parties disagree on the number, or one has deleted or cancelled it;
            -ENOTCONN if this node is no member, has no majority or has cancelled it; -EINTR after
            `interrupt`; -ENOMEM if too many barriers are open.
        """
        self._cluster.layer_face.check_caller()
        if self._cluster.detached:
            return -errno.ENOTCONN
        barrier = self._registered.get(name)
        if barrier is None:
            return -errno.ENOENT
        use = barrier.use
        if use is not None and use.code is not None and not (barrier.multistep and use.told):
            use.told = True
            return use.code
        if not barrier.active:
            self._begin(barrier)
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        barrier.waiters.add(waiter)
        try:
            return await waiter
        finally:
            barrier.waiters.discard(waiter)

    async def delete(self, name: str) -> int:
        """Forget a barrier; an arrival that stands is taken back, which breaks it for all.

        Returns:
            0, or -ENOENT if it is not registered.
        """
        return self._drop(name, -errno.ENOENT)

    async def cancel(self, name: str) -> int:
        """Give a barrier up: those who wait at this node get -ENOTCONN, the callback -ECONNRESET.

        Returns:
            0, or -ENOENT if it is not registered.
        """
        barrier = self._registered.get(name)
        result = self._drop(name, -errno.ENOTCONN, callback_code=-errno.ECONNRESET)
        if barrier is not None and not barrier.flags & Flag.AUTODELETE:
            self._registered[name] = barrier
        return result

    async def interrupt(self, name: str) -> int:
        """What a signal did: those who wait at this node get -EINTR. The arrival stands.

        Returns:
            0, or -ENOENT if it is not registered.
        """
        self._cluster.layer_face.check_caller()
        barrier = self._registered.get(name)
        if barrier is None:
            return -errno.ENOENT
        wake(barrier, -errno.EINTR)
        return 0

    # ------------------------------------------------------------------------------- one use

    def _drop(self, name: str, code: int, *, callback_code: int | None = None) -> int:
        self._cluster.layer_face.check_caller()
        barrier = self._registered.pop(name, None)
        if barrier is None:
            return -errno.ENOENT
        use = barrier.use or Use(asyncio.get_running_loop().create_future())
        barrier.use = use
        if use.code is None:
            self._complete(barrier, use, code, callback_code=callback_code)
            if use.task is not None:
                use.task.cancel()  # which takes the arrival back
        return 0

    async def _enable(self, barrier: Registered) -> int:
        if not barrier.active:
            self._begin(barrier)
        assert barrier.use is not None, "it has just begun, or is active"
        return await asyncio.shield(barrier.use.arrived)

    def _begin(self, barrier: Registered) -> None:
        loop = asyncio.get_running_loop()
        use = barrier.use = Use(loop.create_future())
        use.task = loop.create_task(self._follow(barrier, use))

    async def _follow(self, barrier: Registered, use: Use) -> None:
        code = await self._meet(barrier, use)
        if use.code is None:
            self._complete(barrier, use, code, callback_code=code)

    def _complete(
        self, barrier: Registered, use: Use, code: int, *, callback_code: int | None
    ) -> None:
        """A use has its outcome."""
        use.code = code
        use.told = any(not waiter.done() for waiter in barrier.waiters)
        if not use.arrived.done():
            use.arrived.set_result(code)
        wake(barrier, code)
        if barrier.callback is not None and callback_code is not None:
            asyncio.get_running_loop().call_soon(barrier.callback, barrier.name, callback_code)
            if not barrier.multistep:
                barrier.callback = None
        if barrier.flags & Flag.AUTODELETE and self._registered.get(barrier.name) is barrier:
            del self._registered[barrier.name]

    async def _meet(self, barrier: Registered, use: Use) -> int:
        """Arrive and wait until there is a code; with nodes=0 those who are left go on."""
        try:
            use.arrival = await self._barriers.arrive(
                PREFIX + barrier.name,
                parties=barrier.nodes or None,
                timeout=barrier.timeout_s or FOREVER_S,
                policy="break" if barrier.nodes else "shrink",
            )
        except UsageError:  # as many waits are open as a node may have
            return -errno.ENOMEM
        except BarrierTimeout:  # while messages sent before were not acknowledged
            return -errno.ETIMEDOUT
        except PhalanxError:  # cut off, or ended, for whatever reason
            return -errno.ENOTCONN
        if not use.arrived.done():
            use.arrived.set_result(0)
        try:
            await use.arrival.wait()
        except BarrierMismatch:  # told to all parties alike
            return -errno.EINVAL
        except BarrierTimeout:
            return -errno.ETIMEDOUT
        except BarrierBroken as broken:
            return self._code_of(broken)
        except NoQuorum:
            return -errno.ENOTCONN
        except Overloaded:
            return -errno.ENOMEM
        finally:
            use.arrival = None
        return 0

    def _code_of(self, broken: BarrierBroken) -> int:
        """The same at every party: it follows from what all of them are told."""
        if broken.reason.endswith(" timed out"):
            return -errno.ETIMEDOUT
        if not broken.reason.startswith("cancelled by node "):
            return -errno.ESRCH
        generation = broken.generation
        return (
            -errno.ESRCH
            if generation is not None and self._lost_since(generation)
            else -errno.EINVAL
        )

    # ------------------------------------------------------------------------- looking around

    def _turned(self) -> None:
        """After each turn of the cluster: does an arrival stand that should not?"""
        self._look_at_view()
        standing = {
            PREFIX + barrier.name: (barrier, barrier.use)
            for barrier in self._registered.values()
            if barrier.use is not None and barrier.use.arrival is not None
        }
        if not standing:
            return
        for status in self._barriers.open():
            barrier, use = standing.get(status.name, (None, None))
            if barrier is None or use is None or use.taken_back or not self._is_in(status):
                continue
            if barrier.nodes and self._lost_since(status.generation):
                assert use.arrival is not None, "it stands"
                use.taken_back = True
                use.arrival.take_back()

    def _look_at_view(self) -> None:
        try:
            view = self._cluster.view
        except PhalanxError:
            return  # There is none at the moment.
        before, self._view = self._view, view
        if before is not None and not set(before.incarnations) <= set(view.incarnations):
            self._lost_in = view.id

    def _lost_since(self, generation: Position) -> bool:
        """Whether a member has gone since a generation began."""
        return self._lost_in is not None and ViewId(generation.era, generation.k) < self._lost_in

    def _is_in(self, status: GenerationStatus) -> bool:
        return any(member.node == self._cluster.node_id for member in status.arrived)
