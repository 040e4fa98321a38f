"""Two hosts on this machine: network namespaces, connected to each other and to nothing else."""

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Final

__all__ = ["INTERFACE", "Host", "two_hosts", "why_no_hosts"]

INTERFACE: Final = "eth0"
"""The network interface of each host."""
CLONE_NEWNET: Final = 0x40000000
NAMESPACES: Final = Path("/run/netns")
FILES: Final = Path("/etc/netns")
"""Where ``ip netns exec`` finds the files that a host has in place of this machine's."""


@dataclass(frozen=True)
class Host:
    """A network namespace."""

    name: str
    address: str

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The command that runs a program on this host."""
        return ["ip", "netns", "exec", self.name, *arguments]

    def cut(self) -> None:
        """Unplug it: from now on no packet leaves or reaches it, not even that a connection is closed."""
        _ip("-n", self.name, "link", "set", INTERFACE, "down")

    def offer(self, port: int) -> socket.socket:
        """Listen on the host's loopback interface; what connects there is connected to the port outside."""
        opened: list[socket.socket] = []

        def listen() -> None:
            with (NAMESPACES / self.name).open("rb") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            opened.append(socket.create_server(("127.0.0.1", port)))

        inside = Thread(target=listen)  # only this thread is in the namespace
        inside.start()
        inside.join()
        Thread(target=_connect, args=(opened[0], port), daemon=True).start()
        return opened[0]


@contextmanager
def two_hosts(port: int, names: Sequence[str] = ()) -> Iterator[tuple[Host, Host]]:
    """Two hosts that reach each other, and a ``port`` of this machine at their own 127.0.0.1.

    They know each other by ``names``, if these are given.
    """
    one, other = (Host(f"lethe-{os.getpid()}-{n}", f"10.99.0.{n}") for n in (1, 2))
    with ExitStack() as undo:
        for host in (one, other):
            _ip("netns", "add", host.name)
            undo.callback(_ip, "netns", "del", host.name)
        wire = ("type", "veth", "peer", "name", INTERFACE, "netns", other.name)
        _ip("link", "add", INTERFACE, "netns", one.name, *wire)
        for host in (one, other):
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", INTERFACE)
            for interface in (INTERFACE, "lo"):
                _ip("-n", host.name, "link", "set", interface, "up")
            undo.enter_context(host.offer(port))
            if names:
                undo.enter_context(_known(host, zip((one.address, other.address), names, strict=True)))
        yield one, other


def why_no_hosts() -> str | None:
    """Return why this machine lets nobody make network namespaces, or None."""
    try:
        with two_hosts(0):
            return None
    except FileNotFoundError:
        return "no ip in PATH"
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces need root: {error}"


@contextmanager
def _known(host: Host, names: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Let a host find addresses by their names."""
    folder = FILES / host.name
    folder.mkdir(parents=True)
    try:
        lines = [f"{address} {name}\n" for address, name in [("127.0.0.1", "localhost"), *names]]
        (folder / "hosts").write_text("".join(lines))
        yield
    finally:
        shutil.rmtree(folder)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _connect(listening: socket.socket, port: int) -> None:
    while True:
        try:
            inner, _ = listening.accept()
        except OSError:  # closed
            return
        outer = socket.create_connection(("127.0.0.1", port))
        for source, target in ((inner, outer), (outer, inner)):
            Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # either side has closed the connection
        while received := source.recv(1 << 16):
            target.sendall(received)
        target.shutdown(socket.SHUT_WR)
