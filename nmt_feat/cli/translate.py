"""`nmt-feat translate`: translate a text with a trained run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from nmt_feat.base.outputs import write_to
from nmt_feat.cli.hydra_program import run_program
from nmt_feat.cli.texts import open_text, report_exceptions
from nmt_feat.config.inference_schema import TranslateConfig
from nmt_feat.config.rules import check_inference
from nmt_feat.errors import UserError
from nmt_feat.evaluation.split_decoding import format_nbest_line
from nmt_feat.runs.setup.artifacts import refuse_output
from nmt_feat.runs.trained.ensembles import list_members, open_runs
from nmt_feat.runs.trained.inputs import Reader
from nmt_feat.runs.trained.long_lines import Translation
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.files import read_lines


def main() -> None:
    """Translate with the settings of the command line."""
    run_program("translate", translate_text)


def translate_text(cfg: TranslateConfig) -> None:
    """Write translations in order, each chunk as soon as it is translated."""
    check_inference(cfg)
    folders = list_members(cfg.run)
    if len(folders) > 1 and cfg.engine != "native":
        raise UserError(f"engine={cfg.engine}: translates with one run; give one, or engine=native")
    model = open_runs(cfg.run, cfg.threads)
    model.unknowns.reaction = cfg.unknown
    model.use_glossary(cfg.glossary)
    reader = open_text(model, cfg, cfg.input)
    refuse_output(cfg.output, folders, [*reader.list_files(), cfg.glossary])
    if cfg.too_long == "refuse" and cfg.input != "-":  # standard input can be read only once
        limit = model.length_limit(cfg)
        for number, sentence in enumerate(reader.read_sentences(), 1):
            normal = model.normalize_sentence(sentence)  # as it is translated
            limit.divide([normal], reader.name_sentences(1, number))
    count = 0
    with write_to(cfg.output, "output=") as out:
        for chunk in translate_chunks(model, reader, cfg):
            for hypotheses in chunk:
                for text, hypothesis in hypotheses:
                    line = format_nbest_line(count, text, hypothesis) if cfg.nbest > 1 else text
                    out.write(line + "\n")
                count += 1
            out.flush()
    report_exceptions(model, count)


def translate_chunks(
    model: TrainedModel, reader: Reader, cfg: TranslateConfig
) -> Iterator[list[list[Translation]]]:
    """The translations, best first, of each line of a chunk of lines, chunk by chunk."""
    sentences, limit = model.read_sentences(reader), model.length_limit(cfg)
    annotation = model.annotation
    number = 0  # of the last sentence of the chunk before
    raw_lines = iter(read_lines(cfg.raw)) if cfg.raw else None
    while chunk := list(islice(sentences, cfg.chunk)):
        first, count = number + 1, len(chunk)
        where = reader.name_sentences(count, first)
        if raw_lines is not None:  # their lines belong to whole sentences, so before these divide
            raw = list(islice(raw_lines, count))
            chunk = annotation.annotate_sentences(chunk, raw, reader.label, first)
        chunk, where = limit.divide(chunk, where)
        if reader.kind == "text" and raw_lines is None:
            chunk = annotation.annotate_sentences(chunk, None, reader.label, first)
        elif raw_lines is None:
            chunk = annotation.complete_sentences(chunk, reader.label, first)
        translations = limit.within_memory(
            lambda part, names, first_time: model.translate_sentences(part, names, cfg, first_time),
            chunk,
            where,
        )
        yield limit.gather(translations)
        number += count
    if raw_lines is not None and next(raw_lines, None) is not None:
        raise UserError(f"raw={cfg.raw}: has more lines than input={cfg.input}, {number}")
