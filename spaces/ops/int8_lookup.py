"""Any function of one uint8 number, as a table of its 256 results: activations between integer layers.

x uint8 of any shape, table uint8 [256]: out = table[x].
"""

import torch


def reference(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return table[x.to(torch.int64)]


int8_lookup = torch.library.custom_op("netwright::int8_lookup", mutates_args=())(reference)


@int8_lookup.register_fake
def _shape(x, table):
    return torch.empty_like(x)
