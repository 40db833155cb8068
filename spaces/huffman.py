"""Writing a network's stored tensors, some of them in Huffman codes (Han et al., Deep compression, 2016, section 4), as
`spaces.weights` reads them. Of all ways to see a tensor as symbols the one is taken that takes the fewest bytes, its code table
included; a tensor that would grow stays in weights.safetensors.
"""

import json
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spaces.weights import CODED_FILE, LONGEST, PLAIN_FILE, TYPES

NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}


@dataclass(frozen=True)
class Coded:
    """A tensor in Huffman codes: the coding and bytes of each of its planes, as they are stored."""

    planes: tuple[tuple[str, bytes], ...]

    @property
    def stored_bytes(self) -> int:
        """Bytes of codes and code tables."""
        return sum(len(data) for _, data in self.planes)


def write(tensors: dict[str, np.ndarray], coded: Collection[str], folder: Path) -> None:
    """Writes the tensors into the folder: those below the paths `coded` in Huffman codes where that is smaller."""
    from safetensors.numpy import save_file

    found = encoded(tensors, coded)
    plain = {name: tensor for name, tensor in tensors.items() if name not in found}
    save_file(plain, folder / PLAIN_FILE, {"coded": CODED_FILE} if found else None)
    if found:
        (folder / CODED_FILE).write_bytes(_file(tensors, found))


def stored_bytes(tensors: dict[str, np.ndarray], coded: Collection[str]) -> dict[str, int]:
    """Bytes of payload that each tensor takes in the files that `write` writes."""
    return {name: tensor.nbytes for name, tensor in tensors.items()} | {
        name: tensor.stored_bytes for name, tensor in encoded(tensors, coded).items()}


def encoded(tensors: dict[str, np.ndarray], coded: Collection[str]) -> dict[str, Coded]:
    """The tensors below the paths `coded` that Huffman codes make smaller."""
    below = tuple(f"{path}." for path in coded)
    found = {name: encode(tensor) for name, tensor in tensors.items() if below and name.startswith(below)}
    return {name: tensor for name, tensor in found.items() if tensor.stored_bytes < tensors[name].nbytes}


def encode(tensor: np.ndarray) -> Coded:
    """Each plane in its smallest form."""
    raw = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).reshape(tensor.size, tensor.itemsize)
    return Coded(tuple(_smallest(np.ascontiguousarray(raw[:, i])) for i in range(tensor.itemsize)))


def _smallest(plane: np.ndarray) -> tuple[str, bytes]:
    """The coding and the bytes of a plane."""
    least, best = len(plane), None
    for coding, symbols in _views(plane):
        code, table, bits = _code(symbols)
        if len(table) + -(-bits // 8) < least:
            least, best = len(table) + -(-bits // 8), (coding, symbols, code, table)
    if best is None:
        return "plain", plane.tobytes()
    coding, symbols, code, table = best
    return coding, table + _stream(symbols, code)


def _views(plane: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The plane as symbols below 256, every way that `spaces.weights` knows."""
    if not len(plane):
        return
    yield "bits8", plane
    bits = np.unpackbits(plane, bitorder="little")
    for width in range(2, 8):
        padded = np.concatenate([bits, np.zeros(-len(bits) % width, np.uint8)])
        yield f"bits{width}", np.packbits(padded.reshape(-1, width), axis=1, bitorder="little")[:, 0]
    if bits.any():
        yield "gaps", _gaps(bits)


def _gaps(bits: np.ndarray) -> np.ndarray:
    """Zeros in front of each one, long runs in parts of 255."""
    zeros = np.diff(np.flatnonzero(bits), prepend=-1) - 1
    runs = zeros // 255
    symbols = np.full(int(runs.sum()) + len(zeros), 255, np.uint8)
    symbols[np.cumsum(runs + 1) - 1] = zeros % 255
    return symbols


def _code(symbols: np.ndarray) -> tuple[dict, bytes, int]:
    """The code by symbol, the table as it is stored, and the bits of all codes."""
    from bitarray.util import canonical_huffman

    counts = np.bincount(symbols, minlength=256)
    used = np.flatnonzero(counts)
    weights, floor = counts[used], 0
    while True:  # rare symbols are taken for more frequent until the longest code is short enough
        code, lengths, order = canonical_huffman(dict(zip(used.tolist(), np.maximum(weights, floor).tolist())))
        if len(lengths) - 1 <= LONGEST:
            break
        floor = 2 * floor or max(1, int(weights.sum()) >> LONGEST)
    bits = sum(int(counts[symbol]) * len(code[symbol]) for symbol in order)
    counted = [min(number, 255) for number in lengths[1:]]  # 256 codes of one length gain nothing and are never stored
    return code, len(symbols).to_bytes(4, "little") + bytes([len(counted), *counted, *order]), bits


def _stream(symbols: np.ndarray, code: dict) -> bytes:
    from bitarray import bitarray

    stream = bitarray(endian="big")
    stream.encode(code, symbols.tobytes())
    return stream.tobytes()


def _file(tensors: dict[str, np.ndarray], found: dict[str, Coded]) -> bytes:
    header, payload = {}, b""
    for name, tensor in found.items():
        data = b"".join(part for _, part in tensor.planes)
        header[name] = {"dtype": NAMES[tensors[name].dtype], "shape": list(tensors[name].shape),
                        "offsets": [len(payload), len(payload) + len(data)],
                        "planes": [[coding, len(part)] for coding, part in tensor.planes],
                        "crc32": zlib.crc32(np.ascontiguousarray(tensors[name]).tobytes())}
        payload += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload
