"""A pretrained encoder-decoder whose encoder reads what a combiner makes of word and features.

    ids, features -> rows of its own table, embedders -> combiner -> times its scale -> its encoder

Search and trainer use it as they use `nmt_feat.model.transformer.Transformer`. Their ids are
mapped to the model's. At the start the combiner gives the word alone, so the model is what it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nmt_feat.combiners import Combiner
from nmt_feat.config.schema import LoraConfig
from nmt_feat.embedders.ids import BOS
from nmt_feat.encoders.states import transformers
from nmt_feat.errors import UserError
from nmt_feat.methods import Embedding
from nmt_feat.model.embedding import Masking, SourceEmbedding
from nmt_feat.model.translation_model import ANY_LENGTH, LossFunction, TranslationModel
from nmt_feat.pretrained.lora import BASE, MATRICES, add_matrices

PARTS = ("words", "encoder", "decoder", "output")
"""The parts of a pretrained model; `words` is the table of pieces, of both sides, and of the output
but for models that have another one there."""


def build_network(config: Mapping[str, Any], dropouts: Mapping[str, float]) -> Any:
    """The model of `transformers` for the content of its config.json, with random weights."""
    package = transformers()
    settings = {name: value for name, value in config.items() if name != "dtype"}
    typed = package.AutoConfig.for_model(**settings | dict(dropouts))
    network = package.AutoModelForSeq2SeqLM.from_config(typed).float()
    # T5 from version 1.1 on, which does not scale what the output layer reads, and mT5 have a table
    # of their own there, which `transformers` ties until it sees weights.
    if typed.model_type == "mt5" or not getattr(typed, "scale_decoder_outputs", True):
        table = network.get_output_embeddings()
        table.weight = nn.Parameter(table.weight.detach().clone())
    return network


class MappedTable(nn.Module):
    """The model's table, looked up by our ids."""

    ids: Tensor
    """The model's ids by ours."""

    def __init__(self, table: nn.Embedding, ids: Tensor) -> None:
        super().__init__()
        self.table = table
        self.register_buffer("ids", ids)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids `(B, S)` to `(B, S, D)`, without the model's scale."""
        return F.embedding(self.ids[ids], self.table.weight)


class PretrainedEmbedding(SourceEmbedding):
    """The source embedding, but for positions and dropout, which the model's encoder adds."""

    def __init__(
        self,
        words: MappedTable,
        features: dict[str, nn.Module],
        combiner: Combiner,
        masked: Mapping[str, Masking],
        scale: float,
    ) -> None:
        super().__init__(None, features, combiner, 0.0, masked)
        self.words = words  # type: ignore[assignment]
        self.scale = scale

    def forward(self, ids: Tensor, features: dict[str, Tensor]) -> Tensor:
        """Embed `ids` and `features`, each `(B, S)`, as `(B, S, D)`."""
        return self.merge_tokens(ids, features) * self.scale


@dataclass
class PretrainedCache:
    """The decoder's keys and values of R hypotheses, and the memory that each reads."""

    layers: Any
    memory: Tensor
    mask: Tensor

    def select_rows(self, index: Tensor) -> PretrainedCache:
        """The hypotheses `index` `(R',)` of these; replaces them."""
        self.layers.batch_select_indices(index)
        return PretrainedCache(self.layers, self.memory[index], self.mask[index])


