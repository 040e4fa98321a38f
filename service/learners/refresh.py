"""How often a solution that learning predicts from is renewed: often at first, then at a steady pace."""

__all__ = ["until_refresh"]


def until_refresh(learned: int, every: int) -> int:
    """Return after how many more samples a solution of ``learned`` is due: when there are four times as many.

    After ``every`` at the latest, so that what solving costs a sample stays bounded.
    """
    return min(3 * learned, every)
