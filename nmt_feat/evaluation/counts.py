"""The statistics of each sentence: the score of any set of sentences follows from their sums.

They are a run's evidence: intervals and p-values are computed from them (`analysis.statistics`).
For BLEU and chrF, which every run has, they are sacreBLEU's counts of n-grams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nmt_feat.base.checksums import check_sums, write_summed
from nmt_feat.errors import UserError
from nmt_feat.evaluation.forms import Statistics
from nmt_feat.evaluation.languages import BY_WORDS, Scoring
from nmt_feat.evaluation.packed_runs import read_packed_counts
from nmt_feat.evaluation.scores import make_scorers, scored_line

Counts = Statistics
"""Those of a run, by metric: whole numbers for BLEU and chrF, any numbers for other metrics."""

ORDERS = {"BLEU": range(1, 5), "chrF": range(1, 7)}
COLUMNS = {
    "BLEU": [
        *("length", "reference"),
        *(f"right{n}" for n in ORDERS["BLEU"]),
        *(f"all{n}" for n in ORDERS["BLEU"]),
    ],
    "chrF": [f"{count}{n}" for n in ORDERS["chrF"] for count in ("all", "reference", "right")],
}
"""The names of a sentence's counts by metric, in sacreBLEU's order, with the length of the n-grams.
Columns of other metrics are numbered."""


def count_sentences(
    hypotheses: Sequence[str], references: Sequence[str], scoring: Scoring = BY_WORDS
) -> dict[str, Counts]:
    """The counts of BLEU and chrF, (sentences, columns); their sums give the corpus's score."""
    hypotheses, references = list(map(scored_line, hypotheses)), list(map(scored_line, references))
    return {
        name: np.array(scorer._extract_corpus_statistics(hypotheses, [references]), np.int64)
        for name, scorer in zip(COLUMNS, make_scorers(scoring), strict=True)
    }


def hash_references(references: Sequence[str]) -> str:
    """SHA-256 of the references, by which two files of counts of one test set are recognised."""
    return hashlib.sha256("\n".join(map(scored_line, references)).encode()).hexdigest()


def counts_file(name: str) -> str:
    """The name of the file of a set's counts in a run's folder."""
    return f"{name}.counts.parquet"


def write_counts(path: Path, counts: Mapping[str, Counts], references: Sequence[str]) -> None:
    """Write a Parquet file: a row for each sentence, a column for each count, no text."""
    columns: dict[str, pa.Array] = {}
    for metric, values in counts.items():
        names = COLUMNS.get(metric, range(1, values.shape[1] + 1))
        kind = np.int32 if metric in COLUMNS else np.float64
        for name, column in zip(names, values.T, strict=True):
            columns[f"{metric} {name}"] = pa.array(column.astype(kind))
    metadata = {"references": hash_references(references)}
    content = pa.BufferOutputStream()
    pq.write_table(
        pa.table(columns).replace_schema_metadata(metadata),
        content,
        compression="zstd",
        write_statistics=False,
    )
    write_summed(path, content.getvalue().to_pybytes())


def read_counts(path: Path) -> tuple[dict[str, Counts], str]:
    """The counts that `write_counts` wrote, and the hash of the references.

    If the run's folder does not exist, the run is packed; see `packed_runs`.
    """
    check_sums(path.parent, only=[path.name])
    try:
        table = pq.read_table(path) if path.parent.is_dir() else read_packed_counts(path)
        counts = {
            metric: np.stack([table[f"{metric} {name}"].to_numpy() for name in names], axis=1)
            for metric, names in COLUMNS.items()
        }
        further: dict[str, list[Counts]] = {}
        for column in table.column_names:
            metric = column.rpartition(" ")[0]
            if metric not in COLUMNS:
                further.setdefault(metric, []).append(table[column].to_numpy())
        counts |= {metric: np.stack(columns, axis=1) for metric, columns in further.items()}
        return counts, table.schema.metadata[b"references"].decode()
    except (OSError, KeyError, TypeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: has no readable counts ({reason}); train the run again") from None
