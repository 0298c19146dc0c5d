"""Feed mutated files to the readers: each is read whole, or refused in one line that names it.

    python tools/fuzz.py all --inputs 100000 --seed 1

The readers: CoNLL-U, factored text, token-parallel files, JSON lines, word vectors, records of
runs, checkpoints and weights. Another exception than `UserError`, more than 10 s of CPU or 1 GiB
for an input, a message of several lines or of another file, and a file that is read with another
number of sentences or words than a simple count of its lines gives, end the script with exit code
1; the input is kept in the current folder.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import torch
from torch import nn

from nmt_feat.base.checksums import hash_json
from nmt_feat.base.typed_json import convert_json
from nmt_feat.errors import UserError
from nmt_feat.evaluation.combiner_diagnostics import Parts
from nmt_feat.evaluation.metrics import Scores
from nmt_feat.runs.records import CurvePoint, RunRecord, read_record
from nmt_feat.text import files as text
from nmt_feat.text import formats
from nmt_feat.text.conllu import Sentence, parse_conllu, read_conllu, sentence_end
from nmt_feat.text.conllu_blocks import parse_block
from nmt_feat.text.sentences import ANNOTATION, HEAD, Sentences
from nmt_feat.text.word_values import read_column
from nmt_feat.text.word_vectors import read_vectors
from nmt_feat.training.checkpoints import (
    INDEX,
    Checkpoints,
    TrainingState,
    model_tensors,
    read_tensors,
    restore_weights,
    to_safetensors,
)

CONLLU = """# text = Im Haus, da sitzt's.
1-2\tIm\t_\t_\t_\t_\t_\t_\t_\t_
1\tin\tin\tADP\tAPPR\t_\t3\tcase\t_\t_
2\tdem\tder\tDET\tART\tCase=Dat|Gender=Neut\t3\tdet\t_\t_
3\tHaus\tHaus\tNOUN\tNN\tCase=Dat\t5\tobl\t_\tSpaceAfter=No|NER=O
4\t,\t,\tPUNCT\t$,\t_\t3\tpunct\t_\t_
4.1\tda\t_\t_\t_\t_\t_\t_\t_\t_
5\tda\tda\tADV\tADV\t_\t6\tadvmod\t_\t_
6\tsitzt\tsitzen\tVERB\tVVFIN\t_\t0\troot\t_\tSpaceAfter=No
7\t's\tes\tPRON\tPPER\t_\t6\tnsubj\t_\tSpaceAfter=No
8\t.\t.\tPUNCT\t$.\t_\t6\tpunct\t_\t_

1\tNach\tnach\tADP\t_\t_\t2\tcase\t_\t_
2\tNew York\tNew York\tPROPN\t_\t_\t0\troot\t_\tHeadUPOS=ROOT

# a comment
# text = 漢字 שלום
1\t漢字\t漢字\tNOUN\t_\t_\t0\troot\t_\t_
2\tשלום\tשלום\tNOUN\t_\t_\t1\tdep\t_\tMy=1

"""
SPLICES = [
    *(b"\0", b"\r\n", b"\r", b"\n", b"\n\n", b" ", b"\t"),
    *(b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80"),
    *"\u200b\u200d|\u0301\u0323|\u202e\u05d0|\u2028|\x85".encode().split(b"|"),
    *"\u3000|\x1c|\U0010ffff|\u0661".encode().split(b"|"),
    *"| \uffe8 \u2502 _ &#124; &amp;#124; = #".encode().split(b" "),
    *(b"# text = x\n", b"9" * 5000),
    *b"-1 1e999 -0 nan Infinity 1-2 1.1 0 1_0 2147483648".split(),
    *(b"[" * 3000, b'{"a":' * 3000),
    *b'[] {} null true "" " \\ud800 \\u0000 \\n \\'.split(),
    *(b"x" * 100_000, b"a " * 3000, b"\n" * 3000, b"../" * 3, b"\x1f\x8b\x08"),
]  # fmt: skip
"""Hostile fragments."""


def mutate(data: bytes, chance: random.Random) -> bytes:
    """The data with one to four changes."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        behind = min(len(data), at + chance.choice((1, 1, 2, 5, 20, 200)))
        part = data[at:behind]
        match chance.randrange(8):
            case 0:
                part = bytes(byte ^ 1 << chance.randrange(8) for byte in part[:1]) + part[1:]
            case 1:
                part = b""
            case 2:
                part = part * chance.choice((2, 3, 50))
            case 3:
                part = bytes(chance.randrange(256) for _ in range(3)) + part
            case 4 | 5:
                part = chance.choice(SPLICES) + part
            case 6:
                other = chance.randint(0, len(data))
                part = data[other : other + len(part)]
            case 7:
                behind = at + (len(data) - at) * (chance.random() < 0.2)
        data = data[:at] + part + data[behind:]
    return data


