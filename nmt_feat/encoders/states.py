"""Vectors of text by an encoder of Hugging Face: one layer's state for each of its pieces.

The encoder is a folder, read by `transformers` (an extra) without network, without pickle and
without code of its own. Of a corpus, states are made once and kept in the cache folder.
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
"""Texts that are worked on at a time."""
CELLS = 4096
"""Pieces of a batch, padding included."""
THREADS = torch.get_num_threads()
"""PyTorch's own choice: the bits of stored states depend on no setting of a run."""
_READ = {".json", ".txt", ".model", ".safetensors"}
_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model")
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


class States(NamedTuple):
    """Of several texts the pieces of an encoder, its special ones left out."""

    counts: Integers  # pieces of each text
    spans: Integers  # (pieces, 2): first character of each in its text, first one behind it
    vectors: NDArray[Any]  # (pieces, width), float16 or float32


class EncoderInput(NamedTuple):
    """The same before the encoder has read them."""

    counts: Integers
    spans: Integers
    vectors: EncoderWindows


class _Window(NamedTuple):
    """Pieces that the encoder reads at once, special ones included."""

    text: int
    ids: list[int]
    inner: slice  # those whose states are taken
    spans: list[tuple[int, int]]  # of these


def transformers() -> Any:
    """The package, an extra, kept silent."""
    package = optional("transformers", "an encoder of Hugging Face", "transformers")
    package.utils.logging.set_verbosity_error()
    package.utils.logging.disable_progress_bar()
    return package


