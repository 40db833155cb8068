"""The object code of a network's kernels: each from the kernel store, or compiled once and kept there.

A function is named by its op and a digest of all that its code depends on; the target is the store's part. So equal
kernels share one object, in a network and between networks, and a known one is neither written as TIR nor compiled.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backends.codegen import object_code
from backends.store import Store
from backends.target import Target


class Objects:
    """The compiled functions that a network calls. `built`: how many the store did not know."""

    def __init__(self, target: Target, store: Store, anew: bool):
        """anew: compile all of them, whatever the store knows."""
        self._target, self._store, self._anew = target, store, anew
        self._writers: dict[str, Callable[[], Any]] = {}
        self.built = 0

    def symbol(self, name: str, depends: str, write: Callable[[], Any]) -> str:
        """The symbol of the function that `write` gives as TIR; `depends` tells all that its code depends on."""
        symbol = f"{name}_{hashlib.sha256(depends.encode()).hexdigest()[:32]}"
        self._writers.setdefault(symbol, write)
        return symbol

    def files(self, folder: Path) -> list[str]:
        """Object files of all functions, to link, written into the folder."""
        known = {} if self._anew else self._store.objects(self._writers)
        built = object_code({symbol: write for symbol, write in self._writers.items() if symbol not in known}, self._target)
        if built:
            self._store.add_objects(built)
        self.built = len(built)
        for symbol, code in {**known, **built}.items():
            (folder / f"{symbol}.o").write_bytes(code)
        return [str(folder / f"{symbol}.o") for symbol in self._writers]
