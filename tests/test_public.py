"""The shipped corpora, and files that are downloaded."""

import gzip
import hashlib
import os
from pathlib import Path

import pytest

from nmt_feat.config.data_schema import DataConfig, SplitConfig
from tests.support.pairs import NONE, folder, load, message, run, shipped


@pytest.mark.thorough
def test_embedded(tmp_path: Path) -> None:
    corpus = load(shipped("embedded"), NONE, tmp_path, True)
    assert len(corpus.train.source) == len(corpus.train.target) > 1000
    assert all(s.words for s in corpus.dev.source)
    assert list(corpus.tests) == ["test"]


@pytest.mark.parametrize("pair", [("en", "de"), ("de", "en"), ("en", "fr"), ("en", "cs")])
def test_multi30k_pins_every_file_that_it_needs(pair: tuple[str, str]) -> None:
    config = shipped("multi30k", source_lang=pair[0], target_lang=pair[1])
    needed = [s for s in (config.train, config.dev, *config.tests.values()) if not s.optional]
    assert len(needed) == 3
    names = {name for s in needed for name in (s.source, s.target)}
    assert names <= config.download.sha256.keys()
    assert all(len(s) == 64 for s in config.download.sha256.values())
    assert "a3d2e0d26b56f3846f66a952536ffed4e401d05a" in str(config.download.url)


@pytest.mark.parametrize("pair", [("en", "de"), ("de", "en")])
def test_multi30k_tok_pins_every_file_that_it_needs(pair: tuple[str, str]) -> None:
    config = shipped("multi30k_tok", source_lang=pair[0], target_lang=pair[1])
    needed = [s for s in (config.train, config.dev, *config.tests.values()) if not s.optional]
    names = {name for s in needed for name in (s.source, s.target, s.raw)}
    assert names <= config.download.sha256.keys()
    assert config.tokenized


def public(pairs: DataConfig, tmp_path: Path) -> dict[str, bytes]:
    """Make `pairs` public: its files at a URL, with sums, gzipped; an optional test without."""
    public = tmp_path / "public"
    public.mkdir()
    contents = {}
    for path in sorted(folder(pairs).iterdir()):
        contents[f"{path.name}.gz"] = gzip.compress(path.read_bytes(), mtime=0)
        (public / f"{path.name}.gz").write_bytes(contents[f"{path.name}.gz"])
    for split in (pairs.train, pairs.dev, pairs.tests["test"]):
        split.source, split.target = f"{split.source}.gz", f"{split.target}.gz"
    pairs.download.url = public.as_uri()
    pairs.download.sha256 = {n: hashlib.sha256(c).hexdigest() for n, c in contents.items()}
    pairs.tests["extra"] = SplitConfig("extra.en", "extra.de", optional=True)
    return contents


def test_download_into_the_cache(pairs: DataConfig, tmp_path: Path) -> None:
    contents = public(pairs, tmp_path)
    pairs.folder = None
    corpus = load(pairs, NONE, tmp_path / "cache", False)
    assert len(corpus.train.source) == 4
    for name, content in contents.items():
        assert (tmp_path / "cache" / "small" / name).read_bytes() == content
    assert corpus.notes == [
        "test set extra is left out: data.tests.extra.source=extra.en: no such file in "
        f"{tmp_path}/cache/small; correct the name or set data.folder"
    ]
    (tmp_path / "cache" / "small" / "dev.de.gz").write_bytes(b"damaged")
    assert load(pairs, NONE, tmp_path / "cache", False) == corpus


def test_a_folder_comes_before_the_download(pairs: DataConfig, tmp_path: Path) -> None:
    public(pairs, tmp_path)
    user_folder = folder(pairs)
    (user_folder / "dev.de").write_text("Mein\neigenes\n")  # dev.de for dev.de.gz
    (user_folder / "test.de.gz").write_bytes(gzip.compress(b"Anderes\n"))
    corpus = load(pairs, NONE, tmp_path / "cache", False)
    assert corpus.dev.target == ["Mein", "eigenes"]
    assert corpus.tests["test"].target == ["Anderes"]
    assert not (tmp_path / "cache").exists()


def test_only_public_files_are_found_without_their_folders(
    pairs: DataConfig, tmp_path: Path
) -> None:
    pairs.dev.target = "new/dev.de"
    assert message(pairs) == (
        f"data.dev.target=new/dev.de: no such file in {pairs.folder}; correct the name or set "
        "data.folder"
    )
    pairs.download.url = tmp_path.as_uri()
    assert message(pairs).startswith("data.dev.target=new/dev.de: no such file in ")
    pairs.download.sha256["new/dev.de"] = "0" * 64
    assert run(pairs).dev.target == ["Ein Hund schläft.", "Zwei Katzen sehen ihn."]


def test_file_without_sum_is_not_downloaded(pairs: DataConfig, tmp_path: Path) -> None:
    public(pairs, tmp_path)
    del pairs.download.sha256["dev.de.gz"]
    (folder(pairs) / "dev.de").unlink()
    assert message(pairs) == (
        f"data.dev.target=dev.de.gz: no such file in {pairs.folder}; correct the name or set "
        "data.folder"
    )


def test_all_tests_missing(pairs: DataConfig) -> None:
    pairs.tests = {"extra": SplitConfig("extra.en", "extra.de", optional=True)}
    assert message(pairs) == (
        "data=small: no test set was found (test set extra is left out: "
        f"data.tests.extra.source=extra.en: no such file in {pairs.folder}; correct the name or "
        "set data.folder)"
    )


@pytest.mark.data
@pytest.mark.parametrize("name", ["multi30k", "multi30k_tok"])
@pytest.mark.parametrize("pair", [("en", "de"), ("de", "en"), ("en", "fr"), ("en", "cs")])
def test_multi30k(name: str, pair: tuple[str, str], tmp_path: Path) -> None:
    data = os.environ.get("NMT_FEAT_DATA")
    if not data:
        pytest.skip("NMT_FEAT_DATA is not set")
    if name == "multi30k_tok" and pair[1] in ("fr", "cs"):
        pytest.skip("the folder has no tokenised French and Czech")
    config = shipped(name, source_lang=pair[0], target_lang=pair[1], folder=f"{data}/multi30k")
    corpus = load(config, NONE, tmp_path, False)
    sizes = [len(s.target) for s in (corpus.train, corpus.dev, corpus.tests["test2016"])]
    assert sizes == [29000, 1014, 1000]
    assert [n.split(":")[0] for n in corpus.notes] == [
        "test set test2017 is left out",
        "test set mscoco is left out",
    ]
