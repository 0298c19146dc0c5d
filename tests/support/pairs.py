"""A corpus of four pairs, and how tests read one."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from nmt_feat.base.pool import Pool
from nmt_feat.base.resources import find_resource
from nmt_feat.config.data_schema import AnnotatorConfig, DataConfig, SplitConfig
from nmt_feat.data.corpora import locate_splits
from nmt_feat.data.reading import CorpusReader
from nmt_feat.errors import UserError
from nmt_feat.text.conllu import Sentence
from nmt_feat.text.sentences import ANNOTATION

HANTA = AnnotatorConfig("nmt_feat.annotators.HanTa", processes=1, args={"language": "en"})
NONE = AnnotatorConfig()


def shipped(name: str, **values: Any) -> DataConfig:
    """The config that `data=name` gives."""
    if not OmegaConf.has_resolver("nmt_resource"):
        OmegaConf.register_new_resolver("nmt_resource", lambda n: str(find_resource(n)))
    file = OmegaConf.load(find_resource(f"conf/data/{name}.yaml"))
    data = OmegaConf.merge(OmegaConf.structured(DataConfig), file, values)
    return OmegaConf.to_object(OmegaConf.create({"data": data}).data)  # type: ignore[return-value]


def four(tmp_path: Path) -> DataConfig:
    """Four pairs of training text, two of dev, one of test, in the folder `data`."""
    folder = tmp_path / "data"
    folder.mkdir()
    english = ["A dog sleeps.", "Two cats see it.", "The man's duck ran.", "I go."]
    german = ["Ein Hund schläft.", "Zwei Katzen sehen ihn.", "Die Ente lief.", "Ich gehe."]
    for name, count in (("train", 4), ("dev", 2), ("test", 1)):
        (folder / f"{name}.en").write_text("\n".join(english[:count]) + "\n")
        (folder / f"{name}.de").write_text("\n".join(german[:count]) + "\n")
    return DataConfig(
        name="small",
        source_lang="en",
        target_lang="de",
        folder=str(folder),
        train=SplitConfig("train.en", "train.de"),
        dev=SplitConfig("dev.en", "dev.de"),
        tests={"test": SplitConfig("test.en", "test.de")},
    )


def folder(config: DataConfig) -> Path:
    return Path(str(config.folder))


@dataclasses.dataclass
class Pairs:
    """A split, read into memory."""

    source: list[Sentence]
    target: list[str]


@dataclasses.dataclass
class Corpus:
    """A corpus, read into memory."""

    train: Pairs
    dev: Pairs
    tests: dict[str, Pairs]
    fingerprint: str
    notes: list[str]


def load(
    config: DataConfig, annotator: AnnotatorConfig, cache: Path, annotate: bool, processes: int = 1
) -> Corpus:
    columns = ANNOTATION if annotate else None
    raw = locate_splits(config, annotator, cache, annotate)
    with tempfile.TemporaryDirectory() as work, Pool(processes, "reading", "") as pool:
        CorpusReader(raw, config, annotator, columns, cache, Path(work), pool).read_splits()
        splits = {
            split.name: Pairs(
                list(split.source.rows(0, len(split.source))), list(split.target.texts)
            )
            for split in raw.splits
        }
    return Corpus(splits.pop("train"), splits.pop("dev"), splits, raw.fingerprint, raw.notes)


def run(config: DataConfig, annotator: AnnotatorConfig = NONE, annotate: bool = False) -> Corpus:
    return load(config, annotator, folder(config).parent / "cache", annotate)


def fingerprint(config: DataConfig, annotator: AnnotatorConfig, cache: Path, annotate: bool) -> str:
    return locate_splits(config, annotator, cache, annotate).fingerprint


def message(config: DataConfig, annotator: AnnotatorConfig = NONE, annotate: bool = False) -> str:
    """The error that loading ends in, with the folder's name left out."""
    with pytest.raises(UserError) as error:
        run(config, annotator, annotate)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{folder(config)}/", "")