class PretrainedModel(TranslationModel):
    """An encoder-decoder of `transformers`, with random weights until `load_weights`.

    Args:
        config: the content of its config.json.
        ids: the model's ids by ours.
        codes: of a model of several languages the ids that stand before source and target.
        code_is_last: whether that of the source stands behind it, and no other symbol before that
            of the target.
        prefix: other ids that stand before each source.
        features: the features' embedders by name, in the combiner's order.
        combiner: merges the word and the features.
        masked: see `SourceEmbedding`.
        dropouts: the model's settings of dropout by name.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        ids: list[int],
        codes: tuple[int, int] | None,
        code_is_last: bool,
        prefix: Sequence[int],
        features: dict[str, nn.Module],
        combiner: Combiner,
        masked: Mapping[str, Masking],
        dropouts: Mapping[str, float],
    ) -> None:
        super().__init__()
        network = build_network(config, dropouts)
        network.train()
        typed = network.config
        self.longest = int(getattr(typed, "max_position_embeddings", ANY_LENGTH))
        # Parameters are named by the first of these that has them: the table is of both sides.
        self.words = network.get_input_embeddings()
        self.encoder, self.decoder = network.get_encoder(), network.get_decoder()
        self.output = network.get_output_embeddings()
        self.network = network
        scale = float(getattr(self.encoder, "embed_scale", getattr(self.words, "embed_scale", 1.0)))
        self.table = MappedTable(self.words, torch.tensor(ids))
        self.source = PretrainedEmbedding(self.table, features, combiner, masked, scale)
        self.method = Embedding(typed.d_model, {})
        code = codes[:1] if codes else ()
        self.before = (*prefix, *(() if code_is_last else code))
        """Ids of what stands before each source."""
        self.behind = code if code_is_last else ()
        """Ids of what stands behind each source."""
        self.first: int | None = None
        """What stands before our beginning symbol, if that is the code of a language."""
        if codes and not code_is_last:
            self.first = int(typed.eos_token_id)  # with codes a target begins with the end symbol
        is_scaled = getattr(typed, "scale_decoder_outputs", False)  # of T5
        self.output_scale = typed.d_model**-0.5 if is_scaled else 1.0
        self.begins_twice = ids.count(ids[BOS]) > 1
        """Whether what begins a target has another of our ids as well."""
        self.longest_source = self.longest - len(self.before) - len(self.behind) - 1
        self.longest_target = self.longest - self.count_first() - 1

    @property
    def ids(self) -> Tensor:
        """The model's ids by ours."""
        return self.table.ids

    def freeze_parts(self, entries: Iterable[str]) -> None:
        """Never change these parts, as `encoder` or `decoder.layers.0`; checkpoints lack them."""
        names = set()
        for entry in entries:
            inside = [n for n, _ in self.named_parameters() if f"{n}.".startswith(f"{entry}.")]
            if not inside:
                first = next(n for n, _ in self.named_parameters() if n.startswith("encoder."))
                layer = ".".join(first.split(".")[:3])
                raise UserError(
                    f"init.freeze=[{entry}]: no part of the model; known: {', '.join(PARTS)}, "
                    f"{layer} ..."
                )
            names.update(inside)
        self._freeze(names)

    def add_lora(self, settings: LoraConfig) -> None:
        """Train matrices of low rank in place of the model, no weight of which changes."""
        add_matrices(self.network, settings)
        inside = set(self.network.parameters())
        named = ((name, p) for name, p in self.named_parameters() if p in inside)
        self._freeze({name for name, _ in named if MATRICES not in name})

    def _freeze(self, names: set[str]) -> None:
        for name, parameter in self.named_parameters():
            if name in names:
                parameter.requires_grad_(False)
        self.kept_elsewhere = frozenset(names)

    def load_weights(self, folder: Path) -> None:
        """Take over the weights in a folder, all of them."""
        where, cls = f"model.folder={folder}", transformers().AutoModelForSeq2SeqLM
        try:
            loaded, report = cls.from_pretrained(
                str(folder),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except Exception as error:  # of any type: these files come from anywhere
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{where}: cannot be read ({reason})") from None
        if missing := sorted(report["missing_keys"]):
            raise UserError(f"{where}: its weights lack {missing[0]}; download the model again")
        tables = (loaded.get_output_embeddings().weight, loaded.get_input_embeddings().weight)
        if self.output.weight is self.words.weight and not torch.equal(*tables):
            raise UserError(f"{where}: its output layer has a table of its own, which is not read")
        weights, parts = loaded.state_dict(), self.network.state_dict()
        for name in parts:
            if MATRICES not in name:
                parts[name] = weights[name.replace(BASE, ".")]
        self.network.load_state_dict(parts)

    def encode(self, source: Tensor, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Memory `(B, S, D)` of source ids and features `(B, S)`; mask `(B, S)`."""
        self._check_length(source.shape[1] + len(self.before) + len(self.behind), "source")
        x = self._add_frame(self.source(source, features), mask)
        output = self.encoder(inputs_embeds=x, attention_mask=self._mask_memory(mask))
        memory: Tensor = output.last_hidden_state
        return memory

    def _add_frame(self, x: Tensor, mask: Tensor) -> Tensor:
        """Embedded sources `(B, S, D)`, with what stands before and behind them, which has no
        features. Behind a source is where its padding begins.
        """
        if self.behind:
            code = (self.words.weight[self.behind[0]] * self.source.scale).to(x)
            ends = F.one_hot(mask.sum(1), x.shape[1] + 1).bool()  # (B, S + 1)
            x = torch.where(ends[..., None], code, F.pad(x, (0, 0, 0, 1)))
        if self.before:
            rows = self.words.weight[list(self.before)] * self.source.scale
            x = torch.cat([rows.to(x).expand(len(x), -1, -1), x], dim=1)
        return x

    def decode(self, target: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Hidden states `(B, T, D)` after target ids `(B, T)`; mask `(B, S)` of the memory."""
        self._check_length(target.shape[1] + self.count_first(), "target")
        ids = self.ids[target]
        if self.first is not None:  # the code, which is our beginning, stands behind the model's
            ids = F.pad(ids, (1, 0), value=self.first)
        states: Tensor = self.decoder(
            input_ids=ids,
            encoder_hidden_states=memory,
            encoder_attention_mask=self._mask_memory(mask),
            use_cache=False,
        ).last_hidden_state
        states = states * self.output_scale
        return states if self.first is None else states[:, 1:]

    def _mask_memory(self, mask: Tensor) -> Tensor:
        """The mask of the memory, as long as the source and what stands around it.

        Padding is at the end: one more 1 in front is as good as one behind the last piece.
        """
        return F.pad(mask.long(), (len(self.before) + len(self.behind), 0), value=1)

    def output_layer(self) -> tuple[Tensor, Tensor | None]:
        """Weight `(V, D)` and bias `(V,)` of the output layer, by the model's ids."""
        bias: Tensor | None = getattr(self.network, "final_logits_bias", None)
        return self.output.weight, None if bias is None else bias[0]

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Scores `(..., V)` of the next piece, by our ids, after hidden states `(..., D)`."""
        logits = F.linear(hidden, *self.output_layer())[..., self.ids]
        if self.begins_twice:  # else the piece would count twice in a softmax
            logits[..., BOS] = -math.inf
        return logits

    def compute_loss(
        self, states: Tensor, right: Tensor, smoothing: float, loss: LossFunction
    ) -> tuple[Tensor, Tensor]:
        """Summed smoothed loss and negative log-likelihood of `right` `(N,)` after `(N, D)`."""
        table, bias = self.output_layer()
        if bias is not None:  # as a last column, which states have a 1 for
            table = torch.cat([table, bias[:, None].to(table)], dim=1)
            states = F.pad(states, (0, 1), value=1.0)
        return loss(states, table, self.ids[right], smoothing)

    def start_cache(self, memory: Tensor, mask: Tensor) -> PretrainedCache:
        """The cache before the first step: memory `(B, S, D)`, mask `(B, S)`."""
        package, config = transformers(), self.network.config
        caches = (package.DynamicCache(config=config) for _ in range(2))
        mask = self._mask_memory(mask)
        cache = PretrainedCache(package.EncoderDecoderCache(*caches), memory, mask)
        if self.first is not None:
            self._decode_next(torch.full((len(memory),), self.first, device=memory.device), cache)
        return cache

    def decode_step(self, token: Tensor, position: int, cache: PretrainedCache) -> Tensor:
        """Scores `(R, V)`, fp32, of the piece after `token` `(R,)` at `position`."""
        self._check_length(position + 1 + self.count_first(), "translation")
        return self.compute_logits(self._decode_next(self.ids[token], cache)).float()

    def _decode_next(self, ids: Tensor, cache: PretrainedCache) -> Tensor:
        """States `(R, D)` after the model's ids `(R,)`."""
        states: Tensor = self.decoder(
            input_ids=ids[:, None],
            encoder_hidden_states=cache.memory,
            encoder_attention_mask=cache.mask,
            cache=cache.layers,
            use_cache=True,
        ).last_hidden_state
        return states[:, 0] * self.output_scale

    def count_first(self) -> int:
        """How many symbols stand before our beginning symbol."""
        return 0 if self.first is None else 1

    def _check_length(self, length: int, name: str) -> None:
        if length > self.longest:
            raise UserError(
                f"a {name} of {length} pieces is longer than the pretrained model reads, "
                f"{self.longest}; set a lower data.max_pieces or decoding.max_ratio"
            )
