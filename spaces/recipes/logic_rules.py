"""Rules as a teacher: in each batch the network learns from what its own outputs would be if they kept to rules (Hu et al., 2016 [3]).

A rule says of an image and every class how true it is, r in [0, 1]. The teacher is the distribution nearest to the network's that keeps to
the rules in expectation (equation 4), which has a closed form, q(y|x) in proportion to p(y|x) exp(-C (1 - r(x, y))). Then (equation 2)

    loss = (1 - pi) cross entropy(y, p) + pi cross entropy(q, p)

where gradients do not flow through q, and pi rises from epoch to epoch, min(most, 1 - decay^epoch): first the labels, then the rules.
The rule here holds for images of things that have no left and right: a mirrored image shows the same, r(x, y) = p(y | mirrored x).
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.gene import check_range
from spaces.recipe import Batch, Hooks, Recipe, Run


@dataclass(frozen=True)
class LogicRules(Recipe):
    """Learns to keep to a rule: a mirrored image shows the same.

    `c`: how strictly; `most`: the greatest share of the rule in the loss; `decay`: how slowly it gets there.
    """

    SOURCE: ClassVar[str] = "Hu et al., 2016 [3]"
    GAIN: ClassVar[str] = "accuracy"
    c: float = 6.0
    most: float = 0.6
    decay: float = 0.9

    def __post_init__(self):
        check_range("logic_rules c", self.c, 0, 100)
        check_range("logic_rules most", self.most, 0, 1)
        check_range("logic_rules decay", self.decay, 0, 1)

    def hooks(self, run: Run) -> Hooks:
        return _Ruled(self, run.network)

    def projected(self, log_p, truth):
        """q [N, classes] for log p and the rule's truth of every class, both [N, classes]."""
        return (log_p - self.c * (1 - truth)).softmax(1)


class _Ruled(Hooks):
    def __init__(self, recipe: LogicRules, network):
        self.recipe, self.network, self.share = recipe, network, 0.0

    def on_epoch(self, epoch: int) -> None:
        self.share = min(self.recipe.most, 1 - self.recipe.decay**epoch)

    def loss(self, batch: Batch):
        import torch

        log_p = batch.logits.log_softmax(1)
        with torch.no_grad():
            mirrored = self.network(batch.images.flip(3)).float().softmax(1)
            wanted = self.recipe.projected(log_p, mirrored)
        return (1 - self.share) * batch.cross_entropy() - self.share * (wanted * log_p).sum(1).mean()
