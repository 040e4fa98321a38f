"""What a learner that keeps samples has to be able to do where they may be kept for a time only."""

from typing import Protocol, runtime_checkable

__all__ = ["Expires"]


@runtime_checkable
class Expires(Protocol):
    """A learner that keeps samples, and can let go of the oldest.

    It counts samples and knows no clock: who asks it has noted when each sample arrived. So the
    learner is the same in every run in which it is asked the same at the same place of the stream.
    """

    def expire(self, before: int) -> int:
        """Let go of what is kept of the first ``before`` samples learned; return how many these were.

        They are overwritten, and what is kept stays a sample of all that came later. What the learner's
        weights have learned from them stays.
        """
