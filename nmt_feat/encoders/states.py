"""Vectors for text from an encoder of Hugging Face: a layer's state for each of its pieces.

The encoder is a folder. `transformers` (an extra) reads it without network, without pickle and
without running code from it. The states of a corpus are computed once and stored in the cache.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nmt_feat.base.files import hold_lock, refuse_links, remove_tree, rename_whole
from nmt_feat.base.ragged import Ragged
from nmt_feat.embedders.contextual import compute_states
from nmt_feat.encoders.windows import EncoderWindows
from nmt_feat.errors import UserError
from nmt_feat.extras import optional
from nmt_feat.text.files import hash_file_cached
from nmt_feat.text.sentences import Integers
from nmt_feat.text.subwords import Lines

FORMAT = 1  # of the folders of states: raise it whenever their content changes
BLOCK = 2000
"""The number of texts that are processed at a time."""
CELLS = 4096
"""The number of pieces in a batch, padding included."""
THREADS = torch.get_num_threads()
"""PyTorch's default, so that the bits of stored states do not depend on settings of a run."""
_READ = {".json", ".txt", ".model", ".safetensors"}
_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model")
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


class States(NamedTuple):
    """The states of an encoder's pieces of several texts, without special pieces."""

    counts: Integers  # pieces of each text
    spans: Integers  # (pieces, 2): first character of each in its text, first one behind it
    vectors: NDArray[Any]  # (pieces, width), float16 or float32


class EncoderInput(NamedTuple):
    """What an encoder in the model reads, in place of `States`."""

    counts: Integers
    spans: Integers
    vectors: EncoderWindows


class _Window(NamedTuple):
    """Pieces that the encoder reads at once, special ones included."""

    text: int  # the text's number
    ids: list[int]
    inner: slice  # the pieces whose states are used
    spans: list[tuple[int, int]]  # of these pieces, in the text


def transformers() -> Any:
    """Import the package, an extra, and silence it."""
    package = optional("transformers", "an encoder of Hugging Face", "transformers")
    package.utils.logging.set_verbosity_error()
    package.utils.logging.disable_progress_bar()
    return package


