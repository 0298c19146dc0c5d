"""Features that are a language model's vectors: stored before training, or computed during it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from nmt_feat.embedders.contextual import Contextual
from nmt_feat.encoders import stored_states
from nmt_feat.encoders.states import EncoderInput, LanguageModel, States
from nmt_feat.errors import UserError
from nmt_feat.features.kind import FeatureKind
from nmt_feat.features.vocabulary import FeatureVocab


def choose_device(accelerator: str) -> str:
    """The device on which an encoder computes vectors."""
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


class EncoderVectors(FeatureKind):
    """The states of an encoder's layer. A piece has no value; it has the mean of some states."""

    takes: ClassVar[tuple[str, ...]] = ("encoder", "layer", "precision")
    reads = "vectors"
    embedders = "Contextual"
    has_values = False
    depends_on_words = False
    is_wide = True

    def check_settings(self) -> None:
        """Refuse settings that vectors do not have, and a missing encoder."""
        super().check_settings()
        settings = self.settings
        if not settings.encoder:
            raise UserError(
                f"{self.where}.column=context: needs an encoder; set {self.where}.encoder=FOLDER"
            )
        if (settings.policy, settings.max_values, settings.min_count) != ("copy", None, 1):
            raise UserError(
                f"{self.where}: an encoder's vectors have no policy, max_values or min_count; "
                "leave them out"
            )

    def complete_settings(self, subwords: str, device: str) -> None:
        """Fill in the embedder's `width`, and the layer's number from the first layer on."""
        if subwords == "given":
            raise UserError(
                f"{self.where}: an encoder reads text, not the pieces of another toolkit; "
                "choose another subword than given"
            )
        encoder = self.open_encoder(device)
        _ = encoder.tokenizer  # loads it, so that an unfit one is an error before data is read
        self.settings.args["width"], self.settings.layer = encoder.width, encoder.layer

    def identify_data(self, cache: Path) -> list[object]:
        """Also what determines the vectors of a text."""
        encoder = self.open_encoder("cpu")
        return [*super().identify_data(cache), encoder.identify(cache)]

    def trim_identity(self, settings: dict[str, Any]) -> None:
        """Remove settings that mean nothing for stored vectors."""
        settings["file"], settings["encoder"] = False, True
        for key in ("live", "trained", "learning_rate"):
            del settings[key]

    def name_ids(self, vocabulary: FeatureVocab) -> None:
        """None: ids stand for vectors, not for values."""

    def prepare_embedder(
        self,
        embedder: nn.Module,
        vocabulary: FeatureVocab,
        open_encoder: Callable[[], LanguageModel | None],
    ) -> None:
        """Set the scale, by which the embedder divides vectors."""
        assert isinstance(embedder, Contextual)
        embedder.scale = vocabulary.scale

    def check_exportable(self) -> None:
        """Refuse: CTranslate2 has no second encoder."""
        raise UserError(
            f"{self.where}: an encoder's vectors differ from sentence to sentence and "
            "cannot be exported; use engine=native"
        )

    def open_encoder(self, device: str) -> LanguageModel:
        """The encoder that the settings name; it is loaded on its first use."""
        settings = self.settings
        assert settings.encoder
        return LanguageModel(
            self.name, settings.encoder, settings.layer, settings.precision, device
        )

    def reopen_encoder(
        self, vocabulary: FeatureVocab, folder: Path, device: str, cache: Path
    ) -> LanguageModel:
        """The encoder of a trained run, if the sum of its files is still the same."""
        copy = folder / "encoder" / self.name
        path = str(copy) if copy.exists() else vocabulary.encoder
        encoder = LanguageModel(self.name, path, vocabulary.layer, vocabulary.precision, device)
        if encoder.hash_files(cache) != vocabulary.sum:
            raise UserError(
                f"{self.where}: {path} is not the encoder of training any more, its files have "
                f"changed; put the one of training there, or into {copy}"
            )
        return encoder

    def read_states(self, encoder: LanguageModel, texts: list[str]) -> States | EncoderInput:
        """Compute the states of these texts."""
        return encoder.encode_texts(texts)

    def store_states(
        self, encoder: LanguageModel, texts: Any, cache: Path, say: Callable[[str], None]
    ) -> Path:
        """Store the states of these texts in `cache`, unless they are there; return the folder."""
        return stored_states.store_states(encoder, texts, cache, say)

    def open_states(self, folder: Path) -> States | EncoderInput:
        """The stored states, memory-mapped."""
        return stored_states.open_states(folder)

    def scale_vocabulary(
        self,
        vocabulary: FeatureVocab,
        encoder: LanguageModel,
        states: States | EncoderInput,
        texts: Any,
        cache: Path,
    ) -> FeatureVocab:
        """Add the scale of the vectors of train, and the sum of the encoder's files."""
        scale = stored_states.find_scale(encoder, states, texts)
        file_sum = encoder.hash_files(cache)
        return replace(vocabulary, scale=scale, sum=file_sum, layer=encoder.layer)

    def finish_vocabulary(self, vocabulary: FeatureVocab) -> FeatureVocab:
        """Add the path of the encoder's folder, which is not copied."""
        assert self.settings.encoder
        path = str(Path(self.settings.encoder).expanduser().resolve())
        return replace(vocabulary, encoder=path)


