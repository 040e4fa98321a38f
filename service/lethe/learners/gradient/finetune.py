"""Plain gradient descent on the stream: the baseline that forgets."""

from typing import ClassVar

from lethe.learners.base import Retention
from lethe.learners.gradient.averaged import AveragedLearner

__all__ = ["Finetune"]


class Finetune(AveragedLearner):
    """Fine-tuning: cross entropy, one optimizer step per batch, and nothing against forgetting.

    Cost per sample: one forward and one backward pass. State: the weights and the optimizer's moments; with
    Adam three numbers per weight.

    >>> import torch
    >>> from lethe import Layout, LearnerContext, create
    >>> layout = Layout(height=8, width=8, classes=2)
    >>> finetune = create("finetune", LearnerContext(layout, options={"backbone": "mlp", "lr": 1e-2}))
    >>> x_BCHW, y_B = torch.zeros(32, 1, 8, 8, dtype=torch.uint8), torch.arange(32) % 2
    >>> x_BCHW[y_B == 1] = 255  # images of class 1 are bright, those of class 0 dark
    >>> for _ in range(5):
    ...     learned = finetune.learn(x_BCHW, y_B)  # predicts the batch, then learns it
    >>> finetune.predict_proba(x_BCHW[:2]).argmax(1).tolist()
    [0, 1]
    """

    name: ClassVar[str] = "finetune"
    retains: ClassVar[Retention] = Retention.NOTHING
    summary: ClassVar[str] = "a network trained by plain gradient descent: it forgets"
    no_local_steps: ClassVar[str] = ""
    paper: ClassVar[str] = "McCloskey & Cohen 1989, Catastrophic Interference in Connectionist Networks"
