"""Reading a network's stored tensors. Needs NumPy alone, since this file goes into every export beside `run.py`.

`weights.safetensors` holds tensors as they are. `weights.nw`, which its metadata then names, holds tensors in Huffman codes (Huffman,
1952, in canonical order): like safetensors a length of 8 bytes, a JSON header {tensor: {dtype, shape, offsets in the payload,
planes, crc32}}, and the payload. A tensor's elements are taken apart into planes, the first bytes of all elements, the second and so
on, each coded for itself as `planes` says, [coding, bytes]:

    plain    the plane's bytes
    bits<w>  the plane as a stream of w-bit symbols, lowest bit first
    gaps     the plane as a stream of bits: symbol g < 255 is g zeros and a one, 255 is 255 zeros; what is left is zeros

A coded plane begins with its number of symbols (4 bytes), its longest code L (1 byte), the number of codes of length 1 to L
(1 byte each) and their symbols in canonical order (1 byte each); then come the codes, highest bit first.
"""

import json
import zlib
from pathlib import Path

import numpy as np

PLAIN_FILE, CODED_FILE = "weights.safetensors", "weights.nw"
TYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8, "I16": np.int16, "U16": np.uint16, "I32": np.int32,
         "U32": np.uint32, "I64": np.int64}
LONGEST = 16  # bits of the longest code
CHUNK = 1 << 16  # bytes of a stream that are decoded together
STRIDE = 5  # 2^STRIDE codes are skipped at a time


class WeightsError(ValueError):
    """A file of weights that is missing, cut off or corrupt: names the file and what is wrong."""


def read(folder: Path) -> dict[str, np.ndarray]:
    """Every stored tensor of the folder by name. WeightsError names a bad file."""
    header, data = _opened(folder / PLAIN_FILE)
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        tensors[name] = _guarded(folder / PLAIN_FILE, name, _plain_tensor, entry, data)
    if "coded" in metadata:
        header, data = _opened(folder / CODED_FILE)
        for name, entry in header.items():
            tensors[name] = _guarded(folder / CODED_FILE, name, _coded_tensor, entry, data)
    return tensors


def sizes(folder: Path) -> dict[str, dict[str, int]]:
    """Bytes of the payload by file and tensor; what else a file holds is its header. WeightsError names a bad file."""
    header, _ = _opened(folder / PLAIN_FILE)
    coded = "coded" in header.pop("__metadata__", {})
    found = {PLAIN_FILE: {name: int(np.subtract(*entry["data_offsets"][::-1])) for name, entry in header.items()}}
    if coded:
        header, _ = _opened(folder / CODED_FILE)
        found[CODED_FILE] = {name: int(np.subtract(*entry["offsets"][::-1])) for name, entry in header.items()}
    return found


def _opened(path: Path) -> tuple[dict, bytes]:
    """The header and the payload of a file."""
    if not path.is_file():
        raise WeightsError(f"{path} is missing")
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    try:
        if len(data) < 8 + size:
            raise ValueError("it is cut off")
        return json.loads(data[8:8 + size]), data[8 + size:]
    except ValueError as error:
        raise WeightsError(f"{path} is corrupt (its header: {error})") from None


def _guarded(path: Path, name: str, reader, entry: dict, data: bytes) -> np.ndarray:
    try:
        return reader(entry, data)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise WeightsError(f"{path} is corrupt ({name}: {error})") from None


def _plain_tensor(entry: dict, data: bytes) -> np.ndarray:
    return _array(entry, _part(data, *entry["data_offsets"]))


def _coded_tensor(entry: dict, data: bytes) -> np.ndarray:
    """The planes' bytes put together again, and checked."""
    payload, item = _part(data, *entry["offsets"]), np.dtype(TYPES[entry["dtype"]]).itemsize
    count, planes, at = int(np.prod(entry["shape"])), [], 0
    for coding, size in entry["planes"]:
        planes.append(decode_plane(coding, _part(payload, at, at + size), count))
        at += size
    raw = np.stack(planes, 1).tobytes()
    if len(planes) != item or at != len(payload) or zlib.crc32(raw) != entry["crc32"]:
        raise ValueError("the checksum differs")
    return _array(entry, raw)


