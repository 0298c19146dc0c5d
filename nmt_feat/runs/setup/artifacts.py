"""The files in a run's folder that translation needs: how they are written and loaded.

They are not in run.py, because translation would load the libraries of training, for a second.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nmt_feat.annotators.texts import fingerprint_of, make_annotators
from nmt_feat.base.checksums import SUMS, read_sums, write_summed
from nmt_feat.base.files import copy_whole, make_folder, write_atomically
from nmt_feat.base.outputs import check_output, same_file
from nmt_feat.base.typed_json import load_json
from nmt_feat.config.data_schema import AnnotatorConfig
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.data.prepare import Prepared
from nmt_feat.encoders.states import LanguageModel
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kinds, list_user_kinds
from nmt_feat.features.contextual import choose_device
from nmt_feat.features.kind import FeatureKind
from nmt_feat.model.seeds import isolated_generator
from nmt_feat.model.translation_model import TranslationModel
from nmt_feat.runs.setup.build_model import build_model
from nmt_feat.runs.setup.pretrained_model import build_pretrained, describe_pretrained
from nmt_feat.runs.stored.records import FINISHED, STARTED, read_run
from nmt_feat.text.files import open_decompressed
from nmt_feat.text.subwords import Subwords
from nmt_feat.training.checkpoints import FORMAT, read_tensors, restore_weights

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
ANNOTATOR = "annotator"
"""Folder of the annotator's model, in a run's folder."""
FINGERPRINT = "FINGERPRINT"
"""File in that folder that says which annotator it was."""
GLOSSARY = "glossary.tsv"
"""The copy of the glossary, if the run was trained with terms."""
ENCODER = "encoder/features.json"
"""The file of its vocabularies that every run has, whatever its features are."""
PRETRAINED = "encoder/pretrained.json"
"""The description of a pretrained model's layers, if the run has such a model."""
EXPORT = "ctranslate2"
"""Folder of its export, in a run's folder."""


def build_run_model(
    cfg: TrainConfig,
    encoder: SourceEncoder,
    target: Subwords,
    encoders: Mapping[str, LanguageModel] | None = None,
    pretrained: Mapping[str, Any] | None = None,
) -> TranslationModel:
    """The untrained model of a run, without ready-made vectors.

    Args:
        cfg: the run's settings.
        encoder, target: the vocabularies of its data.
        encoders: by feature, the language model whose states it has; by default they are opened.
        pretrained: the description of a pretrained model; by default read from its folder.
    """
    if cfg.model.folder:
        return build_pretrained(cfg, encoder.id_counts, pretrained or describe_pretrained(cfg))
    model = build_model(cfg, encoder.id_counts, encoder.subwords.size, target.size)
    embedders, kinds = model.feature_embedding.features, choose_kinds(cfg.features)
    model.method.load_values(encoder.name_values())
    for name, kind in kinds.items():
        if name not in embedders:
            continue

        def open_encoder(name: str = name, kind: FeatureKind = kind) -> LanguageModel | None:
            device = choose_device(cfg.trainer.accelerator)
            return encoders[name] if encoders else kind.open_encoder(device)

        # For weights that the files of an encoder may lack, such as a pooling layer's.
        with isolated_generator(cfg.seed, f"encoder {name}"):
            kind.prepare_embedder(embedders[name], encoder.features[name], open_encoder)
    return model


@dataclass(frozen=True)
class LoadedModel:
    """The trained model of a run, with what turns texts into its ids."""

    encoder: SourceEncoder
    target: Subwords
    encoders: dict[str, LanguageModel]
    """By feature, the language model whose states it has."""
    model: TranslationModel


