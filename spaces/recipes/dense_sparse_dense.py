"""Dense-sparse-dense training (Han et al., 2017 [13]): a regularisation that changes nothing of the network but its weights.

Three stages, each with a schedule and a momentum of its own. Dense: training as it is. Sparse: the share s of smallest weights of each
layer becomes zero, once, and stays zero while the others are trained on. Dense again: these weights begin at zero and learn with all
others, at a tenth of the rate. Batch norms, biases and the last layer, which classifies, are left alone. Once compressions are in place
the stages are behind; runs of fewer than three epochs have none.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.gene import SpaceError, check_range
from spaces.recipe import Hooks, Recipe, Run


@dataclass(frozen=True)
class DenseSparseDense(Recipe):
    """Trains dense, sparse, dense again.

    `sparsity`: the share of weights that are zero in the middle; `dense` and `sparse`: the shares of the epochs of the first two stages, of
    which the rest is the third's; `rate`: the third's share of the learning rate.
    """

    SOURCE: ClassVar[str] = "Han et al., 2017 [13]"
    GAIN: ClassVar[str] = "accuracy"
    sparsity: float = 0.3
    dense: float = 0.4
    sparse: float = 0.3
    rate: float = 0.1

    def __post_init__(self):
        check_range("dense_sparse_dense sparsity", self.sparsity, 0.01, 0.99)
        check_range("dense_sparse_dense dense", self.dense, 0, 0.98)
        check_range("dense_sparse_dense sparse", self.sparse, 0.01, 0.98)
        check_range("dense_sparse_dense rate", self.rate, 0, 1)
        if self.dense + self.sparse > 0.99:
            raise SpaceError(f"{self}: the first two stages take {self.dense + self.sparse:g} of the epochs; they can take up to 0.99")

    def hooks(self, run: Run) -> Hooks:
        return Hooks() if run.prepared or run.epochs < 3 else _Staged(self, run)


class _Staged(Hooks):
    """Each stage has an epoch at least. `masks`: of the sparse stage, by layer."""

    def __init__(self, recipe: DenseSparseDense, run: Run):
        import torch

        self.recipe, self.masks = recipe, []
        self.second = min(max(1, round(recipe.dense * run.epochs)), run.epochs - 2)
        self.third = min(max(self.second + 1, round((recipe.dense + recipe.sparse) * run.epochs)), run.epochs - 1)
        layers = [layer for layer in run.network.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
        self.weights = [layer.weight.detach() for layer in layers[:-1]]

    def stages(self) -> tuple[int, ...]:
        return self.second, self.third

    def rate(self, epoch: int) -> float:
        return self.recipe.rate if epoch >= self.third else 1.0

    def on_epoch(self, epoch: int) -> None:
        from spaces.masks import largest

        if epoch == self.second:
            self.masks = [largest(weight, weight.numel() - round(self.recipe.sparsity * weight.numel())) for weight in self.weights]
            self._clear()
        elif epoch == self.third:
            self.masks = []

    def on_step(self, step: int) -> None:
        self._clear()

    def _clear(self) -> None:
        for weight, mask in zip(self.weights, self.masks):
            weight.mul_(mask)

    def state(self) -> dict:
        return {str(number): mask for number, mask in enumerate(self.masks)}

    def restore(self, state: dict) -> None:
        self.masks = [state[str(number)].to(weight.device) for number, weight in enumerate(self.weights) if state]
