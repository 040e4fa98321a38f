"""The decoder processes of a reader, started by the process that learns."""

from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext

from lethe.ingest.decoding.decoder import DecoderTask, decode_values
from lethe.ingest.decoding.decoders import Decoders
from lethe.ingest.decoding.places import Places
from lethe.settings import BatchSettings

__all__ = ["DecoderProcesses"]


class DecoderProcesses:
    """``settings.readers`` processes that decode images for one reader, and end with it.

    They are children of this process, because the reader is a daemon, which may have none. `connect` gives
    the reader their connections, and once it is started `started` closes them here: they end when it does.
    """

    def __init__(
        self, settings: BatchSettings, task: DecoderTask, context: SpawnContext | ForkServerContext
    ) -> None:
        self._places = Places(task.layout, settings, context)
        self._connections: list[Connection] = []
        self._processes = []
        for number in range(settings.readers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=decode_values,
                args=(theirs, self._places, task),
                name=f"lethe-decoder-{number}",
                daemon=True,
            )
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)

    def connect(self) -> Decoders:
        """Return the reader's side."""
        return Decoders(self._connections, self._places)

    def started(self) -> None:
        """Leave the connections to the reader, which has been started."""
        for connection in self._connections:
            connection.close()

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [process.pid for process in self._processes if process.pid is not None]

    @property
    def failure(self) -> str:
        """How one has failed; empty if none has."""
        wait([process.sentinel for process in self._processes], 1)
        statuses = [process.exitcode for process in self._processes if process.exitcode]
        return f"a decoder process ended with status {statuses[0]}" if statuses else ""

    def close(self) -> None:
        """End them, after the reader, and overwrite every image."""
        for process in self._processes:
            process.join(1)
            if process.is_alive():
                process.kill()
                process.join()
        self._places.discard_all()
