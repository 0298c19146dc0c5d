"""The training loop: updates, validation, checkpoints, early stopping, exact resume.

Everything that decides the result counts updates, never seconds. An update takes
`accumulate` batches from each of the processes; its loss is the sum over all their target
tokens divided by their number, however the batches fall.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nmt_feat.base.typed_json import convert_json
from nmt_feat.config.identity import VALIDATION
from nmt_feat.config.schema import DecodingConfig, TrainConfig
from nmt_feat.data.batches import Indices, collate, ordered, plan
from nmt_feat.data.prepare import Prepared
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import PAD
from nmt_feat.errors import UserError, out_of_memory, short_repr
from nmt_feat.evaluation.languages import choose_scoring
from nmt_feat.evaluation.metrics import score
from nmt_feat.evaluation.split_decoding import ALL_BATCHES, translate_split
from nmt_feat.model.loss import fused_loss, plain_loss
from nmt_feat.model.transformer import Transformer
from nmt_feat.runs.build_model import derive
from nmt_feat.runs.processes import Agreement, shared
from nmt_feat.runs.progress import Progress
from nmt_feat.runs.signals import signals
from nmt_feat.training.checkpoints import AGAIN, CHECKPOINTS, Checkpoints, Progression, restore
from nmt_feat.training.optimizers import HIGHEST, build_optimizer, load_optimizer, optimizer_tensors
from nmt_feat.training.schedules import factor


class Objective(nn.Module):
    """Model and loss in one module, so that data-parallel training wraps both."""

    def __init__(self, model: Transformer, smoothing: float, fused: bool) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing
        self.loss = fused_loss if fused else plain_loss

    def forward(
        self,
        source: Tensor,
        features: dict[str, Tensor],
        target_in: Tensor,
        target_out: Tensor,
        real: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Summed smoothed loss and negative log-likelihood, in nats.

        Ids `(B, S)` and `(B, T)`; `real` are the places `(N,)` in the flattened target that are
        not padding: given, because to find them a CUDA device would be waited for.
        """
        hidden = self.model(source, features, source != PAD, target_in).flatten(0, 1)
        states, right = hidden.index_select(0, real), target_out.flatten().index_select(0, real)
        return self.loss(states, self.model.target.words.weight, right, self.smoothing)


def dev_loss(
    objective: nn.Module,
    split: EncodedSplit,
    names: list[str],
    tokens: int,
    device: torch.device,
    share: slice = ALL_BATCHES,
) -> tuple[float, int]:
    """Summed negative log-likelihood of the target pieces, in nats, and their number, with EOS."""
    total, count = 0.0, 0
    for indices in ordered(split, tokens)[share]:
        batch = collate(split, indices, names).to(device)
        total += float(objective(*batch.tensors)[1])
        count += batch.tokens
    return total, count


