"""The inputs of the jobs of both sides: corpora in all formats, vectors, models.

The corpora are the first sentences of the base's bundled corpus, so both sides read the same.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from compare.commands import ENVIRONMENT, HERE

SPLITS = {"train": 300, "dev": 24, "test": 40}
SHARDS = 3
COLUMNS = {"upos": 3, "deprel": 7}
WIDTH = 8
"""Numbers of a vector."""
MODELS = ("udpipe", "spacy", "encoder")
"""Models that `models.py` creates."""
RAW = """\
The old dog sees a cat, doesn't it?
An unknown wordlessness of 3,141 owls — “quoted” & <b>bold</b>!
the
The man who sees the woman gives the child a book.
"""
ODD = """\
 Two  spaces, a cafe\u0301 and a café; a no-break\u00a0space.

A trailing space. \u2585
"""
"""Not in a normal form of Unicode and white space; an empty line."""
KOREAN = """\
나는 학교에 갔다.
그는 책을 읽었어요!
톰은 한국어를 잘 못해.
오늘 날씨가 정말 좋습니다.
그 사람이 누구인지 아세요?
우리는 내일 서울에서 만날 거예요.
커피 두 잔 주세요.
이 영화는 재미있었지만 너무 길었다.
고양이가 의자 위에서 자고 있다.
새로운 컴퓨터를 사고 싶어요.
"""
ENGLISH = """\
I went to school.
He read a book!
Tom can't speak Korean well.
The weather is really nice today.
Do you know who that person is?
We will meet in Seoul tomorrow.
Two cups of coffee, please.
This film was interesting but too long.
The cat is sleeping on the chair.
I want to buy a new computer.
"""


@dataclass(frozen=True)
class Word:
    """A line of CoNLL-U, and whether a space follows."""

    columns: list[str]

    @property
    def form(self) -> str:
        """The word itself."""
        return self.columns[1]


def write(path: Path, lines: list[str]) -> None:
    """A file of lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def text_of(block: str) -> str:
    """The sentence of a block of CoNLL-U."""
    texts = [line for line in block.split("\n") if line.startswith("# text = ")]
    return texts[0].removeprefix("# text = ")


def words_of(block: str) -> list[Word]:
    """Its words; the bundled corpus has no words of several parts."""
    rows = [line.split("\t") for line in block.split("\n") if line and line[0] != "#"]
    return [Word(row) for row in rows if row[0].isdigit()]


