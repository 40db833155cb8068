"""Classifies images: python run.py IMAGE [IMAGE ...]. Needs apache-tvm, numpy and pillow, nothing else."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from weights import WeightsError, read  # the file beside this one


def read_image(path, data):
    """[1, C, H, W] float32, resized to the training images' size and normalised as they were."""
    channels, height, width = data["shape"]
    image = Image.open(path).convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32).reshape(height, width, channels).transpose(2, 0, 1)
    mean, std = (np.array(data[name], np.float32).reshape(-1, 1, 1) for name in ("mean", "std"))
    return ((pixels - mean) / std)[None]


def load(card):
    """A function from images to logits: the compiled network with its weights unpacked once."""
    os.environ.setdefault("TVM_NUM_THREADS", "1")
    import tvm
    from tvm import relax

    machine = relax.VirtualMachine(tvm.runtime.load_module(str(HERE / "model.so")), tvm.cpu())
    weights = read(HERE)
    bound = machine["main_transform_params"]([tvm.runtime.tensor(weights[name]) for name in card["parameters"]])
    return lambda image: machine["main"](tvm.runtime.tensor(image), *bound).numpy()


def main(paths):
    """Prints one line an image: path, class, probability."""
    card = json.loads((HERE / "card.json").read_text())
    try:
        network = load(card)
    except WeightsError as error:
        sys.exit(str(error))
    for path in paths:
        logits = network(read_image(path, card["data"]))[0]
        shares = np.exp(logits - logits.max())
        best = int(shares.argmax())
        print(f"{path}: {card['data']['classes'][best]} ({shares[best] / shares.sum():.1%})")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
