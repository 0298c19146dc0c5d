"""A combiner of one's own has the name of its file, in tables and folders of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt_feat.analysis.result_tables import ResultTable
from nmt_feat.base.resources import find_resource
from nmt_feat.cli.compose import compose_settings
from nmt_feat.config.identity import shorten_class_name
from nmt_feat.errors import UserError
from nmt_feat.runs.run import FinishedRun, run_training
from nmt_feat.runs.stored.records import read_run
from tests.support.small import Small, composed

FILES = {
    "scaled": "_target_: examples.product.Product\n",
    "film_small": "_target_: examples.film.FiLM\nargs: {start: 0.01}\n",
    "film_large": "_target_: examples.film.FiLM\nargs: {start: 0.5}\n",
    "chosen": "_target_: examples.product.Product\nname: times\n",
    "derived": "defaults: [gate, _self_]\nbias: 1.0\n",
    "concat": "_target_: nmt_feat.combiners.Concat\n",
}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A user's folder of options."""
    folder = tmp_path / "mine" / "combiner"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / f"{name}.yaml").write_text(content)
    return folder.parent


@pytest.mark.parametrize(
    ("option", "name"),
    [
        *(("scaled", "scaled"), ("film_small", "film_small"), ("derived", "derived")),
        *(("chosen", "times"), ("concat", None)),
    ],
)
def test_the_name_is_that_of_the_file(mine: Path, option: str, name: str | None) -> None:
    assert compose_settings([f"combiner={option}"], str(mine)).combiner.name == name


@pytest.mark.thorough
def test_shipped_files_have_the_names_of_their_classes() -> None:
    for path in find_resource("conf").glob("combiner/*.yaml"):
        combiner = composed((f"combiner={path.stem}",)).combiner
        assert (combiner.name, shorten_class_name(combiner._target_)) == (None, path.stem)


def test_a_name_that_cannot_be_one_is_refused(small: Small) -> None:
    for name in ("a b", "../a", "none"):
        with pytest.raises(UserError, match=r"combiner\.name=.*a name has letters, digits"):
            small.train("combiner=gate", f"combiner.name={name}")


@pytest.mark.thorough
def test_runs_of_the_class_s_name_are_met_again(mine: Path, small: Small) -> None:
    """A run that was trained before it had a name is the same; its row has the name now."""

    def train(*arguments: str) -> FinishedRun:
        settings = small.overrides(*arguments, "trainer.max_steps=2")
        return run_training(compose_settings(settings, str(mine)))

    before = train("combiner._target_=examples.film.FiLM", "+combiner.args.start=0.01")
    assert before.folder.name.startswith("FiLM-deprel")
    assert train("combiner=film_small").folder == before.folder
    other_seed = train("combiner=film_small", "seed=2")
    assert other_seed.folder.name.startswith("film_small-deprel")
    of_one_class = train("combiner=film_large")
    records = [read_run(run.folder) for run in (before, other_seed, of_one_class)]
    rows = ResultTable(records).runs_by_name()
    assert {name: len(runs) for name, runs in rows.items()} == {"film_small": 2, "film_large": 1}
