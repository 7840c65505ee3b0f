"""What the folder of a tested run holds for its page."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.errors import UserError
from medseg_kd.evaluation.bootstrap import MEAN, bootstrap
from medseg_kd.evaluation.measures.base import PROTOCOLS, Measure, build_all
from medseg_kd.evaluation.summary import Summary
from medseg_kd.experiments.comparison import RunScores, read_scores
from medseg_kd.report.curves import Curves, read_curves
from medseg_kd.report.page.labels import FOLDER
from medseg_kd.text_files import read_json, read_text, typed

SEED = 0
"""Of the bootstrap."""


@dataclass
class RunFiles:
    """A tested run.

    Attributes:
        folder: The run folder; that of the scores where there is none.
        test: Holds ``metrics.json`` and ``per_case.csv``.
        name: Of the run.
        notes: What the page must tell; reading adds to it.
    """

    folder: Path
    test: Path
    name: str
    notes: list[str] = field(default_factory=list)

    @classmethod
    def find(cls, path: str | Path) -> "RunFiles":
        """The run of a folder: a run folder, its test folder, or one that tools/evaluate.py wrote.

        Raises:
            UserError: There are no scores.
        """
        given = Path(path)
        for test in (given / "test", given):
            if (test / "metrics.json").is_file() and (test / "per_case.csv").is_file():
                folder = test.parent if test.name == "test" else test
                return cls(folder, test, folder.absolute().name)
        state = "has no test/metrics.json and test/per_case.csv" if given.is_dir() else "is no folder"
        raise UserError(f"{path} {state}: expected a run that was tested. Test it: python test.py CONFIG")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json``.

        Raises:
            UserError: It is not what a test writes.
        """
        file = self.test / "metrics.json"
        found = read_json(file, dict)
        for protocol in (known := [name for name in found if name in PROTOCOLS]):
            where = f"{file}: {protocol}"
            for organ, scores in typed(typed(found[protocol], dict, where).get("per_class"), dict, where).items():
                typed(scores, dict, f"{where}, {organ}")
            for name in ("intervals", "measures"):
                typed(found[protocol].get(name, {}), dict, f"{where}, {name}")
        if not known:
            raise UserError(f"{file} holds none of the protocols {', '.join(PROTOCOLS)}. Test the run again")
        return found

    @cached_property
    def protocols(self) -> list[str]:
        """Protocols of the scores, in the order of the file."""
        return [name for name in self.metrics if name in PROTOCOLS]

    @cached_property
    def titles(self) -> list[str]:
        """Titles of the measures whose class is known here; the others are told in the notes."""
        known, unknown = [], []
        for title in [
            name[1:] for name in self.metrics[self.protocols[0]] if name.startswith("m") and name[1:2].isupper()
        ]:
            try:
                build_all([title])
                known.append(title)
            except UserError:
                unknown.append(title)
        if unknown:
            self.notes.append(f"left out, as their classes are not known here: {', '.join(unknown)}")
        if not known:
            raise UserError(f"{self.test / 'metrics.json'} holds no measure that is known here")
        return known

    def scores(self, protocol: str) -> RunScores:
        """The scores of all cases under a protocol."""
        return read_scores(self.test, protocol, [title.lower() for title in self.titles])

    def summary(self, protocol: str) -> Summary:
        """The means of ``metrics.json`` and their intervals, which are the file's own where it has some."""
        scores, found = self.scores(protocol), self.metrics[protocol]
        intervals = {}
        for title in self.titles:
            drawn = bootstrap(scores.values[title.lower()], SEED) if len(scores.cases) > 1 else ()
            named = dict(zip((*scores.organs, MEAN), drawn, strict=False))
            own = found.get("intervals", {}).get(title, {})
            intervals[title] = named | {organ: tuple(each or (np.nan, np.nan)) for organ, each in own.items()}
        return Summary(
            protocol=protocol,
            unit=next(iter(scores.units)),
            cases=[(case, {}) for case in scores.cases],
            measures=[_told(each, found.get("measures", {})) for each in build_all(self.titles)],
            per_class={
                organ: {title: _number(found["per_class"][organ].get(title)) for title in self.titles}
                for organ in scores.organs
            },
            mean={title: _number(found[f"m{title}"]) for title in self.titles},
            counts=scores.counts,
            intervals=intervals if len(scores.cases) > 1 else {},
            seed="of metrics.json" if found.get("intervals") else SEED,
        )

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the test gathered beside its scores; empty, with a note, where it is not there or of another test."""
        found = self._kept("facts.json") or {}
        if found and found.get("scores") != scores_digest(self.test):
            self.notes.append("costs, config and pictures are left out: they are of another test than the scores")
            return {}
        if not found:
            self.notes.append(
                "costs, config and pictures are left out: the test did not keep them (see docs/report.md)"
            )
        return found

    @cached_property
    def pictures(self) -> list[dict[str, Any]]:
        """The cases that are shown, see :func:`~medseg_kd.report.page.pictures.case_pictures`."""
        return (self._kept("pictures.json") or {}).get("cases", []) if self.facts else []

    @cached_property
    def curves(self) -> Curves:
        """What the run logged in training; empty, with a note, without such a log."""
        try:
            return read_curves(self.folder)
        except (UserError, ValueError, KeyError) as error:
            self.notes.append(f"no curves: {error if isinstance(error, UserError) else 'the log is damaged'}")
            return {}

    @cached_property
    def environments(self) -> dict[str, str]:
        """What training and test ran with; what is the same in both once."""
        found = {}
        for file in sorted(self.folder.glob("*/environment.txt")):
            logged = file.with_name("vis_data") / "scalars.json"
            trained = logged.is_file() and '"lr"' in read_text(logged)[:100_000]
            found["training" if trained else "test"] = read_text(file)
        if len(found) == 2 and len(set(found.values())) == 1:
            return {"training and test": found["test"]}
        return found

    def _kept(self, name: str) -> Any:
        file = self.test / FOLDER / name
        return read_json(file, dict) if file.is_file() else None


def scores_digest(test: Path) -> str:
    """A digest of the scores in a test folder, which tells whether other files are of the same test."""
    names = ("metrics.json", "per_case.csv")
    return hashlib.sha256(b"".join((test / name).read_bytes() for name in names)).hexdigest()


def case_table(scores: RunScores, key: str) -> tuple[Sequence[str], list[list[str]]]:
    """Header and rows of one measure: a row for each case, a column for each organ."""
    rows = zip(scores.cases, scores.values[key].tolist(), strict=True)
    return ["case", *scores.organs], [[case, *(shown(value) for value in values)] for case, values in rows]


def shown(value: float | None) -> str:
    """A score as all tables give it."""
    return "-" if value is None or np.isnan(value) else f"{value:.2f}"


def _told(measure: Measure, options: Mapping[str, str]) -> Measure:
    """A measure that is called what the scores say of it: they tell its options, which are not those of its class."""
    kind, said = type(measure), options.get(measure.title, measure.title)
    measure.__class__ = type(kind.__name__, (kind,), {"__str__": lambda _: said})
    return measure


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