Counts = tuple[int, ...]


def count(sentences: Iterable[Sentence]) -> Counts:
    """Sentences and words, which can be stored as they are."""
    found = list(sentences)
    kept = Sentences.read(pa.Table.from_batches([Sentences.of(found).table()]))
    for column in ("upos", "feats", "feats.Case", "misc.NER"):
        read_column(kept, column)
    for sentence, again in zip(found, kept, strict=True):
        assert sentence.text == again.text
        assert [w.form for w in sentence.words] == [w.form for w in again.words]
    return len(found), sum(len(sentence.words) for sentence in found)


def lines_of(data: bytes) -> list[str]:
    """The lines of a file, simply; behind the last line break, one that has more than `\\r`."""
    found = data.decode().removeprefix("\ufeff").split("\n")
    return [line.rstrip("\r") for line in (found if found[-1].strip("\r") else found[:-1])]


def blocks(path: Path, kind: str, factors: tuple[str, ...]) -> Iterable[Sentence]:
    """Sentences as they are read from a corpus, block by block."""
    for block in text.read_blocks(path):
        yield from formats.parse_lines(block.lines(), str(path), kind, factors, block.line)


def read_both_ways(path: Path) -> Counts:
    """A file of CoNLL-U word by word; in columns it is the same, or refused in the same words."""
    for block in text.read_blocks(path, sentence_end):
        lines, found = block.lines(), list[pa.RecordBatch | str]()
        for columns in (False, True):
            try:
                if columns:
                    made = parse_block(lines, str(path), block.line, (*ANNOTATION, HEAD))
                else:
                    made = Sentences.of(parse_conllu(lines, str(path), block.line))
                found.append(made.table())
            except UserError as error:
                found.append(str(error))
        assert found[0] == found[1], found
    return count(read_conllu(path))


def words_of_conllu(data: bytes) -> Counts:
    """Ids that are numbers, those of a range as one."""
    ids: list[str] = []
    sentences, inside = 0, False
    for line in lines_of(data):
        blank = not line.strip()
        sentences += inside and blank
        inside = not blank
        ids += [] if blank or line[0] == "#" else [line.split("\t")[0]]
    spans = [tuple(map(int, name.split("-"))) for name in ids if "-" in name]
    single = sum(name.isdecimal() for name in ids)
    return sentences + inside, single - sum(b - a for a, b in spans)


def words_of_factored(data: bytes) -> Counts:
    """Lines, and what is between their spaces."""
    lines = lines_of(data)
    return len(lines), sum(len(line.split()) for line in lines)


def words_of_json(data: bytes) -> Counts:
    """Lines, and forms, or words between spaces."""
    words, lines = 0, lines_of(data)
    for line in lines:
        content = json.loads(line)
        forms = len(re.findall(r'"form"\s*:', line))
        if "words" not in content:
            words += len(content["text"].split()) if "factors" in content or FACTORS else 0
        elif content.keys() == {"text", "words"} and "\\" not in line:
            words += forms
        else:
            words += len(content["words"])
    return len(lines), words


FACTORS = ("upos",)  # of Sockeye's lines


def read_parallel(path: Path) -> Counts:
    """Words and, after a line of `==`, the values of a factor."""
    side, _, other = path.read_bytes().partition(b"==\n")
    names = path.with_suffix(".tok"), path.with_suffix(".tok.upos")
    for name, data in zip(names, (side, other), strict=True):
        name.write_bytes(data)
    lines, given = map(text.read_lines, names)
    return count(formats.parse_parallel(lines, str(names[0]), {"upos": (str(names[1]), given)}))


def words_of_parallel(data: bytes) -> Counts:
    """Of each side the same."""
    side, _, other = data.partition(b"==\n")
    found, given = words_of_factored(side), words_of_factored(other)
    return found if found == given else (*found, *given)


