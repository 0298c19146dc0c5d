"""What all tests share."""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

from nmt_feat.cli.main import set_library_defaults

if TYPE_CHECKING:
    from nmt_feat.config.data_schema import DataConfig
    from nmt_feat.config.schema import TrainConfig
    from tests.support.applied import Runs
    from tests.support.small import Small

# Models here are tiny, and threads that wait for each other on busy cores are slower than one.
set_library_defaults()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # tests of two threads, on busy cores

# Their assertions show values, as those of test modules do.
pytest.register_assert_rewrite("tests.support")

# How long an example takes says how busy the machine is, not whether the code is right; and a
# failure comes again. New examples are for tools/fuzz.py.
settings.register_profile("the same examples", deadline=None, derandomize=True)
settings.load_profile("the same examples")


def pytest_collection_finish() -> None:
    """What is imported stays: looking for garbage in it again and again would take a tenth."""
    from tests.support.compositions import keep_compositions
    from tests.support.speed import spare_time

    spare_time()
    keep_compositions()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Limits of validations are the program's in slow tests, which compare runs of processes.

    In other tests the processes of a pool are forked by a server, which has imported PyTorch.
    Random numbers that a test draws do not depend on the tests before it.
    """
    import torch

    from nmt_feat.base import pool
    from tests.support.lives import SERVER, limit_validations

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    is_quick = item.get_closest_marker("slow") is None
    limit_validations(is_quick)
    pool.START_METHOD = SERVER.get_start_method() if is_quick else "spawn"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small part of the bundled corpus."""
    from tests.support.small import cut

    return cut(tmp_path_factory.mktemp("corpus") / "small")


@pytest.fixture
def small(corpus: Path, tmp_path: Path) -> Small:
    """Very small runs in a folder of this test's own."""
    from tests.support.small import Small

    return Small(corpus, corpus.parent / "cache", tmp_path)


@pytest.fixture
def pairs(tmp_path: Path) -> DataConfig:
    """A corpus of four pairs, in the folder `data` of this test's own."""
    from tests.support.pairs import four

    return four(tmp_path)


@pytest.fixture
def cfg(tmp_path: Path) -> TrainConfig:
    """A corpus of a few known words, not prepared yet."""
    from tests.support.lexicon import config

    return config(tmp_path)


@pytest.fixture(scope="session")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Finished runs of each kind of source text."""
    from tests.support.applied import trained

    pytest.importorskip("HanTa")
    return trained(corpus, tmp_path_factory.mktemp("apply"))


@pytest.fixture(scope="session")
def udpipe_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A UDPipe model that was trained here."""
    from tests.support.pipelines import train_udpipe

    return train_udpipe(tmp_path_factory.mktemp("udpipe") / "small.udpipe")


@pytest.fixture(scope="session")
def spacy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of spaCy that was trained here."""
    from tests.support.pipelines import train_spacy

    return train_spacy(tmp_path_factory.mktemp("spacy") / "en_small")


@pytest.fixture(scope="session")
def encoder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of Hugging Face that was made here."""
    from tests.support.encoders import corpus_texts, save, word_piece

    return save(tmp_path_factory.mktemp("encoder") / "tiny", word_piece(corpus_texts(corpus)))
