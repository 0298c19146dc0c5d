"""The model card of a finished run: what it is and how to use it, in the form of the Hub.

It is `README.md` in the run's folder, so that the folder can be shared. Its last line has a
checksum of the text above: a card that somebody has edited is not written again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from nmt_feat.base.files import write_atomically
from nmt_feat.base.terminal import say
from nmt_feat.config.instantiate import SHIPPED
from nmt_feat.config.method_choice import locate_method
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.controls import name_control
from nmt_feat.data.terminology import without_marks
from nmt_feat.evaluation.scores import Scores
from nmt_feat.features.choice import choose_kinds, list_sentence_keys
from nmt_feat.runs.stored.records import RunRecord
from nmt_feat.runs.stored.run_summary import list_signatures
from nmt_feat.text.merging import TEXT

CARD = "README.md"
LAST_LINE = (
    "<!-- nmt_feat {}: this card is written again when the run gets further scores; "
    "one that you have edited stays as it is -->\n"
)


def write_card(folder: Path, cfg: TrainConfig, record: RunRecord) -> None:
    """Write or update the card of a finished run; a card that somebody has edited stays.

    Args:
        folder: the run's.
        cfg: its settings.
        record: its record, whose `config` has its name, tags and licence.
    """
    path, card = folder / CARD, _add_last_line(describe_run(folder, cfg, record))
    try:
        old_card = path.read_text(encoding="utf-8") if path.exists() else None
        if old_card == card or (old_card is not None and not is_unedited(old_card)):
            return
        write_atomically(path, card.encode())
    except (OSError, UnicodeDecodeError) as error:
        say(f"{path}: the model card cannot be written ({error}); the run is whole without it")


def is_unedited(card: str) -> bool:
    """Whether a card is unchanged since the program wrote it."""
    text, _, _ = card.rpartition(LAST_LINE.partition("{")[0])
    return card == _add_last_line(text)


def _add_last_line(text: str) -> str:
    return text + LAST_LINE.format(hashlib.sha256(text.encode()).hexdigest()[:16])


def describe_run(folder: Path, cfg: TrainConfig, record: RunRecord) -> str:
    """The text of the card without its last line; metadata comes first."""
    name = record.config.get("name") or folder.name
    metadata = yaml.safe_dump(
        collect_metadata(name, cfg, record), sort_keys=False, allow_unicode=True
    )
    sections = {
        "Translate": _describe_use(folder, cfg, record),
        "Method": _describe_method(cfg, record),
        "Data": _describe_data(cfg, record),
        "Scores": _describe_scores(record),
    }
    body = ["\n".join([f"## {title}\n", *lines, ""]) for title, lines in sections.items()]
    pair = f"{cfg.data.source_lang} to {cfg.data.target_lang}"
    version = record.code.get("version", "")
    about = f"A translation model, {pair}, trained with nmt_feat {version}.\n"
    if cfg.data.objective == "denoise":
        about = (
            f"A model that restores {cfg.data.source_lang} text, of which words are masked: a "
            f"start for other models, trained with nmt_feat {version}. It does not translate.\n"
        )
    return "\n".join([f"---\n{metadata}---\n", f"# {name}\n", about, *body]) + "\n"


def collect_metadata(name: str, cfg: TrainConfig, record: RunRecord) -> dict[str, Any]:
    """The card's metadata under the names of the Hub; a licence only if the user gives one."""
    languages = (re.split("[-_]", code)[0] for code in (cfg.data.source_lang, cfg.data.target_lang))
    licence = record.config.get("license")
    user_tags = record.config.get("tags") or []
    translates = cfg.data.objective == "translate"
    task = "translation" if translates else "denoising"
    results = [
        _result_entry(cfg, record.data, test_set, scores)
        for test_set, scores in record.tests.items()
    ]
    return {
        "language": [*dict.fromkeys(languages)],
        **({"license": licence} if licence else {}),
        "library_name": "nmt_feat",
        **({"pipeline_tag": task} if translates else {}),
        "tags": [*dict.fromkeys([task, "nmt_feat", record.method, *user_tags])],
        "metrics": ["bleu", "chrf"],
        **({"model-index": [{"name": name, "results": results}]} if translates else {}),
    }


def _result_entry(cfg: TrainConfig, corpus: str, test_set: str, scores: Scores) -> dict[str, Any]:
    """A test set's scores in the form of the Hub's `model-index`."""
    pair = f"{cfg.data.source_lang}-{cfg.data.target_lang}"
    metrics = [
        {
            "type": name.lower(),
            "value": round(value, 2),
            "name": name,
            "args": {"signature": signature},
        }
        for name, value, signature in list_scores(scores)
    ]
    return {
        "task": {"type": "translation", "name": f"Translation {pair}"},
        "dataset": {"name": f"{corpus}, {test_set}", "type": corpus, "split": test_set},
        "metrics": metrics,
    }


