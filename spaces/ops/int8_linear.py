"""Dense layer in 8-bit integers (Vanhoucke et al., 2011 [46]).

x uint8 [N, I], weight int8 [O, I], bias int32 [O] with -zero_point * sum(weight) folded in, scale float32 [O]. The epilogue is
`spaces.requantise.epilogue`.
"""

import torch

from spaces.requantise import epilogue, epilogue_dtype


def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, low: float, high: float,
              out_zero_point: int | None = None) -> torch.Tensor:
    sums = x.to(torch.int32) @ weight.to(torch.int32).t()
    return epilogue(sums, bias, scale, low, high, out_zero_point)


int8_linear = torch.library.custom_op("netwright::int8_linear", mutates_args=())(reference)


@int8_linear.register_fake
def _shape(x, weight, bias, scale, low, high, out_zero_point=None):
    return x.new_empty([x.shape[0], weight.shape[0]], dtype=epilogue_dtype(out_zero_point))
