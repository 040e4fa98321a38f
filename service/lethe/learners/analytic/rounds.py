"""The batches of all ranks in one round, in the order of the ranks, as every rank can see them.

Shapes: B rows of this rank, N rows of all ranks, S columns.
"""

import torch
from torch import Tensor

from lethe.learners.capabilities import Pool

__all__ = ["rows_of_all"]


def rows_of_all(pool: Pool | None, own_BS: Tensor) -> tuple[Tensor, slice]:
    """Return the rows of all ranks, [N, S], and which of them are this rank's; without a pool its own.

    The rows are exact: each is added to zeros.
    """
    if pool is None:
        return own_BS, slice(0, len(own_BS))
    counts = torch.zeros(pool.size, dtype=torch.int64)
    counts[pool.rank] = len(own_BS)
    pool.all_reduce(counts)
    begin = int(counts[: pool.rank].sum())
    own = slice(begin, begin + len(own_BS))
    rows_NS = own_BS.new_zeros(int(counts.sum()), own_BS.shape[1])
    rows_NS[own] = own_BS
    pool.all_reduce(rows_NS)
    return rows_NS, own