class Inputs:
    """Creates the inputs once, in `folder`; models only when a job asks for them by name."""

    def __init__(self, folder: Path, embedded: Path, data: Path | None) -> None:
        self.folder, self.embedded, self.data = folder, embedded, data
        self._lock = threading.Lock()

    def __call__(self, name: str) -> Path:
        """The file or folder of this name, which is created if it does not exist."""
        with self._lock:
            if not (self.folder / "conllu").exists():
                self._write_corpora()
            path = self.folder / name
            if not path.exists():
                if name in MODELS:
                    self._make_model(name, path)
                elif name == "multi30k_tok":
                    self._lay_out_multi30k(path)
            return path

    def _write_corpora(self) -> None:
        building = self.folder / "conllu.building"
        for split, count in SPLITS.items():
            whole = (self.embedded / f"{split}.conllu").read_text(encoding="utf-8")
            target = (self.embedded / f"{split}.de").read_text(encoding="utf-8").split("\n")
            if split == "test":  # the last ones have several readings
                blocks, lines = whole.split("\n\n")[-count - 1 : -1], target[-count - 1 : -1]
            else:
                blocks, lines = whole.split("\n\n")[:count], target[:count]
            self._write_split(building, split, blocks, lines)
        self._write_vectors()
        write(self.folder / "raw.txt", RAW.split("\n")[:-1])
        write(self.folder / "odd.txt", ODD.split("\n")[:-1])
        korean, english = KOREAN.split("\n")[:-1], ENGLISH.split("\n")[:-1]
        for split, times in (("train", 4), ("dev", 1), ("test", 1)):
            write(self.folder / "korean" / f"{split}.ko", korean * times)
            write(self.folder / "korean" / f"{split}.en", english * times)
        building.rename(self.folder / "conllu")

    def _write_split(self, conllu: Path, split: str, blocks: list[str], lines: list[str]) -> None:
        texts, words = [text_of(b) for b in blocks], [words_of(b) for b in blocks]
        write(conllu / f"{split}.de", lines)
        write(conllu / f"{split}.conllu", "\n\n".join([*blocks, ""]).split("\n")[:-1])
        formats: dict[str, list[str]] = {"text.en": texts, "jsonl.jsonl": [], "given.en": []}
        formats["tokens.en"] = [" ".join(w.form for w in row).lower() for row in words]
        for kind, joint in (("pipe", "|"), ("ffe8", "￨")):
            rows = [[joint.join([w.form, *self._values(w)]) for w in row] for row in words]
            formats[f"{kind}.{kind}"] = [" ".join(row) for row in rows]
        for text, row in zip(texts, words, strict=True):
            items = [
                {"form": w.form, **dict(zip(COLUMNS, self._values(w), strict=True))} for w in row
            ]
            line = json.dumps({"text": text, "words": items}, ensure_ascii=False)
            formats["jsonl.jsonl"].append(line)
            cut = [f"{w.form[:3]}@@ {w.form[3:]}" if len(w.form) > 5 else w.form for w in row]
            formats["given.en"].append(" ".join(cut))
        for name, content in formats.items():
            kind, suffix = name.split(".")
            write(self.folder / kind / f"{split}.{suffix}", content)
            write(self.folder / kind / f"{split}.de", lines)
        for name, column in COLUMNS.items():
            values = [" ".join(w.columns[column] for w in row) for row in words]
            write(self.folder / "tokens" / f"{split}.{name}", values)
            write(self.folder / "factors" / f"{split}.{name}", values)
        write(self.folder / "factors" / f"{split}.en", [" ".join(w.form for w in r) for r in words])
        write(self.folder / "factors" / f"{split}.de", lines)
        self._write_packed(split, blocks, texts, lines)

    def _write_packed(
        self, split: str, blocks: list[str], texts: list[str], lines: list[str]
    ) -> None:
        """Write a split gzipped, and as several files that are read as one."""
        packed, shards = self.folder / "gz", self.folder / "shards"
        packed.mkdir(exist_ok=True)
        for name, content in ((f"{split}.en", texts), (f"{split}.de", lines)):
            with gzip.open(packed / f"{name}.gz", "wt", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in content)
        size = -(-len(lines) // SHARDS)
        for i in range(SHARDS):
            part = slice(i * size, (i + 1) * size)
            write(shards / f"{split}-{i}.de", lines[part])
            rows = "\n\n".join([*blocks[part], ""]).split("\n")[:-1]
            write(shards / f"{split}-{i}.conllu", rows)

    def _values(self, word: Word) -> list[str]:
        return [word.columns[column] for column in COLUMNS.values()]

    def _write_vectors(self) -> None:
        """Vectors of most words of the training split."""
        whole = (self.embedded / "train.conllu").read_text(encoding="utf-8")
        blocks = whole.split("\n\n")[: SPLITS["train"]]
        forms = sorted({word.form for block in blocks for word in words_of(block)})
        for seed, name in enumerate(("window", "sentence")):
            chance = random.Random(seed)
            rows = [f"{len(forms[seed::7] + forms[seed + 1 :: 2])} {WIDTH}"]
            for form in forms[seed::7] + forms[seed + 1 :: 2]:
                numbers = " ".join(f"{chance.gauss(0, 1):.4f}" for _ in range(WIDTH))
                rows.append(f"{form} {numbers}")
            unique = dict.fromkeys(row.split(" ")[0] for row in rows[1:])
            rows[0] = f"{len(unique)} {WIDTH}"
            by_form = {row.split(" ")[0]: row for row in rows[1:]}
            write(self.folder / "vectors" / f"{name}.txt", [rows[0], *by_form.values()])

    def _make_model(self, name: str, path: Path) -> None:
        if name == "udpipe" and self.data:
            ready = self.data / "models" / "english-ewt.udpipe"
            if ready.exists():
                path.symlink_to(ready)
                return
        command = [sys.executable, str(HERE / "models.py"), name, str(path), str(self.folder)]
        env = os.environ | ENVIRONMENT | {"PYTHONPATH": str(HERE.parent)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}: {(done.stderr.strip().splitlines() or [''])[-1]}")

    def _lay_out_multi30k(self, path: Path) -> None:
        """Write Multi30k's tokenised files where `data=multi30k_tok` expects them."""
        assert self.data
        for split in ("train", "val", "test_2016_flickr"):
            for lang in ("en", "de"):
                name = f"{split}.lc.norm.tok.{lang}"
                (path / "tok").mkdir(parents=True, exist_ok=True)
                (path / "raw").mkdir(parents=True, exist_ok=True)
                with gzip.open(self.data / "multi30k" / f"{name}.gz") as file:
                    (path / "tok" / name).write_bytes(file.read())
                raw = f"{split}.{lang}.gz"
                shutil.copy(self.data / "multi30k" / raw, path / "raw" / raw)
