"""The results of a job on one side: values by key, with long values in files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FACTS = "facts.json"
LONG = "facts"
"""Folder of long values, beside `FACTS`."""
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d(?:[\d,]*\d)?(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")


class Facts:
    """Values by key. A long one is `{"kind", "sum", "file"}`; its content is in the file.

    Kinds: `text` (lines), `array` (NumPy), `numbers` (a multiset: their order has no meaning).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.values: dict[str, Any] = {}

    def scalar(self, key: str, value: object) -> None:
        """A number, a string, a boolean or None."""
        assert value is None or isinstance(value, str | int | float | bool), (key, value)
        self.values[key] = value

    def nested(self, key: str, value: object, skip: Iterable[str] = ()) -> None:
        """Dictionaries and lists as a value for each leaf, `key.name.0`; without keys `skip`."""
        items: Iterable[tuple[object, object]]
        if isinstance(value, Mapping):
            items = [(name, v) for name, v in value.items() if name not in skip]
        elif isinstance(value, list | tuple):
            items = enumerate(value)
        else:
            self.scalar(key, value)
            return
        for name, inner in items:
            self.nested(f"{key}.{name}" if key else str(name), inner, skip)

    def text(self, key: str, text: str) -> None:
        """A text, compared line by line."""
        self._long(key, "text", text.encode("utf-8", "surrogateescape"))

    def numbers(self, key: str, text: str) -> None:
        """The numbers of a text, whatever its words are."""
        numbers = sorted(NUMBER.findall(text))
        self._long(key, "numbers", "\n".join(numbers).encode())

    def array(self, key: str, array: NDArray[Any]) -> None:
        """An array, equal in type, shape and each bit."""
        array = np.ascontiguousarray(array)
        about = f"{array.dtype} {array.shape} ".encode()
        path = self._path(key, ".npy")
        np.save(path, array)
        digest = hashlib.sha256(about + array.tobytes()).hexdigest()
        self._add(key, "array", digest, path)

    def save(self) -> None:
        """Write them, for `load`."""
        text = json.dumps(self.values, ensure_ascii=False, indent=1)
        (self.folder / FACTS).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Facts:
        """Those that were saved in a folder."""
        facts = cls(folder)
        facts.values = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return facts

    def _path(self, key: str, suffix: str) -> Path:
        (self.folder / LONG).mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.+-]+", "_", key)[:80]
        return self.folder / LONG / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}{suffix}"

    def _long(self, key: str, kind: str, content: bytes) -> None:
        path = self._path(key, ".txt")
        path.write_bytes(content)
        self._add(key, kind, hashlib.sha256(content).hexdigest(), path)

    def _add(self, key: str, kind: str, digest: str, path: Path) -> None:
        file = str(path.relative_to(self.folder))
        self.values[key] = {"kind": kind, "sum": digest[:16], "file": file}
