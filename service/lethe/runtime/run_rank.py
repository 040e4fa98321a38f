"""Runs one of several ranks, in a process that torchrun, `lethe run --ranks` or Kubernetes started."""

from lethe.errors import InvalidSetting
from lethe.ingest.reader_process import SPAWN, ProcessContext
from lethe.runtime.ranks.environment import rank, several_hosts, world
from lethe.runtime.ranks.follower import follow
from lethe.runtime.ranks.group import joined
from lethe.runtime.ranks.supported import check_hosts, check_ranks
from lethe.runtime.run import run_service
from lethe.settings import Settings

__all__ = ["run_rank"]


def run_rank(settings: Settings, processes: ProcessContext = SPAWN) -> None:
    """Lead the other ranks or follow, until the stream ends or any rank is asked to stop.

    ``processes`` start the reader process.

    Raises RankLost when another rank ends before, InvalidSetting for a rank that there is not, and the errors
    of `run_service`.
    """
    if not 0 <= rank() < world():
        raise InvalidSetting(f"RANK {rank()}: with WORLD_SIZE {world()} there is no such rank")
    check_ranks(settings)
    if several_hosts():
        check_hosts(settings)
    with joined(settings.run.rank_timeout) as group:
        if group.leads:
            run_service(settings, processes=processes, group=group)
        else:
            follow(group, settings, processes)