class Trainer:
    """One training, in one of `fabric.world_size` processes."""

    def __init__(
        self,
        cfg: TrainConfig,
        prepared: Prepared,
        model: Transformer,
        folder: Path,
        fabric: Fabric,
        progress: Progress,
        search: DecodingConfig = VALIDATION,
    ) -> None:
        """`search`: how validations translate; it chooses the best checkpoint."""
        self.search = search
        self.cfg, self.prepared, self.fabric, self.progress = cfg, prepared, fabric, progress
        self.names = list(prepared.encoder.features)
        objective = Objective(model, cfg.trainer.label_smoothing, cfg.trainer.fused_loss)
        objective.to(fabric.device)
        rates = {
            f"model.source.features.{name}.encoder.": feature.learning_rate
            for name, feature in cfg.features.items()
            if feature.learning_rate
        }
        optimizer = build_optimizer(cfg.optimizer, objective, rates)
        self.model, self.inner = model, objective
        self.objective, self.optimizer = fabric.setup(objective, optimizer)
        self.begin(0)
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, cfg.trainer.average)
        threads = torch.get_num_threads() if fabric.device.type == "cpu" else 0
        self.stopping = Agreement(fabric.world_size, cfg.trainer.wait_minutes)
        self.at = Progression(processes=fabric.world_size, threads=threads)
        self.saved = 0  # the step of the last checkpoint
        # Whether the optimiser can skip an update that the device finds to be not finite.
        adam = isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW))
        fused = adam and optimizer.defaults.get("fused")
        self.masks = bool(fused) and fabric.device.type == "cuda"
        self.unsure: list[tuple[Tensor, list[Indices]]] = []  # updates, whether they are skipped
        torch.manual_seed(derive(cfg.seed, "dropout", fabric.global_rank))

    def resume(self) -> None:
        """Continue from the newest checkpoint, if there is one, exactly where it was.

        Another number of processes or (on CPU) threads is an error, for the bits depend on it,
        unless `trainer.resume_exact=false`.
        """
        fabric, settings = self.fabric, self.cfg.trainer
        self.saved = self.checkpoints.step
        if self.saved:
            processes, threads = self.at.processes, self.at.threads
            self.at = convert_json(self.checkpoints.index["meta"], Progression)
            restore(self.model, self.checkpoints.weights(self.at.step))
            state = self.checkpoints.state()
            load_optimizer(self.optimizer.optimizer, state)
            for kind, found in (("processes", processes), ("threads", threads)):
                if settings.resume_exact and (before := getattr(self.at, kind)) not in (0, found):
                    raise UserError(
                        f"{self.checkpoints.folder.parent}: its updates were made with {before} "
                        f"{kind}, here are {found}, whose result differs in its last bits; give it "
                        f"{before}, or set trainer.resume_exact=false"
                    )
            rank = fabric.global_rank
            if (name := f"generator.{rank}.cpu") in state:
                torch.set_rng_state(state[name])
            if (name := f"generator.{rank}.cuda") in state and fabric.device.type == "cuda":
                torch.cuda.set_rng_state(state[name], fabric.device)
            self.at.processes, self.at.threads = processes, threads
            # Its last validation may not have been the last under the limit that it had then.
            self.at.finished |= self.at.step >= settings.max_steps and not self.due()

    def batches(self, epoch: int) -> list[Indices]:
        """The batches of an epoch, of all processes together."""
        seed, settings = derive(self.cfg.seed, "order"), self.cfg.trainer
        by_target = settings.batch_by == "target"
        return plan(self.prepared.train, settings.batch_tokens, seed, epoch, by_target)

    def begin(self, epoch: int) -> None:
        """Draw the order of an epoch, and its data where each has its own."""
        self.epoch, self.plan, self.train = epoch, self.batches(epoch), self.prepared.train
        if self.prepared.redraw is not None:
            self.train = self.prepared.redraw(epoch)

    def draw(self) -> Indices:
        """The next batch; epochs follow one another without a seam."""
        epoch, index = divmod(self.at.batches, len(self.plan))
        if epoch != self.epoch:
            self.begin(epoch)
        self.at.batches += 1
        return self.plan[index]

    def save(self, validated: bool = True) -> None:
        """Write a checkpoint; every process takes part, the first one writes."""
        self.progress.current = f"the checkpoint after update {self.at.step}"
        self.count_skipped()
        generators = {"cpu": torch.get_rng_state()}
        if self.fabric.device.type == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state(self.fabric.device)
        state: dict[str, Tensor] = {}
        for name, value in generators.items():
            every = self.fabric.all_gather(value.to(self.fabric.device))
            assert isinstance(every, Tensor)
            every = every.cpu().reshape(self.fabric.world_size, -1)
            state |= {f"generator.{rank}.{name}": every[rank].clone() for rank in range(len(every))}
        if self.fabric.global_rank == 0:
            state |= optimizer_tensors(self.optimizer.optimizer)
            at = self.at
            try:
                self.checkpoints.save(
                    at.step, self.model, state, asdict(at), at.best_step, validated
                )
            except OSError as error:
                if not self.checkpoints.folder.is_dir():
                    raise UserError(
                        f"{self.checkpoints.folder}: was deleted while the run trained; {AGAIN}"
                    ) from error
                raise UserError(
                    f"{error.filename or self.checkpoints.folder}: {error.strerror}, while update "
                    f"{at.step} was saved; {self.kept()}; make room, then the same command "
                    "continues"
                ) from error
        self.saved = self.at.step
        self.fabric.barrier()

    def kept(self) -> str:
        """What of the training is saved, for a message."""
        if not self.saved:
            return "no update is saved yet"
        return f"update {self.saved} is saved in {self.checkpoints.folder.parent}"

    @contextlib.contextmanager
    def memory(self, indices: Indices) -> Iterator[None]:
        """Where memory does not suffice for a batch, an error that says how large it is."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            train, allowed = self.prepared.train, self.cfg.trainer.batch_tokens
            longest = (int(n[indices].max()) for n in (train.source_lengths, train.target_lengths))
            sizes = " and ".join(map(str, longest))
            raise UserError(
                f"out of memory in update {self.at.step + 1}, by a batch of {len(indices)} pairs "
                f"of up to {sizes} tokens (source, target); {self.kept()}; the same command "
                "continues where there is more memory; else train from the start with a lower "
                f"trainer.batch_tokens (here {allowed}) and a higher trainer.accumulate"
            ) from error

    def update(self) -> tuple[Tensor, int]:
        """One update. Returns the summed loss of this process and the target tokens of all."""
        settings, world = self.cfg.trainer, self.fabric.world_size
        self.progress.current = f"update {self.at.step + 1}"
        drawn = [(self.draw(), self.train) for _ in range(settings.accumulate * world)]
        counts = [int(train.target_lengths[indices].sum()) for indices, train in drawn]
        tokens, rank = sum(counts), self.fabric.global_rank
        mine = drawn[rank::world]
        total = torch.zeros((), device=self.fabric.device)
        # A loss that is not finite makes the gradient so, whatever its own, in every process.
        for number, (indices, train) in enumerate(mine, start=1):
            with self.memory(indices):
                batch = collate(train, indices, self.names).to(self.fabric.device)
                # Data-parallel training sums gradients at the last batch, and averages: undone.
                with self.fabric.no_backward_sync(self.objective, enabled=number < len(mine)):
                    loss, _ = self.objective(*batch.tensors)
                    self.fabric.backward(loss * (world / tokens) * (1 + 0 * loss.detach()))
            total += loss.detach()
        if settings.clip_norm:
            norm = nn.utils.clip_grad_norm_(self.objective.parameters(), settings.clip_norm)
        else:
            given = [p.grad for p in self.objective.parameters() if p.grad is not None]
            norm = nn.utils.get_total_norm(given)
        skip = ~torch.isfinite(norm)
        step = self.at.step + 1
        optimizer = self.cfg.optimizer
        rate = factor(optimizer.schedule, step, optimizer.warmup, settings.max_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group.get(HIGHEST, optimizer.lr) * rate
        if self.masks:  # what is on the device decides there, and is not waited for
            self.optimizer.optimizer.found_inf = skip.float()
        if self.masks or not skip:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.unsure.append((skip, [indices for indices, _ in drawn]))
        self.at.step = step
        self.at.tokens += tokens
        self.at.sentences += sum(len(indices) for indices, _ in drawn)
        if not self.masks:
            self.count_skipped()
        return torch.where(skip, 0, total), tokens

    def count_skipped(self) -> None:
        """Count the updates that were skipped, as far as not yet done; too many in a row end all.

        Raises:
            UserError: which sentences were in the last of `trainer.max_skipped` in a row.
        """
        flags = torch.stack([skip for skip, _ in self.unsure]).tolist() if self.unsure else []
        first, most = self.at.step - len(flags) + 1, self.cfg.trainer.max_skipped
        for step, (skipped, (_, batches)) in enumerate(
            zip(flags, self.unsure, strict=True), start=first
        ):
            self.at.in_a_row = self.at.in_a_row + 1 if skipped else 0
            self.at.skipped += skipped
            if self.at.in_a_row == 1:
                self.progress.say(f"step {step}: loss or gradient is not finite; update skipped")
            if self.at.in_a_row == most:
                rows = sorted(int(row) for indices in batches for row in indices)
                named = ", ".join(str(row + 1) for row in rows[:20]) + ", ..." * (len(rows) > 20)
                raise UserError(
                    f"step {step}: loss or gradient is not finite, in {most} updates in a row; the "
                    f"last is of {len(rows)} training pairs, by number after filters: {named}, the "
                    f"first {short_repr(self.prepared.train.source_texts[rows[0]])}; look at "
                    "these, or train with a lower optimizer.lr"
                )
        self.unsure.clear()

    def validate(self) -> bool:
        """Dev perplexity and greedy BLEU; each process does its share, and all know the result.

        A signal to any of them interrupts it: then the result is false, and the same is done after
        resuming.
        """
        self.progress.phase("validating", f"the validation after update {self.at.step}")
        dev, budget, device = self.prepared.dev, self.cfg.trainer.batch_tokens, self.fabric.device

        def lose(share: slice) -> list[tuple[float, int]]:
            with torch.no_grad():  # not by the data-parallel wrapper, which would wait for others
                return [dev_loss(self.inner, dev, self.names, budget, device, share)]

        def translate(share: slice) -> list[list[int]]:
            found = translate_split(self.model, dev, self.names, self.search, device, share=share)
            return [[i, *best[0].ids] for i, best in enumerate(found) if best]

        self.model.eval()
        losses, translated = (shared(self.fabric, work) for work in (lose, translate))
        self.model.train()
        if losses is None or translated is None:
            return False
        total, pieces = map(sum, zip(*losses, strict=True))
        loss, ids = total / pieces, {int(i): map(int, ids) for i, *ids in translated}
        texts = [self.prepared.target.decode(ids[i]) for i in range(len(dev))]

        scoring = choose_scoring(self.cfg.data)
        tokens = scoring.tokenized, scoring.tokenizer

        def measure(share: slice) -> list[list[float]]:
            several = [texts][share]  # one piece of work, that of the first process
            return [[score(t, dev.target_texts, *tokens).bleu] for t in several]

        measured = shared(self.fabric, measure)
        if measured is None:
            return False
        ((bleu,),) = measured
        if self.is_better(bleu, loss):
            self.at.best_bleu, self.at.best_step = bleu, self.at.step
        self.at.curve.append({"step": self.at.step, "bleu": bleu, "loss": loss})
        mean = self.at.loss / max(self.at.counted, 1)
        self.progress.validated(self.at.step, bleu, math.exp(min(loss, 700)), mean)
        return True

    def due(self) -> bool:
        """Whether the next thing to do is a validation."""
        step, settings = self.at.step, self.cfg.trainer
        done = self.at.curve and self.at.curve[-1]["step"] == step
        last = step >= settings.max_steps
        return not done and step > 0 and (step % settings.validate_every == 0 or last)

    def is_better(self, bleu: float, loss: float) -> bool:
        """Whether a validation is the best so far: by BLEU; of equal BLEU, by the lower loss.

        Early in training BLEU is often exactly 0, while the loss falls already.
        """
        if bleu != self.at.best_bleu:
            return bleu > self.at.best_bleu
        best = [point["loss"] for point in self.at.curve if point["step"] == self.at.best_step]
        return bool(best) and (loss < best[0] or (math.isnan(best[0]) and not math.isnan(loss)))

    def stale(self) -> bool:
        """Whether the last `patience` validations were no better than the best."""
        since = sum(point["step"] > self.at.best_step for point in self.at.curve)
        return bool(self.cfg.trainer.patience) and since >= self.cfg.trainer.patience

    def total(self, loss: Tensor) -> float:
        """The sum of a loss over the processes, which all take part."""
        if self.fabric.world_size == 1:
            return float(loss)
        every = self.fabric.all_reduce(loss.clone(), reduce_op="sum")
        assert isinstance(every, Tensor)
        return float(every)

    def fit(self) -> Progression:
        """Train to the end, from wherever `resume` left the run, or until a signal comes."""
        settings, first = self.cfg.trainer, self.fabric.global_rank == 0
        self.model.train()
        self.progress.start(self.at.step, settings.max_steps)
        # Each process sums its own losses; only where they are shown or saved all are added up.
        losses = torch.tensor(self.at.loss if first else 0.0, device=self.fabric.device)
        begun = time.perf_counter()
        while not self.at.finished and not self.stopping.agreed(bool(signals.caught)):
            if not self.due():
                loss, count = self.update()
                losses += loss
                self.at.counted += count
                if self.at.step % settings.log_every == 0:
                    self.count_skipped()
                    loss_sum = self.total(losses)
                    now = self.at.seconds + time.perf_counter() - begun
                    mean = loss_sum / self.at.counted
                    self.progress.updated(self.at.step, mean, self.at.tokens / now)
                continue
            self.at.loss = self.total(losses)
            self.at.seconds += time.perf_counter() - begun
            validated = self.validate()
            self.at.elapsed += time.perf_counter() - begun
            begun = time.perf_counter()
            if not validated:
                break
            self.at.finished = self.at.step >= settings.max_steps or self.stale()
            self.at.loss, self.at.counted = 0.0, 0
            self.save()
            losses.zero_()
            begun = time.perf_counter()
        if not self.at.finished and self.at.step > self.saved:
            self.at.loss = self.total(losses)
            self.at.seconds += time.perf_counter() - begun
            self.at.elapsed += time.perf_counter() - begun
            self.save(validated=False)
        self.progress.stop()
        if self.at.skipped:
            self.progress.say(
                f"{self.at.skipped} of {self.at.step} updates skipped: loss or gradient not finite"
            )
        return self.at
