"""An annotator of one's own: words of Chinese with their reading, by pypinyin.

    pip install -e '.[pinyin]'
    python train.py --config-dir=examples annotator=pinyin 'features=[pinyin]' ...

A reading is a value like any other, `misc.Pinyin`; the feature in `features/pinyin.yaml` composes
its letters. In this way go IPA, radicals, or transliterations.
"""

import functools
import importlib.metadata
import re
from collections.abc import Sequence
from typing import Any

from nmt_feat.annotators import Annotator
from nmt_feat.text.conllu import NONE, Sentence, Word

HAN = re.compile("[\u3400-\u9fff]")
RUNS = re.compile("[\u3400-\u9fff]+|[^\\s\u3400-\u9fff]+")
"""Chinese characters, or others between spaces."""


class Pinyin(Annotator):
    """Words by pypinyin's list of phrases, and how each is read: `zhong1guo2`."""

    name = "pinyin"
    languages = ("zh", "zho")
    columns = ("misc",)

    def __init__(self) -> None:
        self.package("pypinyin")

    @functools.cached_property
    def _tagger(self) -> Any:
        from pypinyin import Style, lazy_pinyin

        return functools.partial(
            lazy_pinyin, style=Style.TONE3, neutral_tone_with_five=True, errors="ignore"
        )

    def fingerprint(self) -> str:
        """The version of the package, which brings its dictionary."""
        return f"pinyin pypinyin={importlib.metadata.version('pypinyin')}"

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line; what is not Chinese has no reading."""
        from pypinyin.contrib.mmseg import seg

        sentences = []
        for text in texts:
            words = []
            for run in RUNS.finditer(text):
                end = run.start()
                for form in seg.cut(run[0]) if HAN.match(run[0]) else [run[0]]:
                    start, end = end, end + len(form)
                    reading = "".join(self._tagger(form))
                    misc = f"Pinyin={reading}" if reading else NONE
                    words.append(Word(form, start, end, misc=misc))
            sentences.append(Sentence(text, tuple(words)))
        return sentences
