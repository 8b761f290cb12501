"""Open MPI over TCP: a job with a rank on each host, started by its own mpirun on the first."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import shlex
import sys
from contextlib import AbstractContextManager

import msgspec

from .lines import Task
from .machine import first_line, missing_package, missing_tools, package_version
from .stage import Stage

_PREFIX = 24
"""Of the networks of a lab's rails."""
_AGENT = """#!/bin/sh
# What mpirun starts on another host, inside the namespace of that host.
host=$1
shift
case $host in
{cases}esac
echo "no host $host" >&2
exit 1
"""


class OpenMpi:
    """The peer that waits by looking again and again, and survives nothing."""

    name = "openmpi"

    def missing(self) -> list[str]:
        """What is not installed here, each with what to do about it."""
        return [
            *missing_tools(mpirun="openmpi-bin"),
            *missing_package("mpi4py", needs="libopenmpi-dev"),
        ]

    def version(self) -> str:
        """Of the library and of the binding."""
        found = re.search(r"\d+(\.\d+)+", first_line("mpirun", "--version"))
        return f"{found[0] if found else 'unknown'} with mpi4py {package_version('mpi4py')}"

    def up(self, stage: Stage, nodes: int) -> AbstractContextManager[object]:
        """There is nothing to start besides its members."""
        del stage, nodes
        return contextlib.nullcontext()

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """On the first host the job; on the others who has nothing to say, and says so."""
        lab, hosts = stage.lab, stage.hosts(task.nodes)
        rail = lab.rails[0]
        addresses = [lab.address(rail, host) for host in hosts]
        cases = ""
        for host, address in zip(hosts, addresses, strict=True):
            inside = shlex.join(lab.command(host, ["sh", "-c"]))
            cases += f'{address}) exec {inside} "$*" ;;\n'
        agent = stage.folder / "mpi-agent.sh"
        agent.write_text(_AGENT.format(cases=cases), encoding="utf-8")
        agent.chmod(0o755)
        network = str(ipaddress.ip_network(f"{addresses[0]}/{_PREFIX}", strict=False))
        mca = {
            "plm_rsh_agent": str(agent),
            "pml": "ob1",
            "btl": "tcp,self",
            "btl_tcp_if_include": network,
            "oob_tcp_if_include": network,
        }
        job = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", str(task.nodes)]
        job += ["--host", ",".join(f"{address}:1" for address in addresses)]
        for name, value in mca.items():
            job += ["--mca", name, value]
        member = [sys.executable, "-P", "-m", "peers.mpi_rank", msgspec.json.encode(task).decode()]
        job += ["-x", "PYTHONPATH", *member]
        return [job, *([*member, "idle"] for _ in hosts[1:])]
