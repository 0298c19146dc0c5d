"""Vectors for text from an encoder of Hugging Face: a layer's state for each of its pieces.

The encoder is a folder. `transformers` (an extra) reads it without network, without pickle and
without running code from it. The states of a corpus are computed once: see `stored_states`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nmt_feat.base.ragged import Ragged
from nmt_feat.embedders.contextual import compute_states
from nmt_feat.encoders.windows import EncoderWindows
from nmt_feat.errors import UserError
from nmt_feat.extras import import_optional
from nmt_feat.text.files import hash_file_cached
from nmt_feat.text.sentences import Integers

FORMAT = 1  # of the folders of states: raise it whenever their content changes
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


def import_transformers() -> Any:
    """The package `transformers`, an extra, silenced."""
    package = import_optional("transformers", "an encoder of Hugging Face", "transformers")
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
        config = self._read(import_transformers().AutoConfig)
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
        tokenizer = self._read(import_transformers().AutoTokenizer)
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
        model, info = self._read(import_transformers().AutoModel, **options)
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
            start = end = 0
            if len(pieces):
                start, end = int(pieces[0]), int(pieces[-1]) + 1
                if i > 0 and owners[i - 1] == text:  # an earlier window overlaps
                    start += overlap // 2
                if i + 1 < len(owners) and owners[i + 1] == text:  # a later one
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
        places = [
            offset + i
            for window, offset in zip(windows, offsets[:-1].tolist(), strict=True)
            for i in range(window.inner.start, window.inner.stop)
        ]
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
