"""Whether method, combiner and features go together, as far as settings alone tell."""

from __future__ import annotations

from nmt_feat.config.identity import method_name
from nmt_feat.config.schema import TrainConfig
from nmt_feat.errors import UserError
from nmt_feat.runs.build_model import locate_method


def check_method(cfg: TrainConfig) -> None:
    """Refuse, before any data is read, what has no meaning together with the method."""
    method, where = locate_method(cfg.method), f"method={method_name(cfg.method._target_)}"
    if not method.merges_with_word and not cfg.model.source_words:
        raise UserError(
            f"{where} model.source_words=false: the encoder reads words only, which are then "
            "absent; leave one of them out"
        )