def vectors(path: Path) -> Counts:
    """Words of a file of vectors, and numbers."""
    words, numbers = read_vectors(path)
    "".join(words).encode()  # raises where one is no text
    return len(words), int(numbers.size)


def words_of_vectors(data: bytes) -> Counts:
    """Lines but the first where that is two numbers; the numbers that they all have."""
    lines = data.decode().removeprefix("\ufeff").split("\n")
    lines = [line.rstrip("\r ") for line in (lines if lines[-1] else lines[:-1])]
    if re.fullmatch(r"\d+ \d+", lines[0]):
        return len(lines) - 1, (len(lines) - 1) * int(lines[0].split(" ")[1])
    return len(lines), len(lines) * (len(lines[0].split(" ")) - 1)


def records(path: Path) -> Counts:
    """Points of the curve and test sets of a record that can be written again."""
    record = read_record(path)
    json.dumps(asdict(record), ensure_ascii=False).encode()  # raises where it cannot be
    return len(record.curve), len(record.tests)


def points_of_record(data: bytes) -> Counts:
    """The same from plain JSON."""
    content = json.loads(data)
    return len(content.get("curve", ())), len(content.get("tests", ()))


def checkpoint(path: Path) -> Counts:
    """A checkpoint beside whole weights and state; with a right sum where its JSON can be read."""
    folder = path.parent
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and content.pop("sum", None) is not None:
            path.write_text(json.dumps({"sum": hash_json(content), **content}))
    except (ValueError, RecursionError):
        pass
    found = Checkpoints(folder, 1)
    convert_json(found.index["meta"], TrainingState)
    found.read_state()
    for how in ("best", "average"):
        found.select_weights(how)
    return (found.step,)


def tensors(path: Path) -> Counts:
    """Weights that belong to a model, or others."""
    found = read_tensors(path)
    restore_weights(nn.Linear(3, 2), found, str(path))
    return (len(found),)


class Reader(NamedTuple):
    """What reads a file, whose name must end so, and the same count found otherwise."""

    name: str
    read: Callable[[Path], Counts]
    expected: Callable[[bytes], Counts] | None
    seeds: tuple[bytes, ...]


def _readers(folder: Path) -> dict[str, Reader]:
    sentences = list(parse_conllu(CONLLU.split("\n"), "seed"))
    spaceless = [s for s in sentences if not any(" " in w.form for w in s.words)]
    factors = ["upos", "feats.Case"]
    written = {
        kind: "".join(f"{x}\n" for x in formats.write_factored(spaceless, "x", factors, kind))
        for kind in formats.SEPARATORS
    }
    sides = zip(*formats.write_parallel(spaceless, "x", ["upos"]), strict=True)
    parallel = "==\n".join("".join(f"{line}\n" for line in side) for side in sides)
    lines = "".join(f"{line}\n" for line in formats.write_jsonl(sentences))
    lines += '{"text": "the dog", "factors": ["DET NOUN"]}\n'
    words2vec = b"3 4\na 1 2 3 4\n\xc3\xa9 -0.5 1e-3 .5 0\nthe 0 0 0 0\n"
    glove = b"a 1 2 3\n. . . 0.1 0.2 0.3\n\xe6\xbc\xa2 1 -2 3e2\n"
    scores = Scores(21.5, 50.0, "nrefs:1", "nrefs:1", 8, perplexity=3.0)
    record = RunRecord(
        *("gate", ["upos"], 1, "embedded", "12345678", {"seed": 1}, {"trainer": {"lr": 1e-3}}),
        parameters={"total": 3},
        curve=[CurvePoint(2, 3.5, 0.1), CurvePoint(4, None, None)],
        dev=scores,
        tests={"test": scores},
        parts=Parts({"word": 0.5, "upos": 0.5}),
    )
    model, whole = nn.Linear(3, 2), Checkpoints(folder, 1)
    state = {"generator.0.cpu": torch.get_rng_state()[:8]}
    whole.save(2, model, state, asdict(TrainingState(step=2, curve=[{"step": 2, "bleu": 1.0}])), 2)
    index = (folder / f"{INDEX}2.json").read_bytes()

    def factored(kind: str) -> Callable[[Path], Counts]:
        return lambda path: count(blocks(path, kind, tuple(factors)))

    return {
        "conllu": Reader("x.conllu", read_both_ways, words_of_conllu, (CONLLU.encode(),)),
        "pipe": Reader("x.txt", factored("pipe"), words_of_factored, (written["pipe"].encode(),)),
        "ffe8": Reader("x.txt", factored("ffe8"), words_of_factored, (written["ffe8"].encode(),)),
        "parallel": Reader("x.both", read_parallel, words_of_parallel, (parallel.encode(),)),
        "jsonl": Reader(
            "x.jsonl",
            lambda p: count(blocks(p, "jsonl", FACTORS)),
            words_of_json,
            (lines.encode(),),
        ),
        "vectors": Reader("x.vec", vectors, words_of_vectors, (words2vec, glove)),
        "vectors.gz": Reader(
            *("x.vec.gz", vectors, lambda data: words_of_vectors(gzip.decompress(data))),
            (gzip.compress(words2vec, mtime=0),),
        ),
        "record": Reader(
            *("result.json", records, points_of_record),
            (json.dumps(asdict(record), indent=1).encode(),),
        ),
        "checkpoint": Reader(f"{INDEX}2.json", checkpoint, None, (index,)),
        "weights": Reader("x.safetensors", tensors, None, (to_safetensors(model_tensors(model)),)),
    }


