"""What a test leaves for its page, gathered when its scores are written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg_kd.errors import UserError, in_short
from medseg_kd.evaluation.measures.base import kind_of
from medseg_kd.files import write_text
from medseg_kd.report.page import facts
from medseg_kd.report.page.labels import CaseLabels, KeepLabelsHook, read_labels
from medseg_kd.report.page.pictures import BUDGET, FIRST, case_pictures, chosen_cases, grey_or_colour, size_of
from medseg_kd.report.page.run_files import RunFiles, scores_digest
from medseg_kd.report.page.writing import write_page

_Shape = tuple[int, ...]


def write_report(runner: Any, kept: KeepLabelsHook, settings: Any, options: str = "") -> Path:
    """Gather what the page of a test needs, and write ``report.html`` into the run folder.

    An older page is removed first: it would show other scores than those beside it.

    Args:
        runner: Of the test, which has written its scores.
        kept: What kept the labels of its cases.
        settings: ``model`` of the config as it was before the teacher was left out.
        options: How the labels come about, where not by the argmax of the logits.
    """
    page = Path(runner.work_dir, "report.html")
    page.unlink(missing_ok=True)
    folder = kept.folder.parent
    run = RunFiles(Path(runner.work_dir), kept.test, Path(runner.work_dir).absolute().name)
    cases, notes, shape = _cases(runner, kept, run)
    write_text(folder / "pictures.json", json.dumps({"cases": cases}))
    found = {
        "scores": scores_digest(run.test),
        "notes": notes,
        "options": options,
        "method": facts.method(settings),
        **_facts(runner),
    }
    if shape is not None:
        model = runner.bare_model
        slices = model.data_preprocessor.resize(torch.rand(shape))
        found["costs"] = facts.costs(model, runner.cfg.model, slices)
        found["teachers"] = facts.teachers(settings, model, tuple(slices.shape))
    write_text(folder / "facts.json", json.dumps(found, indent=2))
    return write_page([run], page)


def _facts(runner: Any) -> dict[str, Any]:
    """What the runner tells."""
    told = runner.test_dataloader.dataset.metainfo
    return {
        "note": told.get("note", ""),
        "classes": list(told.get("classes") or ()),
        "checkpoint": str(runner.cfg.load_from or ""),
        "network": facts.network_name(runner.cfg.model),
        "config": facts.config_text(runner.cfg),
    }


def _cases(runner: Any, kept: KeepLabelsHook, run: RunFiles) -> tuple[list[dict[str, Any]], list[str], _Shape | None]:
    """The cases to show, what must be said of them, and the shape (1, C, H, W) of their slices."""
    notes = [f"the labels of some cases were not kept: {kept.failure}"] if kept.failure else []
    # A case is as good as its organs that are there: of an absent one TransUNet's protocol gives 0 or 100.
    scores = run.scores("strict" if "strict" in run.protocols else run.protocols[0])
    measure = kind_of(run.titles[0])
    values = scores.values[measure.key]
    shown: list[dict[str, Any]] = []
    shape, left = None, BUDGET
    for place, (case, which) in enumerate(chosen_cases(scores.cases, values, measure.higher_is_better)):
        if place >= FIRST and (not shown or left < 1.5 * size_of(shown[-1]["slices"])):
            break
        try:
            if (labels := read_labels(kept.folder, case)) is None:
                raise UserError("its labels were not kept")
            volume = _volume(runner.test_dataloader, case, labels)
            shape = shape or (1, *volume.shape[1:])
            image = grey_or_colour(volume, _colours(volume, runner.data_spec))
            pictures = case_pictures(image, labels, BUDGET // FIRST if place < FIRST else left)
        except Exception as error:  # the page tells what it lacks
            notes.append(f"no pictures of {case}: {in_short(error)}")
            continue
        left -= size_of(pictures["slices"])
        score = float(np.nanmean(values[scores.cases.index(case)]))
        shown.append({"name": case, "which": which, "score": score, "measure": measure.title, **pictures})
    return shown, notes, shape


def _volume(loader: Any, case: str, labels: CaseLabels) -> torch.Tensor:
    """The slices (S, C, H, W) of a case, read again."""
    item = loader.dataset[labels.position]
    name = item.get("meta", {}).get("case_name", case)
    if name != case:
        raise UserError(f"the data set gives {name} in its place: the loader changes the order of cases")
    volume = loader.collate_fn([item])["inputs"][0]
    return volume if volume.ndim == 4 else volume[None]


def _colours(volume: torch.Tensor, spec: Any) -> str:
    """The order of the colours where the channels are those of a photograph."""
    if volume.dtype == torch.uint8:
        return "BGR"  # as OpenCV reads it for MMSegmentation
    names = [channel.name.lower() for channel in spec.channels] if spec is not None else []
    return "RGB" if names in (["red", "green", "blue"], ["r", "g", "b"]) else ""