class LanguageModel:
    """One layer of an encoder.

    Args:
        feature: the feature's name, for messages.
        folder: has model and tokeniser, as `save_pretrained` writes them.
        layer: 0 for the embeddings, 1 for the first layer; -1 for the last one, and so on.
        precision: of stored vectors, `float16` or `float32`; they are computed in float32.
        device: where the encoder runs.
    """

    def __init__(
        self, feature: str, folder: str, layer: int, precision: str, device: str = "cpu"
    ) -> None:
        self.where = f"features.{feature}.encoder={folder}"
        self.folder, self.precision, self.device = Path(folder).expanduser(), precision, device
        if not self.folder.is_dir():
            raise UserError(
                f"{self.where}: no such folder; give the folder of an encoder, as "
                "hf download NAME --local-dir FOLDER makes it"
            )
        config = self._read(transformers().AutoConfig)
        width, layers = (
            getattr(config, name, None) for name in ("hidden_size", "num_hidden_layers")
        )
        if not isinstance(width, int) or not isinstance(layers, int):
            raise UserError(
                f"{self.where}: {config.model_type} is not an encoder of text with layers"
            )
        if not -layers - 1 <= layer <= layers:
            raise UserError(
                f"features.{feature}.layer={layer}: the encoder has the layers 1 to {layers}, and "
                f"0, its embeddings; give {-layers - 1} to {layers}"
            )
        self.width = width
        self.layer = layer % (layers + 1)

    def _read(self, cls: Any, **options: Any) -> Any:
        """Read what the folder has for a class of `transformers`."""
        try:
            return cls.from_pretrained(str(self.folder), **_LOCAL, **options)
        except Exception as error:  # of any type: these files come from anywhere
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self.where}: {cls.__name__} cannot read it ({reason[:200]}); get it again, with "
                "config.json, tokenizer.json and model.safetensors"
            ) from None

    def hash_files(self, cache: Path) -> str:
        """Hash the files that determine its states; sums of large ones are stored in `cache`."""
        files = sorted(path for path in self.folder.iterdir() if path.suffix in _READ)
        sums = [[path.name, hash_file_cached(path, cache)] for path in files]
        return hashlib.sha256(json.dumps(sums).encode()).hexdigest()

    def identify(self, cache: Path) -> list[object]:
        """Everything that determines the vectors of a text; it is hashed."""
        version = importlib.metadata.version("transformers")
        return [FORMAT, version, self.hash_files(cache), self.layer, self.precision]

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The encoder's fast tokeniser."""
        tokenizer = self._read(transformers().AutoTokenizer)
        if not tokenizer.is_fast:
            raise UserError(
                f"{self.where}: its tokeniser {type(tokenizer).__name__} does not give the "
                "positions of pieces in the text; give an encoder with a fast one (tokenizer.json)"
            )
        if not any(path.match(name) for path in self.folder.iterdir() for name in _VOCABULARIES):
            raise UserError(  # transformers would make one without any pieces
                f"{self.where}: has no tokeniser; give a folder with tokenizer.json, vocab.txt, "
                "vocab.json or another vocabulary"
            )
        return tokenizer

    @functools.cached_property
    def model(self) -> Any:
        """The encoder without its heads. It is an error if the files lack a weight."""
        options = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
        model, info = self._read(transformers().AutoModel, **options)
        missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
        if missing:
            raise UserError(
                f"{self.where}: model.safetensors lacks {len(missing)} weights, such as "
                f"{missing[0]}; get it again"
            )
        if info["mismatched_keys"]:
            raise UserError(
                f"{self.where}: weights in model.safetensors do not fit config.json: "
                f"{info['mismatched_keys']}; get it again"
            )
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        return model.to(self.device).eval()

    @functools.cached_property
    def longest(self) -> int | None:
        """The largest number of pieces, special ones included; None if there is no limit."""
        limits = [self.tokenizer.model_max_length]
        if position_count := getattr(self.model.config, "max_position_embeddings", None):
            table = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
            padding = getattr(table, "padding_idx", None)  # RoBERTa's positions begin behind it
            limits.append(position_count - (0 if padding is None else padding + 1))
        return min(limits) if min(limits) < 1 << 30 else None

    def _cut_windows(self, texts: list[str]) -> Iterator[_Window]:
        """Cut texts into windows that the encoder can read; they overlap by a quarter.

        In an overlap, the states of the first half come from the earlier window.
        """
        options: dict[str, Any] = {}
        overlap = 0
        if self.longest is not None:
            overlap = (self.longest - self.tokenizer.num_special_tokens_to_add()) // 4
            options = {"truncation": True, "max_length": self.longest, "stride": overlap}
            options["return_overflowing_tokens"] = True
        coded = self.tokenizer(
            texts, return_offsets_mapping=True, return_special_tokens_mask=True, **options
        )
        owners = coded.get("overflow_to_sample_mapping", range(len(texts)))
        for i, text in enumerate(owners):
            pieces = np.flatnonzero(np.array(coded["special_tokens_mask"][i]) == 0)
            start, end = (int(pieces[0]), int(pieces[-1]) + 1) if len(pieces) else (0, 0)
            if len(pieces) and i > 0 and owners[i - 1] == text:
                start += overlap // 2
            if len(pieces) and i + 1 < len(owners) and owners[i + 1] == text:
                end -= overlap - overlap // 2
            inner = slice(start, end)
            yield _Window(text, coded["input_ids"][i], inner, coded["offset_mapping"][i][inner])

    @property
    def padding(self) -> int:
        """The id of padding."""
        return int(self.tokenizer.pad_token_id or 0)

    def read_input(self, texts: list[str]) -> EncoderInput:
        """The encoder's input for texts."""
        windows = list(self._cut_windows(texts)) if texts else []
        lengths = np.array([len(window.ids) for window in windows], np.int64)
        offsets = np.append(0, np.cumsum(lengths))
        ids = np.array([id for window in windows for id in window.ids], np.int32)
        starts = zip(windows, offsets.tolist(), strict=False)
        places = [start + i for w, start in starts for i in range(w.inner.start, w.inner.stop)]
        counts, spans = self._collect_spans(texts, windows)
        self._check_ids(ids)
        encoder_windows = EncoderWindows(Ragged(ids, offsets), np.array(places, np.int64))
        return EncoderInput(counts, spans, encoder_windows)

    def _collect_spans(
        self, texts: Sequence[str], windows: list[_Window]
    ) -> tuple[Integers, Integers]:
        """The number of pieces of each text, and their spans, which must ascend in the text."""
        sizes = [len(window.spans) for window in windows]
        counts = np.bincount([w.text for w in windows], sizes, minlength=len(texts))
        counts = counts.astype(np.int64)
        spans = np.array([span for w in windows for span in w.spans], np.int64).reshape(-1, 2)
        owner = np.repeat(np.arange(len(texts)), counts)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        (start, end), is_same_text = spans.T, np.diff(owner) == 0
        is_wrong = (start > end) | (end > lengths[owner])
        is_wrong[1:] |= is_same_text & ((np.diff(start) < 0) | (np.diff(end) < 0))
        if is_wrong.any():
            raise UserError(
                f"{self.where}: its tokeniser cannot be aligned, the places of its pieces do not "
                f"ascend in {texts[owner[int(np.argmax(is_wrong))]]!r}; give another encoder"
            )
        return counts, spans

    def _check_ids(self, ids: NDArray[Any]) -> None:
        """Refuse ids that the model has no embeddings for."""
        size = self.model.get_input_embeddings().num_embeddings
        if ids.max(initial=0) >= size:
            raise UserError(
                f"{self.where}: its tokeniser has more pieces than its model has embeddings, "
                f"{size}; get it again"
            )

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> States:
        """Compute the states of texts."""
        if not texts:
            empty = np.zeros(0, np.int64)
            return States(empty, empty.reshape(0, 2), np.zeros((0, self.width), self.precision))
        windows = list(self._cut_windows(texts))
        sizes = [len(window.spans) for window in windows]
        ends = np.cumsum(sizes)
        counts, spans = self._collect_spans(texts, windows)
        vectors = np.zeros((len(spans), self.width), self.precision)
        lengths = np.array([len(window.ids) for window in windows])
        remaining = np.argsort(-lengths, kind="stable")  # the longest first
        while len(remaining):
            rows = remaining[: max(1, CELLS // int(lengths[remaining[0]]))]
            remaining = remaining[len(rows) :]
            layer = self._forward([windows[i].ids for i in rows])
            with np.errstate(over="ignore"):  # `_check_finite` reports it
                for i, states in zip(rows.tolist(), layer, strict=True):
                    vectors[ends[i] - sizes[i] : ends[i]] = states[windows[i].inner]
        self._check_finite(texts, counts, vectors)
        return States(counts, spans, vectors)

    def _forward(self, rows: list[list[int]]) -> NDArray[np.float32]:
        """The states `(rows, longest, width)` of the layer for rows of ids."""
        ids = np.full((len(rows), max(map(len, rows))), self.padding)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        self._check_ids(ids)
        threads = torch.get_num_threads()
        torch.set_num_threads(THREADS)
        try:
            tensors = [torch.from_numpy(array).to(self.device) for array in (ids, mask)]
            states = compute_states(self.model, tensors[0], tensors[1], self.layer)
        finally:
            torch.set_num_threads(threads)
        layer: NDArray[np.float32] = states.float().cpu().numpy()
        return layer

    def _check_finite(self, texts: Sequence[str], counts: Integers, vectors: NDArray[Any]) -> None:
        """Refuse vectors with infinity or nan."""
        owner = np.repeat(np.arange(len(texts)), counts)
        is_wrong = ~np.isfinite(vectors).all(axis=1)
        if is_wrong.any():
            more = ", or set precision=float32" if self.precision == "float16" else ""
            raise UserError(
                f"{self.where}: a vector of {texts[owner[int(np.argmax(is_wrong))]]!r} is not "
                f"finite in {self.precision}; give another layer or encoder{more}"
            )


def store_states(
    model: LanguageModel, texts: Lines, cache: Path, report_progress: Callable[[str], None]
) -> Path:
    """Store the states of texts in a folder of `cache`, unless they are there; returns it."""
    return _store(
        model, texts, cache, model.identify(cache), open_states, _write_states, report_progress
    )


def store_input(
    model: LanguageModel, texts: Lines, cache: Path, report_progress: Callable[[str], None]
) -> Path:
    """As `store_states`, with the encoder's input in place of its states."""
    identity = [*model.identify(cache), "live"]
    return _store(model, texts, cache, identity, open_input, _write_input, report_progress)


def _store(
    model: LanguageModel,
    texts: Lines,
    cache: Path,
    identity: list[object],
    open_folder: Callable[[Path], object],
    write: Callable[[LanguageModel, Lines, Path, Callable[[str], None]], None],
    report_progress: Callable[[str], None],
) -> Path:
    """Write the folder for texts, unless it is there.

    Its name is a hash of the texts and of `identity`. If several processes call this, one writes
    and the others wait.
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
                write(model, texts, building, report_progress)
            except BaseException:  # nobody else would delete it: other settings, other folder
                shutil.rmtree(building, ignore_errors=True)
                raise
            rename_whole(building, folder)
    return folder


def _write_states(
    model: LanguageModel, texts: Lines, folder: Path, say: Callable[[str], None]
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
                say(f"vectors of {model.folder.name}: {done:,} of {len(texts):,} sentences")
    np.save(folder / "counts.npy", np.concatenate(counts))
    about = {"width": model.width, "precision": model.precision}
    _write_description(folder, ("counts.npy", "spans", "vectors"), about)


def _write_input(
    model: LanguageModel, texts: Lines, folder: Path, say: Callable[[str], None]
) -> None:
    iterator, counts, lengths, done = iter(texts), [], [np.zeros(1, np.int64)], 0
    names = ("spans", "ids", "places")
    with contextlib.ExitStack() as files:
        spans, ids, places = (files.enter_context((folder / n).open("wb")) for n in names)
        while block := list(islice(iterator, BLOCK)):
            block_input = model.read_input(block)
            counts.append(block_input.counts)
            lengths.append(np.diff(block_input.vectors.texts.offsets))
            spans.write(block_input.spans.tobytes())
            ids.write(block_input.vectors.texts.values.tobytes())
            places.write((block_input.vectors.places + done).tobytes())
            done += len(block_input.vectors.texts.values)
    np.save(folder / "counts.npy", np.concatenate(counts))
    np.save(folder / "offsets.npy", np.cumsum(np.concatenate(lengths)))
    _write_description(folder, ("counts.npy", "offsets.npy", *names), {})


def _write_description(folder: Path, names: Iterable[str], about: dict[str, Any]) -> None:
    """Write `about.json`: what is known about the states, and the sums of the files."""
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
