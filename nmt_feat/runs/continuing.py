"""Continuing a run with other settings: which are allowed, and from which run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nmt_feat.config.identity import flatten_settings
from nmt_feat.errors import UserError
from nmt_feat.training.checkpoints import CHECKPOINTS, Checkpoints
from nmt_feat.training.schedules import ENDLESS


def refuse_changes(
    run: Path, before: dict[str, Any], now: dict[str, Any], step: int, exact: bool
) -> None:
    """Refuse settings with which the result would differ from training with them from the start.

    Allowed are another `trainer.max_steps`, if it is not below `step` and the schedule does not
    depend on it, and, unless `exact`, other `devices` and `accumulate` of the same product. The
    number of threads in use is compared elsewhere, see `Trainer.resume`.

    Args:
        run: the run's folder, for the message.
        before: settings that determined the result so far.
        now: the same of the run that is to continue.
        step: the last update.
        exact: whether the bits must be the same.
    """
    old, new = flatten_settings(before), flatten_settings(json.loads(json.dumps(now)))
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    changed.discard("trainer.threads")
    if new["optimizer.schedule"] in ENDLESS and new["trainer.max_steps"] >= step:
        changed.discard("trainer.max_steps")
    if not changed:
        return
    hint = "leave them as they were, or train from the start"
    batches, old_batches = (
        settings["trainer.devices"] * settings["trainer.accumulate"] for settings in (new, old)
    )
    if changed <= {"trainer.devices", "trainer.accumulate"} and batches == old_batches:
        if not exact:
            return
        hint = "leave them as they were, or set trainer.resume_exact=false: only rounding differs"
    differences = (f"{name}={old.get(name)}, here {new.get(name)}" for name in sorted(changed))
    raise UserError(f"{run}: was trained with {'; '.join(differences)}; {hint}")


def find_unfinished(run: Path) -> Checkpoints:
    """The checkpoints of the unfinished run in a folder; an error if there is no such run."""
    checkpoints = Checkpoints(run / CHECKPOINTS, 1)
    newest = checkpoints.newest
    if newest is None or newest.meta.finished:
        reason = "has finished training" if newest else "has no checkpoint"
        raise UserError(f"resume={run}: {reason}; give the folder of an unfinished run")
    return checkpoints
