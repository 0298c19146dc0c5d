"""Public test sets by sacreBLEU's own downloader and cache: `sacrebleu:wmt16`."""

from __future__ import annotations

from pathlib import Path

from nmt_feat.base.terminal import silence_logger
from nmt_feat.config.members import PUBLIC_SET
from nmt_feat.errors import UserError, suggest

ROLES = {"source": "get_source_file", "target": "get_reference_files"}


def find_sacrebleu_file(key: str, name: str, source_lang: str, target_lang: str) -> Path:
    """Find a file of a public test set, which sacreBLEU downloads if its cache lacks it.

    Args:
        key: the setting, which ends in `source` or `target`; the first one of several references.
        name: `sacrebleu:` and the set.
        source_lang: the source language.
        target_lang: the target language.
    """
    from sacrebleu.dataset import DATASETS

    role, test_set = key.rpartition(".")[2], name.removeprefix(PUBLIC_SET)
    if role not in ROLES:
        raise UserError(f"{key}={name}: sacreBLEU has only the source and the target of a set")
    if test_set not in DATASETS:
        raise UserError(f"{key}={name}: unknown to sacreBLEU; {suggest(test_set, DATASETS)}")
    dataset, pair = DATASETS[test_set], f"{source_lang}-{target_lang}"
    if pair not in dataset.langpairs:
        raise UserError(
            f"{key}={name}: sacreBLEU does not have it for {pair}; "
            f"{suggest(pair, dataset.langpairs)}"
        )
    try:
        with silence_logger("sacrebleu"):
            files = getattr(dataset, ROLES[role])(pair)
    except (Exception, SystemExit) as error:  # it ends the process where a sum is wrong
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{key}={name}: sacreBLEU cannot fetch it ({reason}); where there is a network, do: "
            f"sacrebleu -t {test_set} -l {pair} --echo src"
        ) from None
    return Path(files if isinstance(files, str) else files[0])
