"""``report.html``: one file with all that it shows, which asks nothing of a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg_kd.errors import UserError
from medseg_kd.evaluation.label_tables import colour
from medseg_kd.evaluation.measures.base import kind_of
from medseg_kd.evaluation.summary import unit_of
from medseg_kd.experiments.comparison import RunScores, read_runs
from medseg_kd.files import write_text
from medseg_kd.report.compared_runs import METHOD, absent_organs, compared_cells, difference_cells
from medseg_kd.report.curves import chosen_keys
from medseg_kd.report.page.charts import COLOURS, MOST_POINTS, curve_chart, strip_chart
from medseg_kd.report.page.labels import FOLDER, read_labels
from medseg_kd.report.page.pictures import FIRST, other_predictions, thinned
from medseg_kd.report.page.rendering import LIMIT, rendered
from medseg_kd.report.page.run_files import SEED, RunFiles, case_table, shown
from medseg_kd.report.scores import score_cells

MOST_ROWS = 400
"""Cases that are listed with their numbers; ``per_case.csv`` has all."""
ABOUT = {
    "transunet": "As published Synapse tables: a missed organ gives 0, an invented one Dice 100; distances in voxels.",
    "strict": "An organ that is in neither mask is not counted, one that is missed or invented gives Dice 0.",
}


def write_page(runs: Sequence[RunFiles], out: Path) -> Path:
    """Write the page of a run, or of several, the first of which is the one that the others are compared with.

    Raises:
        UserError: The runs cannot be compared: they differ in their cases or organs.
        WriteError: The file cannot be written.
    """
    tables = _protocols(runs)
    names = [run.name for run in runs]
    curves = {run.name: run.curves for run in runs if run.curves}
    keys = sorted(chosen_keys(curves, []), key=lambda key: (key == "lr", "loss" not in key)) if curves else []
    cases = _cases(runs)
    content = {
        "runs": names,
        "colours": COLOURS,
        "protocols": tables,
        "tiles": _tiles(runs[0], tables) if len(runs) == 1 else [],
        "curves": [(key, curve_chart(key, {name: curves.get(name, {}) for name in names})) for key in keys],
        "facts": _facts(runs),
        "setups": [(run.name, run.facts.get("config", ""), run.environments) for run in runs],
        "ranked_by": next((run.name for run in runs if run.pictures), ""),
        "note": next((run.facts["note"] for run in runs if run.facts.get("note")), ""),
        "comparison_method": METHOD.format(SEED),
    }
    told = [f"{run.name}: {note}" if len(runs) > 1 else note for run in runs for note in _notes(run)]
    text = _rendered(content, cases, told)
    while len(text.encode()) > LIMIT and (len(cases) > FIRST or any(len(case["slices"]) > 1 for case in cases)):
        cases = cases[:FIRST] if len(cases) > FIRST else [thinned(case) for case in cases]
        text = _rendered(content, cases, told)
    write_text(out, text)
    return out


def _notes(run: RunFiles) -> list[str]:
    return list(dict.fromkeys([*run.notes, *run.facts.get("notes", [])]))


def _rendered(content: dict[str, Any], cases: Sequence[dict[str, Any]], notes: Sequence[str]) -> str:
    """The text of the page."""
    viewer = {
        "runs": content["runs"],
        "classes": [dict(each) for each in content["facts"]["classes"]],
        "cases": [{**case, "told": _left_out(case)} for case in cases],
    }
    return rendered("page.html", viewer=viewer, notes=notes, **content)


def _protocols(runs: Sequence[RunFiles]) -> list[dict[str, Any]]:
    """Tables and charts of each protocol that all runs have."""
    found, failed = [], None
    titles = [title for title in runs[0].titles if all(title in run.titles for run in runs)]
    for protocol in (name for name in runs[0].protocols if all(name in run.protocols for run in runs)):
        if len(runs) == 1:
            found.append(_of_protocol([runs[0].scores(protocol)], protocol, titles, runs))
            continue
        try:
            scores = read_runs([run.test for run in runs], protocol, titles)
        except UserError as error:
            failed = error
            runs[0].notes.append(f"protocol {protocol} is left out: {error}")
            continue
        for run, each in zip(runs, scores, strict=True):
            run.name = each.name
        found.append(_of_protocol(scores, protocol, titles, runs))
    if not found:
        raise failed or UserError(
            "the runs have no protocol in common: test them with the same test_evaluator.protocols"
        )
    return found


def _of_protocol(
    scores: Sequence[RunScores], protocol: str, titles: Sequence[str], runs: Sequence[RunFiles]
) -> dict[str, Any]:
    """Tables and charts of one protocol."""
    kinds = [kind_of(title) for title in titles]
    ranked = [next((kind for kind in kinds if kind.unit == unit), None) for unit in ("percent", "distance")]
    drawn = [kind for kind in ranked if kind is not None] or kinds[:1]
    unit = next(iter(scores[0].units))
    names = [run.name for run in runs]
    summaries = [run.summary(protocol) for run in runs]
    organs, cases = scores[0].organs, scores[0].cases
    return {
        "name": protocol,
        "about": ABOUT[protocol],
        "summaries": [
            (name, summary, *score_cells(summary, "{}\n{} to {}"))
            for name, summary in zip(names, summaries, strict=True)
        ],
        "percent": [kind.unit == "percent" for kind in kinds],
        "compared": compared_cells(scores, drawn) if len(runs) > 1 else None,
        "absent": absent_organs(scores, protocol),
        "differences": [difference_cells(run, scores[0], kind, SEED) for run in scores[1:] for kind in drawn],
        "charts": [
            strip_chart(
                f"{kind.title} ({unit_of(kind, unit)})",
                cases,
                organs,
                {name: run.values[kind.key] for name, run in zip(names, scores, strict=True)},
            )
            for kind in drawn
        ],
        "boxes_alone": len(cases) * len(organs) * len(runs) > MOST_POINTS,
        "cases": [
            (
                f"{kind.title} ({unit_of(kind, unit)}){f' of {name}' if len(runs) > 1 else ''}",
                *case_table(run, kind.key),
            )
            for name, run in zip(names, scores, strict=True)
            for kind in drawn
            if len(cases) <= MOST_ROWS
        ],
        "count": len(cases),
    }


def _tiles(run: RunFiles, protocols: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """The numbers that stand on top of the page of one run, whose protocols are tables already."""
    tiles = []
    for protocol in protocols:
        ((_, summary, *_),) = protocol["summaries"]
        for measure in summary.measures:
            if str(measure.title) in ("Dice", "HD95") or len(summary.measures) == 1:
                unit = unit_of(measure, summary.unit)
                tiles.append((f"{measure.title} ({unit}), {protocol['name']}", shown(summary.mean[measure.title])))
    costs = run.facts.get("costs", {})
    tiles += [(label, costs_in_words(costs)[label]) for label in ("parameters (M)", "GFLOPs", "ms per slice")]
    return tiles


def costs_in_words(costs: dict[str, Any] | None) -> dict[str, str]:
    """Parameters, operations and time as texts; a dash for what is not known."""
    costs = costs or {}
    return {
        "parameters (M)": f"{costs['parameters'] / 1e6:.2f}" if costs.get("parameters") else "-",
        "GFLOPs": f"{costs['flops'] / 1e9:.{1 if costs['flops'] > 1e8 else 4}f}" if costs.get("flops") else "-",
        "ms per slice": f"{costs['milliseconds']:.1f}" if costs.get("milliseconds") else "-",
    }


def _facts(runs: Sequence[RunFiles]) -> dict[str, Any]:
    """Classes with their colours, and a table of what is known of each run beside its scores."""
    columns = []
    for run in runs:
        facts, costs = run.facts, run.facts.get("costs", {})
        column = {
            "network": facts.get("network", "-"),
            **costs_in_words(costs),
            "measured on": "; ".join(
                [*(costs.get(key, "-") for key in ("input", "device")), *costs.get("remarks", [])]
            ),
            "checkpoint": facts.get("checkpoint", "-") or "the model's own weights",
            "labels": facts.get("options") or "argmax",
        }
        if facts.get("method"):
            column["distilled by"] = facts["method"]
        for number, teacher in enumerate(facts.get("teachers", []), start=1):
            which = f"teacher {number}" if len(facts["teachers"]) > 1 else "teacher"
            column[which] = teacher["network"]
            column[f"{which}: checkpoint"] = teacher["checkpoint"]
            words = costs_in_words(teacher)
            column |= {f"{which}: {label}": words[label] for label in ("parameters (M)", "GFLOPs")}
            for protocol in run.protocols:
                mean = ((teacher["scores"] or {}).get(protocol) or {}).get("mDice")
                column[f"{which}: Dice (%), {protocol}"] = shown(mean)
        columns.append(column)
    labels = dict.fromkeys(label for column in columns for label in column)
    classes: list[str] = next((run.facts["classes"] for run in runs if run.facts.get("classes")), [])
    return {
        "rows": [(label, [column.get(label, "-") for column in columns]) for label in labels],
        "classes": [
            {"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*colour(value))} for value, name in enumerate(classes)
        ],
    }


def _cases(runs: Sequence[RunFiles]) -> list[dict[str, Any]]:
    """The cases that are shown, those of the first run that has some, with the predictions of all runs."""
    if (shows := next((run for run in runs if run.pictures), None)) is None:
        return []
    found = []
    for case in shows.pictures:
        slices = [{key: value for key, value in each.items() if key != "prediction"} for each in case["slices"]]
        for each, own in zip(slices, case["slices"], strict=True):
            each["predictions"] = []
            for run in runs:
                each["predictions"].append(own["prediction"] if run is shows else None)
        for number, run in enumerate(runs):
            if run is shows or not run.facts:
                continue
            labels = read_labels(run.test / FOLDER / "labels", case["name"])
            told = labels and run.facts["classes"] == shows.facts["classes"] and other_predictions(case, labels)
            for each, prediction in zip(slices, told or (), strict=False):
                each["predictions"][number] = prediction
            if not told:
                run.notes.append(f"no prediction of {case['name']}: its labels were not kept, or the truth is another")
        title = f"{case['which']}: {case['name']}, {case['measure']} {shown(case['score'])}"
        found.append({**case, "slices": slices, "title": title})
    return found


def _left_out(case: dict[str, Any]) -> str:
    """How much of a case is shown, in words."""
    count, height, width = case["of"]
    slices = f"all {count} slices" if len(case["slices"]) == count else f"{len(case['slices'])} of {count} slices"
    slices = "an image" if count == 1 else slices
    side = f"{case['height']}x{case['width']} pixels"
    return (
        f"{slices}, {side}"
        if [height, width] == [case["height"], case["width"]]
        else f"{slices}, {side} of {height}x{width}"
    )
