"""Weights that the user has: .safetensors, .npz, or .pt, .pth and .th, of which nothing but tensors is read."""

from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.model import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

NESTED = ("state_dict", "model_state_dict", "model", "net")  # where checkpoints keep the weights beside other things
PREFIXES = ("module.", "_orig_mod.")  # what torch's parallel and compiled modules put in front of names


def read_weights(network: "nn.Module", file: Path) -> None:
    """Puts the file's tensors into the network. ModelError if the file cannot be read or has not just the network's tensors."""
    own, found = network.state_dict(), _plain_names(_tensors(file))
    missing = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    beyond = [name for name in found if name not in own]
    wrong = [name for name in own if name in found and found[name].shape != own[name].shape]
    for names, what in ((missing, "lacks"), (beyond, "has, beyond the network's,"), (wrong, "has in another shape")):
        if names:
            raise ModelError(f"{file} {what} {len(names)} tensors, of which the first is {names[0]}; give the weights of this network")
    network.load_state_dict(found, strict=False)


def _tensors(file: Path) -> "dict[str, torch.Tensor]":
    import numpy as np
    import torch

    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
        if file.suffix in (".pt", ".pth", ".th"):
            return _nested(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever the readers say of a broken or a refused file
        raise ModelError(f"the weights {file} cannot be read: {str(error).splitlines()[0]}") from None
    raise ModelError(f"the weights {file} are no .safetensors, .npz, .pt, .pth or .th file")


def _nested(content: object) -> "dict[str, torch.Tensor]":
    import torch

    for key in NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError("it holds no dictionary of tensors")
    return content


def _plain_names(tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    for prefix in PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
