"""The optimiser of supernets: steps in proportion to the size that a tensor began with, which it never outgrows.

    m <- 0.9 m + 0.1 g        v <- 0.99 v + 0.01 ||g||^2        w <- w - learning rate s m / sqrt(v)        w <- w min(1, s / ||w||)

v is one number a tensor (NovoGrad: Ginsburg et al., 2019), and steps are shares of the size s = ||w_0|| (LARS: You et al., 2017), for
vectors (biases, batch norms) the square root of their length; both means are corrected for their beginning at zero (Kingma and Ba,
2015). Blocks of many kinds share a supernet, and the gradients of some are so small beside their weights that with one rate for all
those stay nearly what they were at random. Without the bound (max-norm: Srebro and Shraibman, 2005) tensors walked to as much as
8.8 times their size in 21,090 steps on CIFAR-10, and what inherits such weights hardly moves at the rates of fine-tuning.
"""

import torch

MEAN, SQUARE, EPSILON = 0.9, 0.99, 1e-12


class NovoGrad(torch.optim.Optimizer):
    """`learning_rate`: the share of its size by which a tensor moves where all gradients agree. A tensor without a gradient stays, and so
    do its means."""

    def __init__(self, parameters, learning_rate: float):
        super().__init__(parameters, {"lr": learning_rate})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One step of the formulas above."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"])

    def _move(self, parameter: torch.Tensor, learning_rate: float) -> None:
        state, gradient = self.state[parameter], parameter.grad
        if not state:
            size = parameter.norm() if parameter.dim() > 1 else parameter.new_tensor(parameter.numel() ** 0.5)
            state.update(mean=torch.zeros_like(parameter), square=torch.zeros_like(size), steps=torch.zeros_like(size), size=size)
        state["steps"] += 1
        state["mean"].lerp_(gradient, 1 - MEAN)
        state["square"].lerp_(gradient.square().sum(), 1 - SQUARE)
        mean_share, square_share = (1 - decay ** state["steps"] for decay in (MEAN, SQUARE))
        typical = (state["square"] / square_share).sqrt() * mean_share + EPSILON
        parameter.sub_(state["mean"] * (learning_rate * state["size"] / typical))
        parameter.mul_((state["size"] / (parameter.norm() + EPSILON)).clamp(max=1))