def list_scores(scores: Scores) -> list[tuple[str, float, str]]:
    """Name, value and signature of each metric."""
    metrics = scores.all_metrics()
    return [(name, metric.score, metric.signature) for name, metric in metrics.items()]


def _describe_use(folder: Path, cfg: TrainConfig, record: RunRecord) -> Iterator[str]:
    """How to translate with the run, and what it needs for that."""
    if reason := _explain_no_use(folder, cfg):
        yield f"Not for translation: {reason}"
        return
    yield from _describe_command(folder, cfg, record)
    targets = [cfg.combiner._target_, cfg.method._target_, *cfg.annotator.targets]
    for feature in cfg.features.values():
        targets += [feature._target_, feature.kind]
    for target in dict.fromkeys(targets):
        if target and target.partition(".")[0] not in SHIPPED:
            yield f"It needs the class `{target}`: its file belongs into the current folder."
    for name, feature in cfg.features.items():
        if feature.encoder:
            encoder = Path(feature.encoder).name
            yield f"It reads the encoder {encoder}: put that into its folder `encoder/{name}`."


def _explain_no_use(folder: Path, cfg: TrainConfig) -> str:
    """Why a run is not for translation; empty if it is."""
    if cfg.data.objective == "denoise":
        return f"other runs start from it, `init.run={folder.name}`."
    if setting := name_control(cfg):
        return f"a control, to which a text means nothing ({setting})."
    return ""


def _describe_command(folder: Path, cfg: TrainConfig, record: RunRecord) -> Iterator[str]:
    """The command that translates, and what its files are."""
    reads_features, terminology = locate_method(cfg.method).reads_features, cfg.data.terminology
    kinds = without_marks(choose_kinds(cfg.features if reads_features else {}), terminology)
    needs_words = cfg.subword.split_at_words or any(k.requires_annotation for k in kinds.values())
    needs_words = needs_words or terminology.needs_lemmas
    tools = [target.rpartition(".")[2] for target in cfg.annotator.targets]
    sources = {f.get("source") for f in record.data_report.get("features", {}).values()}
    is_annotated = needs_words and (not tools or TEXT in sources)
    source = "sentences.conllu" if is_annotated else "sentences.txt"
    raw = " raw=sentences.raw.txt" if cfg.data.train.raw and tools else ""
    terms = " glossary=glossary.tsv" if terminology.is_applied else ""
    keys = [key for key, is_required in list_sentence_keys(kinds.values()).items() if is_required]
    labels = "".join(f" +labels.{key}=VALUE" for key in keys)
    files = f"input={source}{raw}{terms}{labels} output=translations.txt"
    yield "```bash"
    yield f"nmt-feat translate run={folder.name} {files}"
    yield "```\n"
    if is_annotated:
        yield "The source needs the annotation of training: CoNLL-U, or the format of training."
    elif tools and reads_features:
        verb = "annotates" if len(tools) == 1 else "annotate"
        yield f"The source is plain text, which {' and '.join(tools)} {verb} as in training."
    else:
        yield "The source is plain text, a sentence a line."
    if terminology.is_applied:
        yield "The glossary, which may be absent, has a term, a tab and its translation in a line."
    for key in keys:
        yield f"VALUE is the {key} of all sentences; label_files.{key} names a file of values."


def _describe_method(cfg: TrainConfig, record: RunRecord) -> Iterator[str]:
    parts = ", ".join(record.features) or "none: words only"
    yield f"- combination of word and features: {record.method}"
    yield f"- features of source words: {parts}"
    if cfg.control != "none":
        yield f"- control: {cfg.control}"
    model = cfg.model
    layers = f"{model.encoder_layers} encoder and {model.decoder_layers} decoder layers"
    yield f"- Transformer: {layers}, width {model.dim}, {model.heads} heads"
    if total := record.parameters.get("total"):
        yield f"- parameters: {total:,}"
    yield f"- training: {record.updates:,} updates, seed {record.seed}, run {record.hash[:8]}"


def _describe_data(cfg: TrainConfig, record: RunRecord) -> Iterator[str]:
    yield f"- corpus: {record.data}, {cfg.data.source_lang} to {cfg.data.target_lang}"
    for name, split in (record.data_report.get("splits") or {}).items():
        yield f"- {name}: {split['sentences']:,} pairs"
    tools = [target.rpartition(".")[2] for target in cfg.annotator.targets]
    if record.features and tools:
        yield f"- annotated by {' and '.join(tools)}"


def _describe_scores(record: RunRecord) -> Iterator[str]:
    rows = {name: list_scores(scores) for name, scores in record.scores.items()}
    heading = list(dict.fromkeys(metric for row in rows.values() for metric, _, _ in row))
    yield "| | " + " | ".join(heading) + " |"
    yield "|---|" + "---|" * len(heading)
    for name, row in rows.items():
        values = {metric: f"{value:.2f}" for metric, value, _ in row}
        yield f"| {name} | " + " | ".join(values.get(metric, "-") for metric in heading) + " |"
    yield ""
    yield from (f"- {line}" for line in list_signatures([record]))