def _part(data: bytes, begin: int, end: int) -> bytes:
    if not 0 <= begin <= end <= len(data):
        raise ValueError("it is cut off")
    return data[begin:end]


def _array(entry: dict, raw: bytes) -> np.ndarray:
    return np.frombuffer(bytearray(raw), TYPES[entry["dtype"]]).reshape(entry["shape"])


def decode_plane(coding: str, data: bytes, size: int) -> np.ndarray:
    """The `size` bytes of a plane."""
    if coding == "plain":
        return np.frombuffer(data, np.uint8)
    symbols = _symbols(np.frombuffer(data, np.uint8))
    if coding == "gaps":
        ends = np.cumsum(np.where(symbols < 255, symbols.astype(np.int64) + 1, 255))
        bits = np.zeros(8 * size, np.uint8)
        bits[ends[symbols < 255] - 1] = 1
        return np.packbits(bits, bitorder="little")
    width = int(coding.removeprefix("bits"))
    bits = np.unpackbits(symbols[:, None], axis=1, count=width, bitorder="little")
    return np.packbits(bits.reshape(-1)[:8 * size], bitorder="little")


def _symbols(data: np.ndarray) -> np.ndarray:
    """The symbols of a coded plane, uint8."""
    count, longest = int.from_bytes(data[:4].tobytes(), "little"), int(data[4])
    counts = data[5:5 + longest].astype(np.int64)
    used, stream = int(counts.sum()), data[5 + longest + int(counts.sum()):]
    table = data[5 + longest:5 + longest + used]
    spans = np.repeat(1 << np.arange(longest - 1, -1, -1), counts)
    if not 1 <= longest <= LONGEST or len(table) != used or spans.sum() > 1 << longest:
        raise ValueError("its code table is none")
    filler = np.zeros((1 << longest) - spans.sum(), np.uint8)
    found = np.concatenate([np.repeat(table, spans), filler])
    steps = np.concatenate([np.repeat(np.repeat(np.arange(1, longest + 1, dtype=np.uint8), counts), spans), filler + 1])
    return _followed(stream, count, longest, found, steps)


def _followed(stream: np.ndarray, count: int, longest: int, found: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The symbols that begin where the one before ends, looked up by the `longest` bits from there on."""
    padded = np.concatenate([stream, np.zeros(4, np.uint8)]).astype(np.uint32)
    words = padded[:-3] << 24 | padded[1:-2] << 16 | padded[2:-1] << 8 | padded[3:]
    shifts = np.arange(32 - longest, 24 - longest, -1, dtype=np.uint32)
    symbols, first = [], 0
    for begin in range(0, len(stream), CHUNK):
        windows = (words[begin:min(begin + CHUNK, len(stream)), None] >> shifts).reshape(-1) & ((1 << longest) - 1)
        step = steps[windows]
        places = _places(step, first)
        symbols.append(found[windows[places]])
        first = int(places[-1]) + int(step[places[-1]]) - len(step) if len(places) else first - len(step)
    whole = np.concatenate(symbols) if symbols else found[:0]
    if len(whole) < count:
        raise ValueError("its codes end too early")
    return whole[:count]


def _places(step: np.ndarray, first: int) -> np.ndarray:
    """The bits at which codes begin, from `first` on, each `step` bits from the one before. Bits from which 2^STRIDE codes are
    skipped at once are found one by one, those between them all together."""
    size = len(step)
    following = np.append(np.minimum(np.arange(size, dtype=np.int32) + step, size), np.int32(size)).astype(np.int32)
    far = following
    for _ in range(STRIDE):
        far = far[far]
    anchors, at, skip = [], first, memoryview(far)
    while at < size:
        anchors.append(at)
        at = skip[at]
    rows = [np.array(anchors, np.int32)]
    for _ in range((1 << STRIDE) - 1):
        rows.append(following[rows[-1]])
    places = np.stack(rows, 1).reshape(-1)
    return places[places < size]
