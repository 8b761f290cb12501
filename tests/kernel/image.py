"""A bootable Debian kernel with SCTP, fetched once and cached: kernel, modules, busybox, init.

Nothing here needs root. The packages come from the machine's own apt sources with
`apt-get download` and are unpacked into a cache, never installed. Only the modules that the
tests use are kept; they all go into the initial RAM disk, so that the guest needs no modprobe.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

META_PACKAGE = "linux-image-amd64"
"""Depends on the newest ordinary kernel; the cloud flavour would do as well, but is no smaller."""

BOOT_MODULES = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio", "virtio_rng")
"""Without these the guest sees neither the root file system nor its job channel."""

NETWORK_MODULES = (
    "crc32c_generic",  # libcrc32c refuses to load without it, and SCTP without libcrc32c
    "md5",  # SCTP signs its cookies with HMAC-MD5 or HMAC-SHA1
    "sha1_generic",
    "hmac",
    "sctp",
    "sctp_diag",
    "veth",
    "bridge",
    "dummy",
    "sch_netem",
    "sch_tbf",
    "iptable_filter",
    "ip6table_filter",
    "nf_tables",
    "nft_compat",
    "xt_statistic",
    "xt_tcpudp",
    "xt_sctp",
    "ipt_REJECT",
)
"""What the tests build hosts, rails and faults from."""

RECIPE = 1
"""Part of the cache key: raise it when the layout of the initial RAM disk changes."""

INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
for module in $(/bin/busybox cat /modules/order); do
    /bin/busybox insmod "/modules/$module" || echo "phalanx-init: cannot load $module"
done
# nosuid: where QEMU runs in a user namespace root's files are nobody's, and a set-uid `mount` too.
/bin/busybox mount -t 9p -o ro,nosuid,trans=virtio,version=9p2000.L,msize=1048576,cache=loose \\
    host /newroot || echo "phalanx-init: cannot mount the host's file system"
/bin/busybox umount /proc
. /start
"""


class ImageError(Exception):
    """The kernel cannot be fetched or unpacked; the message says what to run."""


@dataclass(frozen=True, slots=True)
class Image:
    """What QEMU boots."""

    kernel: Path
    initrd: Path


