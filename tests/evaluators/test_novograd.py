"""Steps in proportion to a tensor's size, whatever the size of its gradients."""

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.training.novograd import NovoGrad


def moved(gradients: list[np.ndarray], scale: float = 1.0, learning_rate: float = 0.1) -> torch.Tensor:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(*gradients[0].shape, dtype=torch.float64) * 3)
    optimiser = NovoGrad([weight], learning_rate)
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient * scale)
        optimiser.step()
    return weight.detach()


def expected(gradients: list[np.ndarray], learning_rate: float = 0.1) -> np.ndarray:
    """The formulas, in NumPy."""
    torch.manual_seed(0)
    weight = (torch.randn(*gradients[0].shape, dtype=torch.float64) * 3).numpy()
    size, mean, square = np.linalg.norm(weight) if weight.ndim > 1 else np.sqrt(weight.size), np.zeros_like(weight), 0.0
    for step, gradient in enumerate(gradients, 1):
        mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * np.sum(gradient**2)
        weight = weight - learning_rate * size * (mean / (1 - 0.9**step)) / np.sqrt(square / (1 - 0.99**step))
        weight = weight * min(1.0, size / np.linalg.norm(weight))
    return weight


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (6, 5), (7,)])
def test_steps_are_the_papers_formulas(shape):
    gradients = list(np.random.default_rng(1).normal(size=(5, *shape)))
    np.testing.assert_allclose(moved(gradients).numpy(), expected(gradients), rtol=1e-9)


def test_the_size_of_gradients_does_not_matter():
    gradients = list(np.random.default_rng(2).normal(size=(4, 3, 3)))
    torch.testing.assert_close(moved(gradients, 1e-4), moved(gradients), rtol=1e-6, atol=1e-9)


def test_no_tensor_outgrows_the_size_it_began_with():
    gradients = list(np.random.default_rng(3).normal(size=(200, 4, 6)))
    torch.manual_seed(0)
    size = (torch.randn(4, 6, dtype=torch.float64) * 3).norm()
    assert moved(gradients[:1]).norm() <= size * (1 + 1e-9) and moved(gradients).norm() == pytest.approx(float(size), rel=0.05)


def test_a_tensor_that_a_step_does_not_train_stays_as_it_is():
    trained, idle = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimiser = NovoGrad([trained, idle], 0.1)
    trained.grad = torch.eye(2)
    optimiser.step()
    assert torch.equal(idle, torch.ones(2, 2)) and not torch.equal(trained, torch.ones(2, 2))
