"""A pretrained encoder-decoder whose encoder reads what a combiner makes of word and features.

    ids, features -> its table, embedders -> combiner -> times its scale -> its encoder

Search and trainer use it like `nmt_feat.model.transformer.Transformer`. Their ids ("ours") are
mapped to the ids of the pretrained model. At the start the combiner returns the word alone, so the
model translates as before.
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
from nmt_feat.encoders.states import import_transformers
from nmt_feat.errors import UserError
from nmt_feat.methods import Embedding
from nmt_feat.model.embedding import Masking, SourceEmbedding
from nmt_feat.model.translation_model import ANY_LENGTH, LossFunction, TranslationModel
from nmt_feat.pretrained.lora import BASE, MATRICES, add_matrices

PARTS = ("words", "encoder", "decoder", "output")
"""The parts of a pretrained model. `words` is the table of pieces, for source and target, and for
the output unless the model has another table there."""


def build_network(config: Mapping[str, Any], dropouts: Mapping[str, float]) -> Any:
    """The model of `transformers` for the content of its config.json, with random weights."""
    package = import_transformers()
    typed = _complete_config(config, dropouts)
    network = package.AutoModelForSeq2SeqLM.from_config(typed).float()
    # mT5, and T5 from version 1.1 on (which does not scale the inputs of the output layer), have a
    # separate table there. `transformers` ties it until it sees weights.
    if typed.model_type == "mt5" or not getattr(typed, "scale_decoder_outputs", True):
        table = network.get_output_embeddings()
        table.weight = nn.Parameter(table.weight.detach().clone())
    return network


def _complete_config(config: Mapping[str, Any], dropouts: Mapping[str, float]) -> Any:
    """The configuration with the defaults of its class, as `transformers` has it."""
    settings = {name: value for name, value in config.items() if name != "dtype"}
    return import_transformers().AutoConfig.for_model(**settings | dict(dropouts))


def drops_layers(config: Mapping[str, Any]) -> bool:
    """Whether training leaves out layers at random (LayerDrop), as that of M2M-100 does."""
    typed = _complete_config(config, {})
    return any(getattr(typed, f"{side}_layerdrop", 0) for side in ("encoder", "decoder"))


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
    """The source embedding without positions and dropout, which the model's encoder adds."""

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
        """The cache with the hypotheses `index` `(R',)`; this one is not used any more."""
        self.layers.batch_select_indices(index)
        return PretrainedCache(self.layers, self.memory[index], self.mask[index])


