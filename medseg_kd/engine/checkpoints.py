"""Saving: at no moment is a run without a whole checkpoint, and nothing outside its folder is touched."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmengine.hooks
from mmengine.dist import is_main_process
from mmengine.runner import EpochBasedTrainLoop

from medseg_kd.errors import UserError
from medseg_kd.files import remove_drafts, sync_folder, write_text
from medseg_kd.models.checkpoint import last_checkpoint, read_checkpoint, write_checkpoint
from medseg_kd.registry import HOOKS

_OF_A_RUN = re.compile(r"(best_.+_)?(iter|epoch)_\d+\.pth|last_checkpoint")
# What a run that starts anew must not take over from one of the same name in this process.
_REMEMBERED = ("best_score", "best_ckpt", "keep_ckpt_ids", "last_ckpt", "scored_at")
_SHOWN = 6


@HOOKS.register_module()
class CheckpointHook(mmengine.hooks.CheckpointHook):
    """MMEngine's hook, its arguments the same, which loses nothing when the run is killed.

    A new file is whole and on the disk before ``last_checkpoint`` names it, and only then are old ones removed, the
    best ones too. A validation that was due when the run was killed is made up for at the start. Checkpoints of an
    earlier run in the folder go to ``replaced_<time>`` when a run that starts anew saves for the first time. What a
    checkpoint says of files counts as numbers and names within the run folder, never as a path.
    """

    def before_train(self, runner: Any) -> None:
        """Find out what the folder holds, tidy up, and validate where that was due."""
        self._folder = Path(runner.work_dir)
        if self.out_dir is not None and not _same(Path(self.out_dir), self._folder):
            if "://" in str(self.out_dir):
                raise UserError(f"default_hooks.checkpoint.out_dir={self.out_dir}: only folders of this system work")
            self._folder = Path(self.out_dir, self._folder.name)
        runner.logger.info(f"Checkpoints will be saved to {self._folder}.")
        from_here = runner.resumed_from is not None and _same(Path(runner.resumed_from).parent, self._folder)
        self._kept: list[int] = []
        self._replaced: list[str] = []
        self._are_linked = False
        info = runner.message_hub.runtime_info
        if runner.resumed_from is None:
            for key in [key for key in info if key.startswith(_REMEMBERED)]:
                del info[key]
        if from_here:
            self.last_ckpt = str(self._folder / Path(runner.resumed_from).name)
            now = self._now(runner)
            ids = info.get("keep_ckpt_ids")
            before = {each for each in ids if type(each) is int and 0 <= each < now} if isinstance(ids, list) else ()
            self._kept = [*sorted(before), now]
        if is_main_process():
            for folder in {self._folder, Path(runner.work_dir)}:
                remove_drafts(folder)
            if from_here:
                self._end_replacing(Path(runner.resumed_from).name)
            else:
                self._find_replaced(runner)
        if from_here:
            self._remove_old()
            self._remove_old_best(runner)
        if runner.resumed_from is not None and _validation_is_due(runner):
            runner.logger.info("the validation that was due at this iteration is made up for")
            runner.val_loop.run()

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Save the best checkpoint, and the last one again, which then knows the scores."""
        if not metrics:
            runner.logger.warning("the validation gave no scores, so that no best checkpoint is saved")
        runner.message_hub.update_info("scored_at", _progress(runner)[0])
        is_better = self._save_best_checkpoint(runner, metrics) if metrics and self.save_best else False
        now = self._now(runner)
        if self.last_ckpt is not None and (is_better or Path(self.last_ckpt).name == self.filename_tmpl.format(now)):
            self._save_checkpoint_with_step(runner, now, dict(epoch=runner.epoch, iter=runner.iter))
        if is_better:
            self._remove_old_best(runner)

    def after_train(self, runner: Any) -> None:
        """Publish what ``published_keys`` says of the last checkpoint and of the best."""
        if self.published_keys is None:
            return
        last = [self.last_ckpt] if self.save_last and self.last_ckpt is not None else []
        for path in (*last, *self._best(runner).values()):
            self._publish_model(runner, str(path))

    def _now(self, runner: Any) -> int:
        """The number in the name of a checkpoint, between two steps."""
        return runner.epoch if self.by_epoch else runner.iter

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        """Save, move the pointer, and only then remove."""
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(self._folder / name)
        if self.max_keep_ckpts > 0:
            self._kept = [*(each for each in self._kept if each != step), step]
            runner.message_hub.update_info("keep_ckpt_ids", list(self._kept))
        runner.message_hub.update_info("last_ckpt", name)
        options = dict(save_optimizer=self.save_optimizer, save_param_scheduler=self.save_param_scheduler)
        self._save(runner, name, meta=meta, by_epoch=self.by_epoch, **options, **self.args)
        if is_main_process():
            write_text(Path(runner.work_dir, "last_checkpoint"), self.last_ckpt)
            sync_folder(Path(runner.work_dir))
            for old in self._replaced:
                if old != "last_checkpoint":
                    _leave(self._folder / old, self._aside / old)
        self._replaced = []
        self._remove_old()

    def _save_best_checkpoint(self, runner: Any, metrics: Mapping[str, float]) -> bool:
        """Save the weights under each of the metrics that is better than ever; whether one is."""
        hub = runner.message_hub
        if "auto" in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        is_better = False
        for metric, rule in zip(self.key_indicators, self.rules, strict=True):
            if metric not in metrics:
                raise UserError(f"default_hooks.checkpoint.save_best={metric!r}: validation gives {', '.join(metrics)}")
            of = self._of(metric)
            best, score = hub.get_info(f"best_score{of}", self.init_value_map[rule]), metrics[metric]
            if score is None or not self.is_better_than[metric](score, best):
                continue
            is_better = True
            name = f"best_{metric}_{self.filename_tmpl.format(self._now(runner))}".replace("/", "_")
            hub.update_info(f"best_score{of}", score)
            hub.update_info(f"best_ckpt{of}", name)
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            self._save(runner, name, meta=meta, by_epoch=False, save_optimizer=False, save_param_scheduler=False)
            runner.logger.info(f"The best checkpoint with {score:0.4f} {metric} is saved to {name}.")
        return is_better

    def _save(self, runner: Any, name: str, **options: Any) -> None:
        """Write a checkpoint; before the first one, files of an earlier run get a second name."""
        if not self._are_linked:
            for old in self._replaced:
                _link(self._folder / old, self._aside / old, move=old == name)
            self._are_linked = True
        if name in self._replaced:
            self._replaced.remove(name)
        runner.save_checkpoint(str(self._folder), name, **options)

    def _find_replaced(self, runner: Any) -> None:
        """Tell what an earlier run has left in the folder of one that starts anew."""
        names = (path.name for path in self._folder.glob("*") if path.is_file())
        last = getattr(last_checkpoint(self._folder), "name", None)
        # First the one that --resume takes: where that has a second name, an earlier run is told from a new one.
        self._replaced = sorted(filter(_OF_A_RUN.fullmatch, names), key=lambda name: (name != last, name))
        self._aside = self._folder / f"replaced_{runner.timestamp}"
        if self._replaced:
            shown = ", ".join(self._replaced[:_SHOWN]) + (", ..." if len(self._replaced) > _SHOWN else "")
            runner.logger.warning(
                f"{self._folder} holds an earlier run ({shown}) and training starts anew: these files go to "
                f"{self._aside.name} when the first checkpoint is saved. To go on with that run instead, stop now and "
                "use --resume; to keep both side by side, use another --work-dir"
            )

    def _end_replacing(self, resumed: str) -> None:
        """Finish what a run that started anew was killed in the middle of, or undo it where the earlier run goes on."""
        for aside in self._folder.glob("replaced_*"):
            twice = {path for path in aside.glob("*") if _is_same(path, self._folder / path.name)}
            undo = resumed in {path.name for path in twice}
            for path in list(aside.glob("*")) if undo else ():
                path.replace(self._folder / path.name)  # does nothing where it is the same file
            for path in twice:
                _remove(path if undo else self._folder / path.name)
            if not any(aside.iterdir()):
                aside.rmdir()

    def _remove_old(self) -> None:
        """Remove checkpoints beyond ``max_keep_ckpts``, the oldest first."""
        while 0 < self.max_keep_ckpts < len(self._kept):
            old = self._kept.pop(0)
            if is_main_process():
                _remove(self._folder / self.filename_tmpl.format(old))

    def _of(self, metric: str) -> str:
        return "" if len(self.key_indicators) == 1 else f"_{metric}"

    def _best(self, runner: Any) -> dict[str, Path]:
        """The best checkpoint of each metric that has one in the folder."""
        found = {}
        for metric in self.key_indicators if self.save_best else ():
            name = runner.message_hub.get_info(f"best_ckpt{self._of(metric)}")
            path = self._folder / Path(name).name if isinstance(name, str) else None
            if path is not None and self._pattern(metric).fullmatch(path.name) and path.is_file():
                found[metric] = path
        return found

    def _pattern(self, metric: str) -> re.Pattern[str]:
        """What the best checkpoints of a metric are called."""
        before, after = f"best_{metric}_{self.filename_tmpl}".replace("/", "_").split("{}")
        return re.compile(rf"{re.escape(before)}\d+{re.escape(after)}")

    def _remove_old_best(self, runner: Any) -> None:
        """Remove what was the best before what is, and what was to be the best when the run was killed."""
        if not is_main_process():
            return
        for metric, best in self._best(runner).items():
            for path in self._folder.glob("best_*"):
                if path != best and path.name not in self._replaced and self._pattern(metric).fullmatch(path.name):
                    _remove(path)

    def _publish_model(self, runner: Any, ckpt_path: str) -> None:
        """Write the keys to publish to ``<name>-<start of the file's SHA-256>.pth``."""
        if not is_main_process():
            return
        path = Path(ckpt_path)
        draft = path.with_name(f".{os.getpid()}-{path.name}")
        write_checkpoint(
            {key: each for key, each in read_checkpoint(path).items() if key in self.published_keys}, draft
        )
        digest = hashlib.sha256(draft.read_bytes()).hexdigest()
        draft.replace(published := path.with_name(f"{path.stem}-{digest[:8]}.pth"))
        runner.logger.info(f"The checkpoint ({path.name}) is published to {published}.")


