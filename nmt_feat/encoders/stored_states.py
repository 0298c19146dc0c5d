"""States of an encoder for a whole corpus, stored in a folder of the cache and mapped from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmt_feat.base.files import hold_lock, refuse_links, remove_tree, rename_whole
from nmt_feat.base.ragged import Ragged
from nmt_feat.encoders.states import EncoderInput, LanguageModel, States
from nmt_feat.encoders.windows import EncoderWindows
from nmt_feat.text.files import hash_file_cached
from nmt_feat.text.subwords import Lines

BLOCK = 2000
"""The number of texts that are processed at a time."""


def store_states(
    model: LanguageModel, texts: Lines, cache: Path, report_progress: Callable[[str], None]
) -> Path:
    """Store the states of texts in a folder of `cache`, unless they are there; returns it."""
    write = partial(_write_states, model, texts, report_progress)
    return _store(texts, cache, model.identify(cache), open_states, write)


def store_input(model: LanguageModel, texts: Lines, cache: Path) -> Path:
    """As `store_states`, with the encoder's input in place of its states."""
    identity = [*model.identify(cache), "live"]
    return _store(texts, cache, identity, open_input, partial(_write_input, model, texts))


def _store(
    texts: Lines,
    cache: Path,
    identity: list[object],
    open_folder: Callable[[Path], object],
    write: Callable[[Path], None],
) -> Path:
    """Write a folder for texts, unless it is there.

    Its name is a hash of the texts and of `identity`. If several processes call this, one writes
    and the others wait. `open_folder` fails if the folder is missing or damaged.
    """
    key = hashlib.sha256(json.dumps(identity).encode())
    for text in texts:
        key.update(f"{text}\n".encode("utf-8", "surrogatepass"))
    folder = cache / f"contextual-{key.hexdigest()[:16]}"
    building = folder.with_name(f"{folder.name}.building")
    with hold_lock(folder, "makes these vectors"):
        refuse_links(folder, building)
        try:
            open_folder(folder)
            return folder
        except (OSError, ValueError, KeyError, TypeError):
            for damaged in (building, folder):
                remove_tree(damaged)
            building.mkdir()
            try:
                write(building)
            except BaseException:  # nobody else would delete it: other settings, other folder
                shutil.rmtree(building, ignore_errors=True)
                raise
            rename_whole(building, folder)
    return folder


def _write_states(
    model: LanguageModel, texts: Lines, report_progress: Callable[[str], None], folder: Path
) -> None:
    iterator, counts, done = iter(texts), [], 0
    with (folder / "spans").open("wb") as spans, (folder / "vectors").open("wb") as vectors:
        while block := list(islice(iterator, BLOCK)):
            block_states = model.encode_texts(block)
            counts.append(block_states.counts)
            spans.write(block_states.spans.tobytes())
            vectors.write(block_states.vectors.tobytes())
            done += len(block)
            if len(texts) > BLOCK:
                report_progress(
                    f"vectors of {model.folder.name}: {done:,} of {len(texts):,} sentences"
                )
    np.save(folder / "counts.npy", np.concatenate(counts))
    about = {"width": model.width, "precision": model.precision}
    _write_description(folder, ("counts.npy", "spans", "vectors"), about)


def _write_input(model: LanguageModel, texts: Lines, folder: Path) -> None:
    iterator, counts, lengths, written_count = iter(texts), [], [np.zeros(1, np.int64)], 0
    names = ("spans", "ids", "places")
    with contextlib.ExitStack() as files:
        spans, ids, places = (files.enter_context((folder / n).open("wb")) for n in names)
        while block := list(islice(iterator, BLOCK)):
            block_input = model.read_input(block)
            counts.append(block_input.counts)
            lengths.append(np.diff(block_input.vectors.texts.offsets))
            spans.write(block_input.spans.tobytes())
            ids.write(block_input.vectors.texts.values.tobytes())
            # A block's places count from its first id, those in the file from the first of all.
            places.write((block_input.vectors.places + written_count).tobytes())
            written_count += len(block_input.vectors.texts.values)
    np.save(folder / "counts.npy", np.concatenate(counts))
    np.save(folder / "offsets.npy", np.cumsum(np.concatenate(lengths)))
    _write_description(folder, ("counts.npy", "offsets.npy", *names), {})


def _write_description(folder: Path, names: Iterable[str], about: dict[str, Any]) -> None:
    """Write `about.json`: the form of the states, and the sums of the files."""
    sums = {name: hash_file_cached(folder / name, folder.parent) for name in names}
    content = json.dumps({**about, "files": sums})
    (folder / "about.json").write_text(content, encoding="utf-8")


def _read_description(folder: Path) -> dict[str, Any]:
    """Read `about.json`, and check the files against their sums."""
    about: dict[str, Any] = json.loads((folder / "about.json").read_bytes())
    for name, expected in about["files"].items():
        if hash_file_cached(folder / name, folder.parent) != expected:
            raise ValueError(f"{folder / name} has changed")
    return about


def _map_file(path: Path, kind: Any) -> NDArray[Any]:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)


def open_states(folder: Path) -> States:
    """Open what `store_states` wrote, memory-mapped.

    Raises:
        OSError, ValueError, KeyError, TypeError: if the folder is missing or damaged.
    """
    about = _read_description(folder)
    spans = _map_file(folder / "spans", np.int64).reshape(-1, 2)
    vectors = _map_file(folder / "vectors", about["precision"]).reshape(-1, about["width"])
    return States(np.load(folder / "counts.npy", allow_pickle=False), spans, vectors)


def open_input(folder: Path) -> EncoderInput:
    """Open what `store_input` wrote; see `open_states`."""
    _read_description(folder)
    counts, offsets = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("counts", "offsets")
    )
    spans = _map_file(folder / "spans", np.int64).reshape(-1, 2)
    texts = Ragged(_map_file(folder / "ids", np.int32), offsets)
    places = _map_file(folder / "places", np.int64)
    return EncoderInput(counts, spans, EncoderWindows(texts, places))


def root_mean_square(vectors: NDArray[Any]) -> float:
    """The root mean square of all elements, which are read in blocks."""
    bounds = [*range(0, len(vectors), BLOCK * 8), len(vectors)]
    total = sum(
        float(np.square(vectors[a:b].astype(np.float64)).sum()) for a, b in pairwise(bounds)
    )
    return max(math.sqrt(total / max(vectors.size, 1)), 1e-12)


def find_scale(model: LanguageModel, stored: States | EncoderInput, texts: Iterable[str]) -> float:
    """The root mean square of stored vectors, or of those of the first `BLOCK` texts."""
    if isinstance(stored, States):
        return root_mean_square(stored.vectors)
    return root_mean_square(model.encode_texts(list(islice(texts, BLOCK))).vectors)
