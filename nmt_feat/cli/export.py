"""Export a run to CTranslate2: `nmt-feat export RUN`.

Then `translate.py run=RUN engine=ctranslate2` translates with it. Any combiner can be exported:
concat, add and average of categorical features as CTranslate2's own factors; for any other the
table of sources has a row for each combination of piece and feature values in the training text,
which is read again, or from the cache.

At beam 1 its translations equal those of the run. At larger beams some may differ, because
CTranslate2 searches in another way: `python tools/compare_export.py RUN` counts them on the run's
test set.
"""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nmt_feat.base.terminal import say
from nmt_feat.cli.texts import make_parser
from nmt_feat.config.commands import shell_command
from nmt_feat.config.identity import shorten_class_name
from nmt_feat.data.local_test_sets import without_download
from nmt_feat.errors import UserError, writing_to
from nmt_feat.export.ctranslate2 import QUANTIZATIONS, export_model, fold_tables, list_tuples
from nmt_feat.model.transformer import Transformer
from nmt_feat.runs.additions import prepare_again
from nmt_feat.runs.setup.artifacts import EXPORT, GLOSSARY, WEIGHTS
from nmt_feat.runs.stored.records import read_run
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.files import hash_content


def export_run(folder: Path, quantization: str | None, cache: str | None, limit: float) -> Path:
    """Write a run's export into its folder; the export's folder.

    Args:
        folder: of a finished run.
        quantization: of the weights; None keeps them as they are.
        cache: folder of prepared data, if not the run's.
        limit: largest size of the table of sources, in MiB.
    """
    model = TrainedModel(folder)
    out = folder / EXPORT
    if out.exists():
        raise UserError(f"{out}: already exists; remove it to export again")
    if not isinstance(model.model, Transformer):
        raise UserError(
            f"{folder}: a pretrained model cannot be exported; translate with it without "
            "an export, engine=native"
        )
    if not model.model.method.exportable:
        name = shorten_class_name(model.cfg.method._target_)
        raise UserError(
            f"{folder}: method={name}: CTranslate2 has no model of this form; translate with it "
            "without an export, engine=native"
        )
    for kind in model.kinds.values():
        kind.check_exportable()
    combinations = None
    if tables := fold_tables(model.model.source):
        say(f"exact for all: {' and '.join(f'{len(table):,}' for table in tables)} embeddings")
    else:
        combinations = list_combinations(model, cache, limit)
    with writing_to(out):
        weights = hash_content(folder / WEIGHTS)
        export_model(model.model.cpu(), combinations, out, quantization, weights)
    return out


def list_combinations(model: TrainedModel, cache: str | None, limit: float) -> NDArray[np.int32]:
    """The combinations of piece and feature values in the training text, which is read again."""
    cfg = dataclasses.replace(model.cfg, annotator=model.annotation.settings)
    if cache:
        cfg.paths.cache = cache
    cfg.data = without_download(cfg.data, Path(cfg.paths.cache))
    if (glossary := model.folder / GLOSSARY).is_file():
        terminology = dataclasses.replace(cfg.data.terminology, glossary=str(glossary))
        cfg.data = dataclasses.replace(cfg.data, terminology=terminology)
    prepared = prepare_again(cfg)
    if prepared.fingerprint != read_run(model.folder).data_hashes["prepared"]:
        raise UserError(
            f"{model.folder}: the training data, prepared again, is not the data of its training; "
            "restore the same files and the same annotator"
        )
    combinations = list_tuples(prepared.train, list(cfg.features))
    size = len(combinations) * cfg.model.dim * 4 / 2**20
    say(f"{len(combinations):,} combinations of piece and features: a table of {size:,.1f} MiB")
    if size > limit:
        raise UserError(
            f"the table of {size:,.0f} MiB is above --limit {limit}; raise it, or "
            "train with fewer feature values (max_values, min_count)"
        )
    return combinations


def main() -> None:
    """Write the folder for CTranslate2."""
    parser = make_parser(__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, help="of the weights")
    parser.add_argument("--cache", help="folder of prepared data, if not the run's")
    parser.add_argument("--limit", type=int, default=1024, help="largest table, MiB")
    options = parser.parse_args()
    out = export_run(options.run, options.quantization, options.cache, options.limit)
    translation = shell_command("translate", f"run={options.run}", "engine=ctranslate2")
    say(f"written to {out}; translate with it: {translation}")