def cache_dir() -> Path:
    """Where kernels are kept: `PHALANX_KERNEL_CACHE`, else the user's cache directory."""
    chosen = os.environ.get("PHALANX_KERNEL_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "phalanx" / "kernel"


def prepare() -> Image:
    """Return a kernel that is ready to boot; the first call on a machine fetches it.

    Raises:
        ImageError: a tool is missing or the packages cannot be had.
    """
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(
        "\n".join([str(RECIPE), INIT, *BOOT_MODULES, *NETWORK_MODULES]).encode()
    ).hexdigest()[:12]
    home = cache / key
    with (cache / "lock").open("w") as lock:
        # Two test runs that start together must not fetch the same 70 MB twice.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.is_dir():
            with tempfile.TemporaryDirectory(dir=cache, prefix="making.") as scratch:
                made = _make(Path(scratch))
                made.rename(home)
    return Image(kernel=home / "vmlinuz", initrd=home / "initrd")


def tool(name: str, package: str) -> str:
    """Find a program, also where an ordinary user's PATH does not look."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise ImageError(f"{name} is not installed; as root run: apt-get install {package}")
    return found


def _make(scratch: Path) -> Path:
    """Fetch, unpack and pack; return a directory with `vmlinuz` and `initrd`."""
    for package in (_kernel_package(), "busybox-static"):
        _unpack(package, scratch)
    root = scratch / "root"
    if not (root / "lib").exists():
        # Releases with merged /usr ship modules below /usr/lib; depmod looks in /lib.
        (root / "lib").symlink_to("usr/lib")
    releases = [path.name for path in (root / "lib/modules").iterdir()]
    if len(releases) != 1:
        raise ImageError(f"the kernel package holds {len(releases)} sets of modules, not one")
    _call([tool("depmod", "kmod"), "-b", str(root), releases[0]])
    made = scratch / "made"
    made.mkdir()
    kernels = sorted((root / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise ImageError("the kernel package holds no /boot/vmlinuz-*")
    shutil.copyfile(kernels[0], made / "vmlinuz")
    busybox = next(
        path for path in (root / "bin/busybox", root / "usr/bin/busybox") if path.exists()
    )
    entries: dict[str, tuple[int, bytes]] = {
        "bin/busybox": (0o755, busybox.read_bytes()),
        "init": (0o755, INIT.encode()),
    }
    order: list[str] = []
    for module in load_order(root / "lib/modules" / releases[0], BOOT_MODULES + NETWORK_MODULES):
        # Some releases compress modules; busybox unpacks them while loading.
        order.append(module.name)
        entries[f"modules/{module.name}"] = (0o644, module.read_bytes())
    entries["modules/order"] = (0o644, ("\n".join(order) + "\n").encode())
    (made / "initrd").write_bytes(cpio(entries, directories=("bin", "modules", "newroot", "proc")))
    return made


def _kernel_package() -> str:
    """Name of the newest kernel package that apt knows."""
    listing = _call([tool("apt-cache", "apt"), "depends", META_PACKAGE])
    found = re.search(r"Depends: (linux-image-\d\S+)", listing)
    if found is None:
        raise ImageError(f"apt knows no {META_PACKAGE}; as root run: apt-get update")
    return found.group(1)


def _unpack(package: str, scratch: Path) -> None:
    """Download one package and unpack it below `scratch/root`."""
    try:
        _call([tool("apt-get", "apt"), "download", "-q", package], cwd=scratch)
    except ImageError as trouble:
        raise ImageError(f"{trouble}\nif the lists are old, as root run: apt-get update") from None
    for archive in scratch.glob(f"{package}_*.deb"):
        _call([tool("dpkg-deb", "dpkg"), "-x", str(archive), str(scratch / "root")])
        archive.unlink()


def load_order(modules: Path, wanted: Iterable[str]) -> list[Path]:
    """Files of the wanted modules and all they need, each after what it depends on."""
    needs: dict[str, tuple[Path, list[Path]]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        name, _, rest = line.partition(":")
        needs[_module_name(name)] = (modules / name, [modules / other for other in rest.split()])
    builtin = {
        _module_name(line) for line in (modules / "modules.builtin").read_text().splitlines()
    }
    order: list[Path] = []
    for name in wanted:
        if name in needs:
            path, others = needs[name]
            # depmod lists what a module needs with the deepest dependency last.
            order.extend(item for item in [*reversed(others), path] if item not in order)
        elif name not in builtin:
            raise ImageError(f"this kernel has no module {name}")
    return order


def _module_name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def cpio(entries: Mapping[str, tuple[int, bytes]], *, directories: Iterable[str] = ()) -> bytes:
    """A cpio archive ("newc"), the format of an initial RAM disk; several may follow each other."""
    items = [(name, 0o040755, b"") for name in directories]
    items += [(name, 0o100000 | mode, data) for name, (mode, data) in entries.items()]
    items.append(("TRAILER!!!", 0, b""))
    out = bytearray()
    for number, (name, mode, data) in enumerate(items, start=1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08X" % value for value in fields)
        out += name.encode() + b"\0"
        out += bytes(-len(out) % 4)
        out += data
        out += bytes(-len(out) % 4)
    out += bytes(-len(out) % 512)
    return bytes(out)


def start_script(argv: Iterable[str]) -> bytes:
    """The small second archive of one run: what init executes on the host's file system."""
    command = " ".join(shlex.quote(word) for word in argv)
    script = f"exec /bin/busybox switch_root /newroot {command}\n"
    return cpio({"start": (0o644, script.encode())})


def _call(argv: list[str], *, cwd: Path | None = None) -> str:
    result = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ImageError(f"{' '.join(argv)} failed:\n{result.stderr.strip() or result.stdout}")
    return result.stdout


if __name__ == "__main__":
    # Before the tests: where pytest runs in a namespace of its own it has no way to a mirror.
    print(prepare().kernel)
