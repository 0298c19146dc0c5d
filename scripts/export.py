"""Export a run to CTranslate2: `python scripts/export.py RUN`.

Then `translate.py run=RUN engine=ctranslate2` translates with it. Any combiner can be exported:
concat, add and average of categorical features as CTranslate2's own factors; for any other the
table of sources has a row for each combination of piece and feature values in the training text,
which is read again, or from the cache.

At beam 1 its translations are ours. At beams above 1 some may differ, for CTranslate2's search is
another: `python tools/compare_export.py RUN` counts them on the run's test set.
"""

import argparse
import dataclasses
from pathlib import Path

from nmt_feat.base.terminal import say, use_utf8
from nmt_feat.config.commands import shell_command
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.corpora import without_download
from nmt_feat.errors import UserError, fail, writing_to
from nmt_feat.export.ctranslate2 import QUANTIZATIONS, attested, check_exportable, export, factors
from nmt_feat.runs.artifacts import WEIGHTS
from nmt_feat.runs.records import read_run
from nmt_feat.runs.trained_model import EXPORT, Run
from nmt_feat.text.files import hash_content


def main() -> None:
    """Write the folder for CTranslate2."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, help="of the weights")
    parser.add_argument("--cache", help="folder of prepared data, if not the run's")
    parser.add_argument("--limit", type=int, default=1024, help="largest table, MiB")
    given = parser.parse_args()
    use_utf8()
    try:
        run = Run(given.run)
        out = given.run / EXPORT
        if out.exists():
            raise UserError(f"{out}: is there already; remove it to export again")
        check_exportable(run.model)
        cfg = dataclasses.replace(run.cfg, annotator=run.annotation)
        if given.cache:
            cfg.paths.cache = given.cache
        cfg.data = without_download(cfg.data, Path(cfg.paths.cache))
        tuples = None
        if tables := factors(run.model.source):
            say(f"exact for all: {' and '.join(f'{len(table):,}' for table in tables)} embeddings")
        else:
            prepared = prepare_run(cfg, say)
            if prepared.fingerprint != read_run(given.run).data_hashes["prepared"]:
                raise UserError(
                    f"{given.run}: its training data, prepared again, differs from that of "
                    "training; put the same files, and the same annotator, where they were"
                )
            tuples = attested(prepared.train, list(cfg.features))
            size = len(tuples) * cfg.model.dim * 4 / 2**20
            say(f"{len(tuples):,} combinations of piece and features: a table of {size:,.1f} MiB")
            if size > given.limit:
                raise UserError(
                    f"the table of {size:,.0f} MiB is above --limit {given.limit}; raise it, or "
                    "train with fewer feature values (max_values, min_count)"
                )
        with writing_to(out):
            weights = hash_content(given.run / WEIGHTS)
            export(run.model.cpu(), tuples, out, given.quantization, weights)
    except UserError as error:
        fail(str(error))
    say(
        f"written to {out}; translate with it: "
        f"{shell_command('translate', f'run={given.run}', 'engine=ctranslate2')}"
    )


if __name__ == "__main__":
    main()
