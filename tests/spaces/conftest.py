"""Networks and inputs that the tests of spaces share."""

import pytest
import torch


@pytest.fixture
def warm():
    """Runs random images through a network in training mode, as the trainer does with real ones."""
    def run(shape, batches=20):
        images = torch.randn(64, *shape, generator=torch.Generator().manual_seed(1))

        def warm_up(network):
            network.train()
            with torch.no_grad():
                for _ in range(batches):
                    network(images)
        return warm_up
    return run
