"""The same templates on other processors: their code multiplies in vectors of the processor's width."""

import math
import re

import pytest

from backends.lowering import choices, kernel
from backends.target import FOLDER, load
from backends.workload import Tensor, Workload

WIDE = {  # processor, triple, lanes, multiply-adds of full vectors, those of narrower ones
    "avx512": ("skylake-avx512", "", 16, r"vfn?m(add|sub)\w*ps\s.*zmm", r"vfn?m(add|sub)\w*ps\s.*[xy]mm"),
    "avx2": ("x86-64-v3", "", 8, r"vfn?m(add|sub)\w*ps\s.*ymm", r"vfn?m(add|sub)\w*ps\s.*xmm"),
    "neon": ("cortex-a72", "aarch64-linux-gnu", 4, r"fml[as]\s+v\d+\.4s", r"fml[as]\s+v\d+\.2s"),
}


def target_of(tmp_path, mcpu: str, triple: str):
    """A target that is only compiled for."""
    text = (FOLDER / "local.toml").read_text().replace('"native"', f'"{mcpu}"').replace('triple = ""', f'triple = "{triple}"')
    path = tmp_path / f"{mcpu}.toml"
    path.write_text(text.replace('connection = "local"', 'connection = "none"'))
    return load(str(path))


def workload(kernel_side: int, groups: int) -> Workload:
    """A convolution of 64 channels on a 14x14 map."""
    tensors = (("x", Tensor((1, 64, 14, 14), "float32", "channels_last")),
               ("weight", Tensor((64, 64 // groups, kernel_side, kernel_side), "float32")), ("bias", Tensor((64,), "float32")))
    arguments = (("stride", (1, 1)), ("padding", (kernel_side // 2,) * 2), ("dilation", (1, 1)), ("groups", groups),
                 ("low", 0.0), ("high", math.inf))
    return Workload("conv2d", tensors, arguments, Tensor((1, 64, 14, 14), "float32", "channels_last"))


@pytest.mark.parametrize("kernel_side, groups", [(1, 1), (3, 1), (3, 64)])
@pytest.mark.parametrize("processor", WIDE)
def test_the_inner_loop_multiplies_in_full_vectors(processor, kernel_side, groups, tmp_path):
    import tvm

    mcpu, triple, lanes, full, narrow = WIDE[processor]
    target, work = target_of(tmp_path, mcpu, triple), workload(kernel_side, groups)
    assert target.lanes == lanes
    algorithm, option = choices(work, target)[0]
    lowering = algorithm.lower(work, target, option)
    function = kernel([(work, lowering, 0)], work.result).with_attr("global_symbol", "main")
    assembly = tvm.compile(tvm.IRModule({"main": function}), target.tvm()).mod.inspect_source("asm")
    assert len(re.findall(full, assembly)) >= 8
    assert not re.findall(narrow, assembly)
