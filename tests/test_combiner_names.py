"""A combiner of one's own has the name of its file, in tables and folders of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt_feat.analysis.result_tables import ResultTable
from nmt_feat.base.resources import find_resource
from nmt_feat.cli.compose import compose_settings
from nmt_feat.config.identity import method_name
from nmt_feat.config.schema import TrainConfig
from nmt_feat.errors import UserError
from nmt_feat.runs.records import read_run
from nmt_feat.runs.run import run_training
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


def test_shipped_files_have_the_names_of_their_classes() -> None:
    for path in find_resource("conf").glob("combiner/*.yaml"):
        combiner = composed((f"combiner={path.stem}",)).combiner
        assert (combiner.name, method_name(combiner._target_)) == (None, path.stem)


def test_a_name_that_cannot_be_one_is_refused(small: Small) -> None:
    for name in ("a b", "../a", "none"):
        with pytest.raises(UserError, match=r"combiner\.name=.*a name has letters, digits"):
            small.train("combiner=gate", f"combiner.name={name}")


def test_runs_of_the_class_s_name_are_met_again(mine: Path, small: Small) -> None:
    """A run that was trained before it had a name is the same; its row has the name now."""

    def settings(*arguments: str) -> TrainConfig:
        return compose_settings(small.overrides(*arguments, "trainer.max_steps=2"), str(mine))

    before = run_training(settings("combiner._target_=examples.product.Product"))
    assert before.folder.name.startswith("Product-deprel")
    again = run_training(settings("combiner=scaled"))
    assert again.folder == before.folder
    other_seed = run_training(settings("combiner=scaled", "seed=2"))
    assert other_seed.folder.name.startswith("scaled-deprel")
    assert other_seed.record.hash != before.record.hash
    table = ResultTable([read_run(run.folder) for run in (before, other_seed)])
    assert [len(runs) for runs in table.runs_by_name().values()] == [2]
    assert list(table.runs_by_name()) == ["scaled"]


def test_files_of_one_class_are_two_rows(mine: Path, small: Small) -> None:
    folders = [
        run_training(
            compose_settings(small.overrides(f"combiner={name}", "trainer.max_steps=2"), str(mine))
        ).folder
        for name in ("film_small", "film_large")
    ]
    table = ResultTable([read_run(folder) for folder in folders])
    assert list(table.runs_by_name()) == ["film_small", "film_large"]