class PretrainedModel(TranslationModel):
    """An encoder-decoder of `transformers`, with random weights until `load_weights`.

    Args:
        config: the content of its config.json.
        ids: the model's ids by ours.
        codes: the ids of the codes of source and target language; None for a model without codes.
        code_is_last: see `Family`.
        prefix: further ids before each source.
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
        # A parameter's name comes from the first of these modules that has it. The table, which
        # both sides share, comes first.
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
        """The ids before each source."""
        self.behind = code if code_is_last else ()
        """The ids behind each source."""
        self.before_bos: int | None = None
        """The id before our BOS in the target, if BOS is the code of a language."""
        if codes and not code_is_last:
            self.before_bos = int(typed.eos_token_id)  # such a target begins with the end symbol
        is_scaled = getattr(typed, "scale_decoder_outputs", False)  # of T5
        self.output_scale = typed.d_model**-0.5 if is_scaled else 1.0
        self.bos_has_two_ids = ids.count(ids[BOS]) > 1
        """Whether the model's piece for our BOS has another of our ids, too."""
        self.longest_source = self.longest - len(self.before) - len(self.behind) - 1
        self.longest_target = self.longest - self.count_before_bos() - 1

    @property
    def ids(self) -> Tensor:
        """The model's ids by ours."""
        return self.table.ids

    def freeze_parts(self, entries: Iterable[str]) -> None:
        """Freeze parts, such as `encoder` or `decoder.layers.0`; checkpoints do not store them."""
        names = set()
        for entry in entries:
            inside = [n for n, _ in self.named_parameters() if f"{n}.".startswith(f"{entry}.")]
            if not inside:
                # Its name is that of the family: `encoder.layers.0`, T5's `encoder.block.0`.
                layer = next(n for n, _ in self.encoder.named_modules() if n.endswith(".0"))
                raise UserError(
                    f"init.freeze=[{entry}]: no part of the model; known: {', '.join(PARTS)}, "
                    f"encoder.{layer} ..."
                )
            names.update(inside)
        self._freeze(names)

    def add_lora(self, settings: LoraConfig) -> None:
        """Add matrices of low rank, and train only these; the model's weights never change."""
        add_matrices(self.network, settings)
        inside = set(self.network.parameters())
        named = ((name, p) for name, p in self.named_parameters() if p in inside)
        self._freeze({name for name, _ in named if MATRICES not in name})

    def _freeze(self, names: set[str]) -> None:
        for name, parameter in self.named_parameters():
            if name in names:
                parameter.requires_grad_(False)
        self.external_weights = frozenset(names)

    def load_weights(self, folder: Path) -> None:
        """Load all weights from a folder."""
        where, cls = f"model.folder={folder}", import_transformers().AutoModelForSeq2SeqLM
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
            raise UserError(
                f"{where}: its output layer has a separate table, which is not supported"
            )
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
        """Put the pieces before and behind each source, without features, around x `(B, S, D)`."""
        if self.behind:
            code = (self.words.weight[self.behind[0]] * self.source.scale).to(x)
            # Behind the last real piece, where padding begins.
            is_end = F.one_hot(mask.sum(1), x.shape[1] + 1).bool()  # (B, S + 1)
            x = torch.where(is_end[..., None], code, F.pad(x, (0, 0, 0, 1)))
        if self.before:
            rows = self.words.weight[list(self.before)] * self.source.scale
            x = torch.cat([rows.to(x).expand(len(x), -1, -1), x], dim=1)
        return x

    def decode(self, target: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Hidden states `(B, T, D)` after target ids `(B, T)`; mask `(B, S)` of the memory."""
        self._check_length(target.shape[1] + self.count_before_bos(), "target")
        ids = self.ids[target]
        if self.before_bos is not None:
            ids = F.pad(ids, (1, 0), value=self.before_bos)
        states: Tensor = self.decoder(
            input_ids=ids,
            encoder_hidden_states=memory,
            encoder_attention_mask=self._mask_memory(mask),
            use_cache=False,
        ).last_hidden_state
        states = states * self.output_scale
        return states if self.before_bos is None else states[:, 1:]

    def _mask_memory(self, mask: Tensor) -> Tensor:
        """The mask of the memory, for the source and the pieces around it.

        Padding comes last, so a 1 in front has the same effect as a 1 behind the last piece.
        """
        return F.pad(mask.long(), (len(self.before) + len(self.behind), 0), value=1)

    def output_layer(self) -> tuple[Tensor, Tensor | None]:
        """Weight `(V, D)` and bias `(V,)` of the output layer, by the model's ids."""
        bias: Tensor | None = getattr(self.network, "final_logits_bias", None)
        return self.output.weight, None if bias is None else bias[0]

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Scores `(..., V)` of the next piece, by our ids, after hidden states `(..., D)`."""
        logits = F.linear(hidden, *self.output_layer())[..., self.ids]
        if self.bos_has_two_ids:  # a softmax would count the piece twice
            logits[..., BOS] = -math.inf
        return logits

    def compute_loss(
        self, states: Tensor, right: Tensor, smoothing: float, loss: LossFunction
    ) -> tuple[Tensor, Tensor]:
        """Summed smoothed loss and negative log-likelihood of `right` `(N,)` after `(N, D)`."""
        table, bias = self.output_layer()
        if bias is not None:  # as one more column of the table, for which states have a 1
            table = torch.cat([table, bias[:, None].to(table)], dim=1)
            states = F.pad(states, (0, 1), value=1.0)
        return loss(states, table, self.ids[right], smoothing)

    def start_cache(self, memory: Tensor, mask: Tensor) -> PretrainedCache:
        """The cache before the first step: memory `(B, S, D)`, mask `(B, S)`."""
        package, config = import_transformers(), self.network.config
        caches = (package.DynamicCache(config=config) for _ in range(2))
        mask = self._mask_memory(mask)
        cache = PretrainedCache(package.EncoderDecoderCache(*caches), memory, mask)
        if self.before_bos is not None:
            first_ids = torch.full((len(memory),), self.before_bos, device=memory.device)
            self._decode_next(first_ids, cache)
        return cache

    def decode_step(self, token: Tensor, position: int, cache: PretrainedCache) -> Tensor:
        """Scores `(R, V)`, fp32, of the piece after `token` `(R,)` at `position`."""
        self._check_length(position + 1 + self.count_before_bos(), "translation")
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

    def count_before_bos(self) -> int:
        """How many symbols a target has before our BOS."""
        return 0 if self.before_bos is None else 1

    def _check_length(self, length: int, name: str) -> None:
        if length > self.longest:
            raise UserError(
                f"a {name} of {length} pieces is longer than the pretrained model reads, "
                f"{self.longest}; set a lower data.max_pieces or decoding.max_ratio"
            )
