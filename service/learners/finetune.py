"""Plain gradient descent on the stream: the learner that forgets, which others are measured against."""

from typing import ClassVar

from service.learners.base import Retention
from service.learners.gradient import GradientLearner

__all__ = ["Finetune"]


class Finetune(GradientLearner):
    """A network, an optimizer, cross entropy, one step a batch, and nothing against forgetting.

    Cost a sample: one pass forward and one back. State: the weights and the optimizer's moments, for
    Adam three numbers a weight.
    """

    name: ClassVar[str] = "finetune"
    retains: ClassVar[Retention] = Retention.NOTHING
    summary: ClassVar[str] = "a network trained by plain gradient descent: it forgets"
    paper: ClassVar[str] = "McCloskey & Cohen 1989, Catastrophic Interference in Connectionist Networks"
