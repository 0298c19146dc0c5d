"""The training loop: updates, validation, checkpoints, early stopping, exact resume.

Everything that decides the result counts updates, never seconds. The loop takes values and
functions: it knows no config, no console and no corpus.

    fit:  until finished, or until `stop_requested`
              update             draw batches, gradients, optimiser
              validate           every `validate_every` updates, and after the last one
              save_checkpoint    after each validation, and where a signal stops the training
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nmt_feat.errors import UserError, is_out_of_memory, short_repr
from nmt_feat.model.seeds import derive_seed
from nmt_feat.training.checkpoints import AGAIN, Checkpoints, TrainingState, restore_weights
from nmt_feat.training.generators import gather_generators, restore_generators
from nmt_feat.training.interfaces import (
    PlannedBatch,
    ProgressReport,
    TrainingSettings,
    ValidationScores,
)
from nmt_feat.training.objective import Objective
from nmt_feat.training.optimizers import HIGHEST, load_optimizer, optimizer_tensors
from nmt_feat.training.schedules import rate_factor
from nmt_feat.training.stopwatch import Stopwatch


class UpdateLoss(NamedTuple):
    """The loss of an update, for display."""

    loss_sum: Tensor
    """The sum over the target tokens of this process; 0 if the update was skipped."""
    token_count: int
    """The number of target tokens of all processes."""


class Trainer:
    """One training, in one of `fabric.world_size` processes.

    Args:
        settings: see `TrainingSettings`.
        objective: model and loss, on the device.
        optimizer: updates the objective's parameters.
        plan_epoch: from an epoch's number to its batches, for all processes together. All epochs
            have the same number of batches.
        validate_model: scores the model on dev; None if a signal interrupts it.
        checkpoints: the checkpoints of this run.
        fabric: device, processes and precision.
        progress: shows what happens.
        stop_requested: whether training should end after this update; all processes get the same
            answer.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        plan_epoch: Callable[[int], Sequence[PlannedBatch]],
        validate_model: Callable[[], ValidationScores | None],
        checkpoints: Checkpoints,
        fabric: Fabric,
        progress: ProgressReport,
        stop_requested: Callable[[], bool],
    ) -> None:
        self.settings, self.fabric, self.progress = settings, fabric, progress
        self.model, self.bare_objective = objective.model, objective
        self.objective, self.optimizer = fabric.setup(objective, optimizer)
        self.plan_epoch, self.validate_model = plan_epoch, validate_model
        self.epoch, self.plan = 0, plan_epoch(0)
        self.checkpoints, self.stop_requested = checkpoints, stop_requested
        threads = torch.get_num_threads() if fabric.device.type == "cpu" else 0
        self.state = TrainingState(processes=fabric.world_size, threads=threads)
        self.saved_step = 0
        """The step of the last checkpoint."""
        is_adam = isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW))
        is_fused = is_adam and optimizer.defaults.get("fused")
        self.optimizer_skips = bool(is_fused) and fabric.device.type == "cuda"
        """Whether the optimiser skips updates by a flag on the GPU, for which nothing waits."""
        self.unchecked_updates: list[tuple[Tensor, list[PlannedBatch]]] = []
        """Updates since the last `count_skipped`: whether each was skipped, and its batches."""
        torch.manual_seed(derive_seed(settings.seed, "dropout", fabric.global_rank))

    # ---- resume and save

    def resume(self) -> None:
        """Continue exactly from the newest checkpoint, if there is one.

        Raises:
            UserError: if the number of processes or (on CPU) threads is another one, because the
                last bits depend on it; not if `resume_exact` is false.
        """
        newest = self.checkpoints.newest
        if newest is None:
            return
        self.saved_step = newest.step
        current, self.state = self.state, newest.copy_state()
        restore_weights(self.model, self.checkpoints.read_weights(self.state.step))
        tensors = self.checkpoints.read_state()
        load_optimizer(self.optimizer.optimizer, tensors)
        if self.settings.resume_exact:
            self.refuse_other_counts(current)
        self.rehearse_exchange()
        restore_generators(self.fabric, tensors)
        self.state.processes, self.state.threads = current.processes, current.threads
        # `max_steps` may have been larger when the checkpoint was written.
        is_last = self.state.step >= self.settings.max_steps
        self.state.finished |= is_last and not self.validation_due()

    def refuse_other_counts(self, current: TrainingState) -> None:
        """Refuse to continue with other numbers of processes or threads than before."""
        for kind, count in (("processes", current.processes), ("threads", current.threads)):
            before = getattr(self.state, kind)
            if before not in (0, count):
                raise UserError(
                    f"{self.checkpoints.folder.parent}: its updates were made with {before} "
                    f"{kind}, here are {count}, with which the last bits would differ; give it "
                    f"{before}, or set trainer.resume_exact=false"
                )

    def rehearse_exchange(self) -> None:
        """Exchange gradients once, of which nothing remains, as before the update that follows.

        In its first exchange PyTorch learns in which order gradients are ready; from then on it
        sends them in this order. With three processes or more, a number's place in what is sent
        decides in which order it is summed, and so its last bits.
        """
        if self.fabric.world_size > 2:
            self.model.train()
            self.accumulate_gradients(self.plan[:1], 1)
            self.optimizer.zero_grad(set_to_none=True)

    def save_checkpoint(self, validated: bool = True) -> None:
        """Write a checkpoint; every process takes part, the first one writes."""
        self.progress.current_work = f"the checkpoint after update {self.state.step}"
        self.count_skipped()
        tensors = gather_generators(self.fabric)
        if self.fabric.global_rank == 0:
            tensors |= optimizer_tensors(self.optimizer.optimizer)
            state, folder = self.state, self.checkpoints.folder
            try:
                self.checkpoints.save(self.model, tensors, state, validated)
            except OSError as error:
                if not folder.is_dir():
                    raise UserError(
                        f"{folder}: was deleted while the run trained; {AGAIN}"
                    ) from error
                raise UserError(
                    f"{error.filename or folder}: {error.strerror}, while update {state.step} was "
                    f"saved; {self.describe_saved()}; make room, then the same command continues"
                ) from error
        self.saved_step = self.state.step
        self.fabric.barrier()

    def describe_saved(self) -> str:
        """How much of the training is saved, for a message."""
        if not self.saved_step:
            return "no update is saved yet"
        return f"update {self.saved_step} is saved in {self.checkpoints.folder.parent}"

    # ---- an update

    def update(self) -> UpdateLoss:
        """One optimiser step.

            accumulate=2, two processes     batches drawn    b0  b1  b2  b3
                                            process 0 has    b0      b2
                                            process 1 has        b1      b3

        Every process draws all batches, so that all agree on the order without talking; each
        computes its share. The loss is the sum over all their target tokens divided by the number
        of tokens, so that it does not depend on how sentences fall into batches.
        """
        self.progress.current_work = f"update {self.state.step + 1}"
        world_size, rank = self.fabric.world_size, self.fabric.global_rank
        batches = [self.draw_batch() for _ in range(self.settings.accumulate * world_size)]
        token_count = sum(batch.target_token_count for batch in batches)

        loss_sum = self.accumulate_gradients(batches[rank::world_size], token_count)
        is_skipped = ~torch.isfinite(self.clip_gradients())
        self.set_learning_rate(self.state.step + 1)
        self.step_optimizer(is_skipped)

        self.unchecked_updates.append((is_skipped, batches))
        self.state.step += 1
        self.state.tokens += token_count
        self.state.sentences += sum(len(batch.indices) for batch in batches)
        if not self.optimizer_skips:
            self.count_skipped()
        return UpdateLoss(torch.where(is_skipped, 0, loss_sum), token_count)

    def draw_batch(self) -> PlannedBatch:
        """The next batch; after the last one of an epoch comes the first one of the next epoch."""
        epoch, index = divmod(self.state.batches, len(self.plan))
        if epoch != self.epoch:
            self.epoch, self.plan = epoch, self.plan_epoch(epoch)
        self.state.batches += 1
        return self.plan[index]

    def accumulate_gradients(self, share: Sequence[PlannedBatch], token_count: int) -> Tensor:
        """Add the gradients of these batches to the parameters'; returns their summed loss.

        Two factors of the loss need a reason:
        - `world_size / token_count`: data-parallel training averages the gradients of the
          processes, where their sum is needed; so the average is undone here.
        - `1 + 0 * loss`: it is 1, but nan where the loss is not finite. So every gradient is nan
          then, whatever its own value, and in every process: all skip the update.
        """
        loss_sum = torch.zeros((), device=self.fabric.device)
        factor = self.fabric.world_size / token_count
        for number, planned in enumerate(share, start=1):
            with self.explain_memory_error(planned):
                batch = planned.collate().to(self.fabric.device)
                # Processes exchange gradients only at the last batch, which has the sum of all.
                is_last = number == len(share)
                with self.fabric.no_backward_sync(self.objective, enabled=not is_last):
                    loss, _ = self.objective(*batch.objective_inputs)
                    self.fabric.backward(loss * factor * (1 + 0 * loss.detach()))
            loss_sum += loss.detach()
        return loss_sum

    def clip_gradients(self) -> Tensor:
        """Scale the gradients down to `clip_norm`, if that is set; returns their norm before."""
        if self.settings.clip_norm:
            parameters = self.objective.parameters()
            return nn.utils.clip_grad_norm_(parameters, self.settings.clip_norm)
        gradients = [p.grad for p in self.objective.parameters() if p.grad is not None]
        return nn.utils.get_total_norm(gradients)

    def set_learning_rate(self, step: int) -> None:
        """Set the learning rate of update `step`, counted from 1, in each group of parameters."""
        settings = self.settings
        factor = rate_factor(settings.schedule, step, settings.warmup, settings.max_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group.get(HIGHEST, settings.learning_rate) * factor

    def step_optimizer(self, is_skipped: Tensor) -> None:
        """Change the weights, unless `is_skipped`, a boolean on the device, is true."""
        if self.optimizer_skips:  # to read the value here would mean waiting for the GPU
            self.optimizer.optimizer.found_inf = is_skipped.float()
        if self.optimizer_skips or not is_skipped:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @contextlib.contextmanager
    def explain_memory_error(self, batch: PlannedBatch) -> Iterator[None]:
        """Turn an error for lack of memory into one that says how large the batch is."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            sizes = " and ".join(map(str, batch.longest_lengths))
            raise UserError(
                f"out of memory in update {self.state.step + 1}, with a batch of "
                f"{len(batch.indices)} pairs of up to {sizes} tokens (source, target); "
                f"{self.describe_saved()}; the same command continues where there is more memory; "
                "else train from the start with a lower trainer.batch_tokens (here "
                f"{self.settings.batch_tokens}) and a higher trainer.accumulate"
            ) from error

    def count_skipped(self) -> None:
        """Count how many unchecked updates were skipped; too many in a row end the training.

        The flags are on the device. They are read together, when a line or a checkpoint is written
        anyway, so that not every update waits for the GPU.

        Raises:
            UserError: after `max_skipped` skipped updates in a row; it names the sentences of the
                last one.
        """
        updates, state = self.unchecked_updates, self.state
        flags = torch.stack([flag for flag, _ in updates]).tolist() if updates else []
        first_step = state.step - len(flags) + 1
        for step, (is_skipped, (_, batches)) in enumerate(
            zip(flags, updates, strict=True), start=first_step
        ):
            state.in_a_row = state.in_a_row + 1 if is_skipped else 0
            state.skipped += is_skipped
            if state.in_a_row == 1:
                self.progress.print_line(
                    f"step {step}: loss or gradient is not finite; update skipped"
                )
            if state.in_a_row == self.settings.max_skipped:
                self.refuse_skipped(step, batches)
        updates.clear()

    def refuse_skipped(self, step: int, batches: Sequence[PlannedBatch]) -> None:
        """End the training, which makes no progress; the message names the last sentences."""
        rows = sorted(int(row) for batch in batches for row in batch.indices)
        listed = ", ".join(str(row + 1) for row in rows[:20])
        if len(rows) > 20:
            listed += ", ..."
        raise UserError(
            f"step {step}: loss or gradient is not finite, in {self.settings.max_skipped} updates "
            f"in a row; the last is of {len(rows)} training pairs, by number after filters: "
            f"{listed}, the first {short_repr(batches[0].source_text(rows[0]))}; look at these, or "
            "train with a lower optimizer.lr"
        )

    # ---- a validation

    def validate(self) -> bool:
        """Measure loss and BLEU on dev; false if a signal interrupts it (resuming repeats it)."""
        work = f"the validation after update {self.state.step}"
        self.progress.show_phase("validating", work)
        self.model.eval()
        scores = self.validate_model()
        self.model.train()
        if scores is None:
            return False
        state = self.state
        if self.is_better(scores):
            state.best_bleu, state.best_step = scores.selection_value, state.step
        state.curve.append({"step": state.step, "bleu": scores.bleu, "loss": scores.loss})
        mean_loss = state.loss / max(state.counted, 1)
        perplexity = math.exp(min(scores.loss, 700))  # above, `exp` would overflow
        self.progress.show_validation(state.step, scores.bleu, perplexity, mean_loss)
        return True

    def validation_due(self) -> bool:
        """Whether the next thing to do is a validation."""
        step, settings = self.state.step, self.settings
        is_done = self.state.curve and self.state.curve[-1]["step"] == step
        is_last = step >= settings.max_steps
        return not is_done and step > 0 and (step % settings.validate_every == 0 or is_last)

    def is_better(self, scores: ValidationScores) -> bool:
        """Whether a validation is the best so far: by BLEU; of equal BLEU, by the lower loss.

        Early in training BLEU is often exactly 0, while the loss falls already. Another metric may
        take the place of BLEU; its scores may be below 0.
        """
        state, loss, value = self.state, scores.loss, scores.selection_value
        if not state.curve:
            return True
        if value != state.best_bleu:
            return value > state.best_bleu
        best = [point["loss"] for point in state.curve if point["step"] == state.best_step]
        return bool(best) and (loss < best[0] or (math.isnan(best[0]) and not math.isnan(loss)))

    def out_of_patience(self) -> bool:
        """Whether the last `patience` validations were no better than the best."""
        since_best = sum(point["step"] > self.state.best_step for point in self.state.curve)
        return bool(self.settings.patience) and since_best >= self.settings.patience

    # ---- the loop

    def sum_over_processes(self, value: Tensor) -> float:
        """The sum of a number over all processes; each process must call this."""
        if self.fabric.world_size == 1:
            return float(value)
        total = self.fabric.all_reduce(value.clone(), reduce_op="sum")
        assert isinstance(total, Tensor)
        return float(total)

    def report_updates(self, losses: Tensor, watch: Stopwatch) -> None:
        """Show the mean loss since the last validation, and the speed; for both see `fit`."""
        self.count_skipped()
        mean_loss = self.sum_over_processes(losses) / self.state.counted
        seconds = self.state.seconds + watch.lap
        self.progress.show_update(self.state.step, mean_loss, self.state.tokens / seconds)

    def close_interval(self, losses: Tensor, watch: Stopwatch) -> None:
        """Take the loss and the time of the updates since the last validation into the state."""
        self.state.loss = self.sum_over_processes(losses)
        seconds = watch.end_lap()
        self.state.seconds += seconds
        self.state.elapsed += seconds

    def fit(self) -> TrainingState:
        """Train to the end, or until a signal comes; after `resume`, from the checkpoint on."""
        settings, state, is_first = self.settings, self.state, self.fabric.global_rank == 0
        self.model.train()
        self.progress.show_start(state.step, settings.max_steps)
        # Each process sums its own losses; the sums are added up only to be shown or saved.
        losses = torch.tensor(state.loss if is_first else 0.0, device=self.fabric.device)
        # Its laps are updates and validations. Writing checkpoints counts nowhere.
        watch = Stopwatch()
        while not state.finished and not self.stop_requested():
            if self.validation_due():
                self.close_interval(losses, watch)
                is_validated = self.validate()
                state.elapsed += watch.end_lap()
                if not is_validated:
                    break
                state.finished = state.step >= settings.max_steps or self.out_of_patience()
                state.loss, state.counted = 0.0, 0
                self.save_checkpoint()
                losses.zero_()
                watch.restart()
            else:
                loss_sum, token_count = self.update()
                losses += loss_sum
                state.counted += token_count
                if state.step % settings.log_every == 0:
                    self.report_updates(losses, watch)
        if not state.finished and state.step > self.saved_step:
            self.close_interval(losses, watch)
            self.save_checkpoint(validated=False)
        self.progress.show_end()
        if state.skipped:
            self.progress.print_line(
                f"{state.skipped} of {state.step} updates skipped: loss or gradient not finite"
            )
        return state