def load_model(folder: Path, cfg: TrainConfig, device: str) -> LoadedModel:
    """The trained model in a finished run's folder, whose settings are `cfg`.

    `device` is where encoders of features run.
    """
    kinds, cache = choose_kinds(cfg.features), Path(cfg.paths.cache)
    encoder = SourceEncoder.load(folder / "encoder", list_user_kinds(kinds))
    target = Subwords.load(folder / "encoder" / "target")
    reopened = {
        name: kind.reopen_encoder(encoder.features[name], folder, device, cache)
        for name, kind in kinds.items()
    }
    encoders = {name: model for name, model in reopened.items() if model}
    pretrained = None
    if cfg.model.folder:
        pretrained = load_json((folder / PRETRAINED).read_text(encoding="utf-8"))
    model = build_run_model(cfg, encoder, target, encoders, pretrained)
    restore_weights(model, read_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
    return LoadedModel(encoder, target, encoders, model)


def refuse_unfinished(folder: Path) -> None:
    """Refuse a folder that lacks files of a finished run; the message says why they are missing."""
    lacking = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if not lacking:
        if not (folder / ENCODER).is_file():
            raise UserError(f"{folder}: lacks {ENCODER}; copy the run's whole folder")
        return
    if (folder / FINISHED).is_file() and read_run(folder).members:
        raise UserError(f"{folder}: an ensemble has no weights of its own; give one of its runs")
    if (folder / STARTED).is_file() and not (folder / FINISHED).is_file():
        raise UserError(
            f"{folder}: this run is not finished; the command that began it continues it"
        )
    raise UserError(
        f"{folder}: no finished run (it has no {' or '.join(lacking)}); give a folder that "
        "train.py wrote"
    )


def save_for_translation(cfg: TrainConfig, prepared: Prepared, folder: Path) -> None:
    """Write into the run's folder all that translation needs apart from the weights."""
    make_folder(folder / "encoder")
    vocabularies = prepared.encoder.features
    for name, kind in choose_kinds(cfg.features).items():
        vocabularies[name] = kind.finish_vocabulary(vocabularies[name])
    prepared.encoder.save(folder / "encoder")
    prepared.target.save(folder / "encoder" / "target")
    if cfg.model.folder:
        described = json.dumps(describe_pretrained(cfg), indent=1)
        write_atomically(folder / PRETRAINED, described.encode())
    content: dict[str, Any] = {"format": FORMAT, **dataclasses.asdict(cfg)}
    if cfg.data.terminology.glossary is not None:  # with mode=none, metrics may read it
        with open_decompressed(cfg.data.terminology.glossary) as file:
            write_atomically(folder / GLOSSARY, file.read())
    if cfg.uses_annotator:
        content["annotator"] = _save_annotators(cfg.annotator, content["annotator"], folder)
    write_summed(folder / CONFIG, OmegaConf.to_yaml(content).encode())


def _save_annotators(
    settings: AnnotatorConfig, content: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Copy the annotators' models into the run's folder; their settings, which name the copies.

    `content`: the settings as they are written.
    """
    for name, annotator in make_annotators(settings).items():
        copies = annotator_folder(folder, settings, name)
        make_folder(copies)
        write_atomically(copies / FINGERPRINT, f"{fingerprint_of(annotator)}\n".encode())
        part = content["parts"].get(name, content)
        model = Path(part["model"] or "").expanduser()
        if part["model"] and model.exists():  # else the name of an installed package
            copy = copies / model.resolve().name
            copy_whole(model, copy)
            part["model"] = str(copy.relative_to(folder).as_posix())
    return content


def annotator_folder(folder: Path, settings: AnnotatorConfig, name: str) -> Path:
    """The folder of an annotator's model in a run's folder, one for each annotator."""
    return folder / ANNOTATOR / name if settings.parts else folder / ANNOTATOR


def refuse_output(output: str, folders: Iterable[str | Path], inputs: Iterable[str | None]) -> None:
    """Refuse an output that is one of the inputs, or a file of the runs in these folders."""
    files: list[str | Path | None] = [*inputs]
    tops = [Path(folder) for folder in folders]
    for top in tops:
        files += [top / name for name in (CONFIG, WEIGHTS, SUMS, GLOSSARY)]
        for name in ("encoder", ANNOTATOR, EXPORT):
            files += (top / name).rglob("*")
    check_output(output, "output=", files)
    for top in tops:
        for name in (STARTED, FINISHED, *read_sums(top)):  # such as its translations
            if same_file(output, top / name):
                raise UserError(
                    f"output={output}: is {top / name}, which belongs to the run; give another file"
                )
