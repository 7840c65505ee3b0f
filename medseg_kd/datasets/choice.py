"""Which cases of a split a data set takes, and the labels of which of them it reads."""

from dataclasses import replace
from typing import Any, NamedTuple

from medseg_kd.datasets.formats import Case, Format
from medseg_kd.errors import UserError, some


class Choice(NamedTuple):
    """A choice of cases, by their names.

    Attributes:
        cases: Only these; None takes all.
        exclude_cases: Not these.
        labelled: The labels of these alone are read; None: of all that have one.
        with_unlabelled: Take the others too. False leaves them out where ``labelled`` names some.
    """

    cases: Any = None
    exclude_cases: Any = ()
    labelled: Any = None
    with_unlabelled: bool = False

    def of(self, reader: Format, split: str) -> list[Case]:
        """Look for the cases of a split; those that stay. All that are named are there.

        Raises:
            UserError: One is not there, none is left, or as :meth:`Format.find` says.
        """
        # What is named is looked at below, or where it is used: that other cases lack a label is no matter.
        reader.with_unlabelled = self.with_unlabelled or not (self.cases is None and self.labelled is None)
        known, root = {case.name: case for case in reader.find(split)}, reader.root
        wanted, unwanted, labelled = (_names(getattr(self, key), key) for key in ("cases", "exclude_cases", "labelled"))
        if unknown := sorted((wanted | unwanted | labelled) - known.keys()):
            raise UserError(f"{root} holds no case {', '.join(unknown)}; it holds {', '.join(sorted(known))}")
        kept = [each for name, each in known.items() if (self.cases is None or name in wanted) and name not in unwanted]
        if self.labelled is not None:
            if lacking := sorted(name for name in labelled if not known[name].labelled):
                raise UserError(f"{root}: dataset.labelled names {some(lacking)}, but there is no label. Add it")
            kept = [case if case.name in labelled else replace(case, labelled=False) for case in kept]
            kept = [case for case in kept if case.labelled or self.with_unlabelled]
        if not kept:
            keys = "dataset.cases, dataset.exclude_cases" + " and dataset.labelled" * (self.labelled is not None)
            raise UserError(f"{root}: no case is left after {keys}")
        return kept


def _names(given: Any, key: str) -> set[str]:
    """Names of cases; a string is one, None has none."""
    names = [given] if isinstance(given, str) else given or ()
    if not isinstance(names, (list, tuple, set)) or not all(isinstance(name, str) for name in names):
        raise UserError(f"dataset.{key} is {given!r}: expected a list of case names")
    return set(names)