def _progress(runner: Any) -> tuple[int, int]:
    """How far a training has come, in what its loop counts, and how far it goes."""
    loop = runner.train_loop
    return (loop.epoch, loop.max_epochs) if isinstance(loop, EpochBasedTrainLoop) else (loop.iter, loop.max_iters)


def _validation_is_due(runner: Any) -> bool:
    """Whether a run that goes on ended between saving and validation."""
    loop, (done, end) = runner.train_loop, _progress(runner)
    if runner.val_loop is None or done < max(1, loop.val_begin) or runner.message_hub.get_info("scored_at") == done:
        return False
    loop._decide_current_val_interval()
    return done % loop.val_interval == 0 or done == end


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _is_same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.samefile(other)


def _remove(path: Path) -> None:
    """Remove a file, or a link, which its target survives."""
    if path.is_file() or path.is_symlink():
        path.unlink()


def _link(path: Path, other: Path, move: bool) -> None:
    """Give a file a second name; where the file system has none, move it if it would be overwritten."""
    other.parent.mkdir(exist_ok=True)
    try:
        os.link(path, other, follow_symlinks=False)
    except (OSError, NotImplementedError):
        if move:
            path.replace(other)


def _leave(path: Path, other: Path) -> None:
    """Leave a file its second name alone."""
    if other.is_file() or other.is_symlink():
        _remove(path)
    elif path.is_file():
        path.replace(other)
