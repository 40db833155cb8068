"""The object code of a network's kernels: each from the kernel store, or compiled once and kept there.

A function is named by its op and a digest of all that its code depends on; the target is the store's part. So equal
kernels share one object, in a network and between networks, and a known one is neither written as TIR nor compiled.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backends.codegen import made_at_once, object_code, object_of_c
from backends.store import Store
from backends.target import Target


class Objects:
    """The compiled functions that a network calls. `built`: how many the store did not know."""

    def __init__(self, target: Target, store: Store, anew: bool):
        """anew: compile all of them, whatever the store knows."""
        self._target, self._store, self._anew = target, store, anew
        self._makers: dict[str, Callable[[], bytes]] = {}
        self.built = 0

    def symbol(self, name: str, depends: str, write: Callable[[], Any]) -> str:
        """The symbol of the function that `write` gives as TIR; `depends` tells all that its code depends on."""
        symbol = f"{name}_{_digest(depends)}"
        self._makers.setdefault(symbol, lambda: object_code(symbol, write(), self._target))
        return symbol

    def add_c(self, source: Path) -> None:
        """Links what a file in C defines, too."""
        self._makers.setdefault(f"{source.stem}_{_digest(source.read_text())}", lambda: object_of_c(source))

    def files(self, folder: Path) -> list[str]:
        """Object files of all functions, to link, written into the folder."""
        known = {} if self._anew else self._store.objects(self._makers)
        built = made_at_once({symbol: make for symbol, make in self._makers.items() if symbol not in known})
        if built:
            self._store.add_objects(built)
        self.built = len(built)
        for symbol, code in {**known, **built}.items():
            (folder / f"{symbol}.o").write_bytes(code)
        return [str(folder / f"{symbol}.o") for symbol in self._makers]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