class LiveEncoder(EncoderVectors):
    """As `EncoderVectors`, with the encoder in the model: its input is stored, not its states."""

    takes = ("encoder", "layer", "precision", "live", "trained", "learning_rate")
    stores_input = True

    def check_settings(self) -> None:
        """Refuse a learning rate for an encoder that is not trained."""
        super().check_settings()
        rate = self.settings.learning_rate
        if rate is not None and not self.settings.trained:
            raise UserError(
                f"{self.where}.learning_rate={rate}: is for an encoder that is trained; set "
                f"{self.where}.trained=true, or leave it out"
            )

    def identify_data(self, cache: Path) -> list[object]:
        """Also that the encoder's input is stored, not its states."""
        return [*super().identify_data(cache), "live"]

    def trim_identity(self, settings: dict[str, Any]) -> None:
        """Remove the precision of stored vectors; here the model's precision counts."""
        settings["file"], settings["encoder"] = False, True
        del settings["precision"]

    def open_encoder(self, device: str) -> LanguageModel:
        """The encoder that the settings name, in float32 to compute the scale before training."""
        settings = self.settings
        assert settings.encoder
        return LanguageModel(self.name, settings.encoder, settings.layer, "float32", device)

    def prepare_embedder(
        self,
        embedder: nn.Module,
        vocabulary: FeatureVocab,
        open_encoder: Callable[[], LanguageModel | None],
    ) -> None:
        """Make the encoder part of the model."""
        super().prepare_embedder(embedder, vocabulary, open_encoder)
        assert isinstance(embedder, Contextual)
        encoder = open_encoder()
        assert encoder is not None
        embedder.attach_encoder(
            encoder.model, encoder.layer, encoder.padding, self.settings.trained
        )

    def describe_embedder(self, embedder: nn.Module) -> list[str]:
        """The size of the encoder, and how much of it is trained."""
        assert isinstance(embedder, Contextual)
        encoder = embedder.encoder or embedder.frozen_encoder[0]
        parameters = list(encoder.parameters())
        total = sum(p.numel() for p in parameters)
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        return [
            f"{self.where}: its encoder, in the model, has {total:,} parameters; "
            f"{trained:,} of them are trained"
        ]

    def read_states(self, encoder: LanguageModel, texts: list[str]) -> States | EncoderInput:
        """The encoder's input for these texts."""
        return encoder.read_input(texts)

    def store_states(
        self, encoder: LanguageModel, texts: Any, cache: Path, say: Callable[[str], None]
    ) -> Path:
        """Store the encoder's input for these texts in `cache`, unless it is there."""
        return stored_states.store_input(encoder, texts, cache)

    def open_states(self, folder: Path) -> States | EncoderInput:
        """The stored input, memory-mapped."""
        return stored_states.open_input(folder)