class LanguageModel:
    """One layer of an encoder.

    Args:
        feature: the feature's name, for messages.
        folder: of model and tokeniser, as `save_pretrained` writes it.
        layer: 0 is the embeddings, 1 the first layer; negative ones count from the last, -1.
        precision: of the vectors, `float16` or `float32`; computed in float32.
        device: where it runs.
    """

    def __init__(
        self, feature: str, folder: str, layer: int, precision: str, device: str = "cpu"
    ) -> None:
        self.where = f"features.{feature}.encoder={folder}"
        self.folder, self.precision, self.device = Path(folder).expanduser(), precision, device
        if not self.folder.is_dir():
            raise UserError(
                f"{self.where}: no such folder; give that of an encoder, as "
                "hf download NAME --local-dir FOLDER makes it"
            )
        config = self._read(transformers().AutoConfig)
        width, layers = (
            getattr(config, name, None) for name in ("hidden_size", "num_hidden_layers")
        )
        if not isinstance(width, int) or not isinstance(layers, int):
            raise UserError(f"{self.where}: {config.model_type} is no encoder of text with layers")
        if not -layers - 1 <= layer <= layers:
            raise UserError(
                f"features.{feature}.layer={layer}: the encoder has the layers 1 to {layers}, and "
                f"0, its embeddings; give {-layers - 1} to {layers}"
            )
        self.width = width
        self.layer = layer % (layers + 1)

    def _read(self, cls: Any, **how: Any) -> Any:
        try:
            return cls.from_pretrained(str(self.folder), **_LOCAL, **how)
        except Exception as error:  # of any type: these files come from anywhere
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self.where}: {cls.__name__} cannot read it ({reason[:200]}); get it again, with "
                "config.json, tokenizer.json and model.safetensors"
            ) from None

    def sum(self, cache: Path) -> str:
        """SHA-256 of the files that determine its states; large ones are remembered in `cache`."""
        files = sorted(path for path in self.folder.iterdir() if path.suffix in _READ)
        sums = [[path.name, hash_file_cached(path, cache)] for path in files]
        return hashlib.sha256(json.dumps(sums).encode()).hexdigest()

    def identity(self, cache: Path) -> list[object]:
        """What determines its vectors of a text."""
        version = importlib.metadata.version("transformers")
        return [FORMAT, version, self.sum(cache), self.layer, self.precision]

    @functools.cached_property
    def tokenizer(self) -> Any:
        """Its fast tokeniser."""
        tokenizer = self._read(transformers().AutoTokenizer)
        if not tokenizer.is_fast:
            raise UserError(
                f"{self.where}: its tokeniser {type(tokenizer).__name__} does not say where its "
                "pieces stand in the text; give an encoder with a fast one (tokenizer.json)"
            )
        if not any(path.match(name) for path in self.folder.iterdir() for name in _VOCABULARIES):
            raise UserError(  # transformers would make one without any pieces
                f"{self.where}: has no tokeniser; give a folder with tokenizer.json, vocab.txt, "
                "vocab.json or another vocabulary"
            )
        return tokenizer

    @functools.cached_property
    def model(self) -> Any:
        """It without its heads; a weight that the files lack is an error, not a random one."""
        how = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
        model, info = self._read(transformers().AutoModel, **how)
        lacking = sorted(name for name in info["missing_keys"] if "pooler" not in name)
        if lacking or info["mismatched_keys"]:
            raise UserError(
                f"{self.where}: model.safetensors lacks or misfits {len(lacking)} weights, such "
                f"as {(lacking or [str(info['mismatched_keys'])])[0]}; get it again"
            )
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        return model.to(self.device).eval()

    @functools.cached_property
    def longest(self) -> int | None:
        """Pieces that it reads at most, special ones included; none where nothing says so."""
        limits = [self.tokenizer.model_max_length]
        if places := getattr(self.model.config, "max_position_embeddings", None):
            table = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
            before = getattr(table, "padding_idx", None)  # RoBERTa's begin behind it
            limits.append(places - (0 if before is None else before + 1))
        return min(limits) if min(limits) < 1 << 30 else None

    def _windows(self, texts: list[str]) -> Iterator[_Window]:
        """The pieces of texts; of one that is too long, windows that overlap by a quarter.

        Of an overlap, the first half's states are the earlier window's.
        """
        how: dict[str, Any] = {}
        overlap = 0
        if self.longest is not None:
            overlap = (self.longest - self.tokenizer.num_special_tokens_to_add()) // 4
            how = {"truncation": True, "max_length": self.longest, "stride": overlap}
            how["return_overflowing_tokens"] = True
        coded = self.tokenizer(
            texts, return_offsets_mapping=True, return_special_tokens_mask=True, **how
        )
        owners = coded.get("overflow_to_sample_mapping", range(len(texts)))
        for i, text in enumerate(owners):
            real = np.flatnonzero(np.array(coded["special_tokens_mask"][i]) == 0)
            follows = i > 0 and owners[i - 1] == text
            goes_on = i + 1 < len(owners) and owners[i + 1] == text
            start = real[0] + (overlap // 2 if follows else 0) if len(real) else 0
            end = real[-1] + 1 - (overlap - overlap // 2 if goes_on else 0) if len(real) else 0
            inner = slice(int(start), int(end))
            yield _Window(text, coded["input_ids"][i], inner, coded["offset_mapping"][i][inner])

    @property
    def padding(self) -> int:
        """The id that fills rows."""
        return int(self.tokenizer.pad_token_id or 0)

    def read_input(self, texts: list[str]) -> EncoderInput:
        """What the encoder reads of texts; what the tokeniser says of its pieces must fit them."""
        windows = list(self._windows(texts)) if texts else []
        lengths = np.array([len(window.ids) for window in windows], np.int64)
        offsets = np.append(0, np.cumsum(lengths))
        ids = np.array([id for window in windows for id in window.ids], np.int32)
        starts = zip(windows, offsets.tolist(), strict=False)
        places = [start + i for w, start in starts for i in range(w.inner.start, w.inner.stop)]
        counts, spans = self._spans(texts, windows)
        self._check_ids(ids)
        read = EncoderWindows(Ragged(ids, offsets), np.array(places, np.int64))
        return EncoderInput(counts, spans, read)

    def _spans(self, texts: Sequence[str], windows: list[_Window]) -> tuple[Integers, Integers]:
        sizes = [len(window.spans) for window in windows]
        counts = np.bincount([w.text for w in windows], sizes, minlength=len(texts))
        counts = counts.astype(np.int64)
        spans = np.array([span for w in windows for span in w.spans], np.int64).reshape(-1, 2)
        owner = np.repeat(np.arange(len(texts)), counts)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        (start, end), same = spans.T, np.diff(owner) == 0
        wrong = (start > end) | (end > lengths[owner])
        wrong[1:] |= same & ((np.diff(start) < 0) | (np.diff(end) < 0))
        if wrong.any():
            raise UserError(
                f"{self.where}: its tokeniser cannot be aligned, the places of its pieces do not "
                f"ascend in {texts[owner[int(np.argmax(wrong))]]!r}; give another encoder"
            )
        return counts, spans

    def _check_ids(self, ids: NDArray[Any]) -> None:
        size = self.model.get_input_embeddings().num_embeddings
        if ids.max(initial=0) >= size:
            raise UserError(
                f"{self.where}: its tokeniser has more pieces than its model has embeddings, "
                f"{size}; get it again"
            )

    @torch.inference_mode()
    def states(self, texts: list[str]) -> States:
        """The states of texts; what the tokeniser says of its pieces must fit them."""
        if not texts:
            none = np.zeros(0, np.int64)
            return States(none, none.reshape(0, 2), np.zeros((0, self.width), self.precision))
        windows = list(self._windows(texts))
        sizes = [len(window.spans) for window in windows]
        ends = np.cumsum(sizes)
        counts, spans = self._spans(texts, windows)
        vectors = np.zeros((len(spans), self.width), self.precision)
        lengths = np.array([len(window.ids) for window in windows])
        rest = np.argsort(-lengths, kind="stable")
        while len(rest):
            rows = rest[: max(1, CELLS // int(lengths[rest[0]]))]
            rest = rest[len(rows) :]
            layer = self._forward([windows[i].ids for i in rows])
            with np.errstate(over="ignore"):  # found below
                for i, states in zip(rows.tolist(), layer, strict=True):
                    vectors[ends[i] - sizes[i] : ends[i]] = states[windows[i].inner]
        self._check_finite(texts, counts, vectors)
        return States(counts, spans, vectors)

    def _forward(self, rows: list[list[int]]) -> NDArray[np.float32]:
        """States `(rows, longest, width)` of the layer."""
        ids = np.full((len(rows), max(map(len, rows))), self.padding)
        real = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)], real[i, : len(row)] = row, 1
        self._check_ids(ids)
        threads = torch.get_num_threads()
        torch.set_num_threads(THREADS)
        try:
            tensors = [torch.from_numpy(array).to(self.device) for array in (ids, real)]
            states = compute_states(self.model, tensors[0], tensors[1], self.layer)
        finally:
            torch.set_num_threads(threads)
        layer: NDArray[np.float32] = states.float().cpu().numpy()
        return layer

    def _check_finite(self, texts: Sequence[str], counts: Integers, vectors: NDArray[Any]) -> None:
        owner = np.repeat(np.arange(len(texts)), counts)
        strange = ~np.isfinite(vectors).all(axis=1)
        if strange.any():
            more = ", or set precision=float32" if self.precision == "float16" else ""
            raise UserError(
                f"{self.where}: a vector of {texts[owner[int(np.argmax(strange))]]!r} is not "
                f"finite in {self.precision}; give another layer or encoder{more}"
            )


def store_states(
    model: LanguageModel, texts: Lines, cache: Path, report_progress: Callable[[str], None]
) -> Path:
    """The folder in `cache` with the states of these texts, from before or made there now."""
    return _store(
        model, texts, cache, model.identity(cache), open_states, _write_states, report_progress
    )


def store_input(
    model: LanguageModel, texts: Lines, cache: Path, report_progress: Callable[[str], None]
) -> Path:
    """The same with what the encoder reads in place of its states."""
    identity = [*model.identity(cache), "live"]
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
    """The folder of these texts, from before or written now.

    Its name is a hash of the texts and of `identity`: the model's files, the layer. Of several
    processes one writes it, the others wait.
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
            except BaseException:  # of another layer or precision, the folder has another name
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
            block_states = model.states(block)
            counts.append(block_states.counts)
            spans.write(block_states.spans.tobytes())
            vectors.write(block_states.vectors.tobytes())
            done += len(block)
            if len(texts) > BLOCK:
                say(f"vectors of {model.folder.name}: {done:,} of {len(texts):,} sentences")
    np.save(folder / "counts.npy", np.concatenate(counts))
    about = {"width": model.width, "precision": model.precision}
    _describe(folder, ("counts.npy", "spans", "vectors"), about)


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
    _describe(folder, ("counts.npy", "offsets.npy", *names), {})


def _describe(folder: Path, names: Iterable[str], about: dict[str, Any]) -> None:
    sums = {name: hash_file_cached(folder / name, folder.parent) for name in names}
    content = json.dumps({**about, "files": sums})
    (folder / "about.json").write_text(content, encoding="utf-8")


def _read_description(folder: Path) -> dict[str, Any]:
    """What `about.json` says, the files as they were written."""
    about: dict[str, Any] = json.loads((folder / "about.json").read_bytes())
    for name, expected in about["files"].items():
        if hash_file_cached(folder / name, folder.parent) != expected:
            raise ValueError(f"{folder / name} has changed")
    return about


def _mapped(path: Path, kind: Any) -> NDArray[Any]:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)


def open_states(folder: Path) -> States:
    """What `store_states` wrote, memory-mapped; OSError or ValueError where it is damaged."""
    about = _read_description(folder)
    spans = _mapped(folder / "spans", np.int64).reshape(-1, 2)
    vectors = _mapped(folder / "vectors", about["precision"]).reshape(-1, about["width"])
    return States(np.load(folder / "counts.npy", allow_pickle=False), spans, vectors)


def open_input(folder: Path) -> EncoderInput:
    """What `store_input` wrote; otherwise as `open_states`."""
    _read_description(folder)
    counts, offsets = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("counts", "offsets")
    )
    texts = Ragged(_mapped(folder / "ids", np.int32), offsets)
    places = _mapped(folder / "places", np.int64)
    return EncoderInput(
        counts, _mapped(folder / "spans", np.int64).reshape(-1, 2), EncoderWindows(texts, places)
    )


def root_mean_square(vectors: NDArray[Any]) -> float:
    """The root mean square of all numbers, read in blocks."""
    bounds = [*range(0, len(vectors), BLOCK * 8), len(vectors)]
    total = sum(
        float(np.square(vectors[a:b].astype(np.float64)).sum()) for a, b in pairwise(bounds)
    )
    return max(math.sqrt(total / max(vectors.size, 1)), 1e-12)


def find_scale(model: LanguageModel, stored: States | EncoderInput, texts: Iterable[str]) -> float:
    """`root_mean_square` of the vectors of texts; of the first `BLOCK` where none are made yet."""
    if isinstance(stored, States):
        return root_mean_square(stored.vectors)
    return root_mean_square(model.states(list(islice(texts, BLOCK))).vectors)