class Defect(Exception):
    """What a reader must not do."""


class Fuzzer:
    """The readers, with a folder for what they read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.readers = _readers(folder)

    def input(self, name: str, chance: random.Random) -> bytes:
        """A mutated file."""
        return mutate(chance.choice(self.readers[name].seeds), chance)

    def read(self, name: str, data: bytes, block: int = text.BLOCK) -> str | None:
        """Read a file, `block` bytes at a time; why it is refused, if it is."""
        reader, before = self.readers[name], text.BLOCK
        path = self.folder / reader.name
        path.write_bytes(data)
        text.BLOCK = block
        try:
            found = reader.read(path)
        except UserError as error:
            return self._refused(str(error), data)
        except Exception as error:
            raise Defect(f"{type(error).__name__}: {str(error)[:200]}") from error
        finally:
            text.BLOCK = before
        if reader.expected and found != (expected := reader.expected(data)):
            raise Defect(f"{found} were read of {expected}")
        return None

    def _refused(self, message: str, data: bytes) -> str:
        place = re.match(rf"{re.escape(str(self.folder))}(/[\w.-]+)?(:(\d+))?: .", message)
        lines = math.inf if data[:2] == b"\x1f\x8b" else data.count(b"\n") + 1
        if not place or int(place[3] or 1) > lines:
            raise Defect(f"no place in the message: {message[:300]!r}")
        return message


def main() -> int:
    """Try many inputs, and say how many were read and refused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("reader", help="its name, or all")
    parser.add_argument("--inputs", type=int, default=100_000, help="of each reader")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()

    def late(number: int, frame: object) -> None:
        raise Defect("longer than 10 s")

    signal.signal(signal.SIGPROF, late)
    defects = 0
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 2**30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        if given.reader not in ("all", *fuzzer.readers):
            parser.error(f"readers: all, {', '.join(fuzzer.readers)}")
        for name in fuzzer.readers if given.reader == "all" else (given.reader,):
            read, refused, slowest, messages = 0, 0, 0.0, set()
            for number in range(given.inputs):
                chance = random.Random(f"{given.seed} {name} {number}")
                data = fuzzer.input(name, chance)
                block, begun = chance.choice((7, 100, text.BLOCK)), time.process_time()
                block = max(block, len(data) // 100)
                signal.setitimer(signal.ITIMER_PROF, 10)
                try:
                    message = fuzzer.read(name, data, block)
                except Defect as error:
                    kept = Path(f"fuzz-{name}-{given.seed}-{number}")
                    kept.write_bytes(data)
                    print(f"{kept}: {error}", file=sys.stderr)
                    defects += 1
                    continue
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
                slowest = max(slowest, time.process_time() - begun)
                refused += message is not None
                read += message is None
                messages.add(re.sub(r"\d+|'.*'|\".*\"", "", message or "").partition(": ")[2])
            counts = {"inputs": given.inputs, "read": read, "refused": refused}
            counts |= {"kinds of message": len(messages)}
            print(
                json.dumps({"reader": name, **counts, "slowest_s": round(slowest, 3)}), flush=True
            )
    return int(bool(defects))


if __name__ == "__main__":
    sys.exit(main())
