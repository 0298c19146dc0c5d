"""Feed mutated files to the readers: each is read whole, or refused in one line that names it.

    python tools/fuzz.py all --inputs 100000 --seed 1

The readers: CoNLL-U, factored text, token-parallel files, JSON lines, word vectors, records of
runs, checkpoints and weights. A defect is any exception but `UserError`, more than 10 s of CPU or
1 GiB for an input, a message of several lines or about another file, and a number of sentences or
words that differs from a simple count of the file's lines. After one, the exit code is 1, and the
input is in the current folder.
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
from nmt_feat.errors import UserError
from nmt_feat.evaluation.combiner_diagnostics import Parts
from nmt_feat.evaluation.scores import Scores
from nmt_feat.runs.stored.records import CurvePoint, RunRecord, read_record
from nmt_feat.text import files as text
from nmt_feat.text import formats
from nmt_feat.text.conllu import Sentence, parse_conllu, read_conllu, sentence_end
from nmt_feat.text.conllu_blocks import parse_block
from nmt_feat.text.factored import SEPARATORS, parse_parallel, write_factored, write_parallel
from nmt_feat.text.json_lines import write_jsonl
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
        begin = chance.randint(0, len(data))
        end = min(len(data), begin + chance.choice((1, 1, 2, 5, 20, 200)))
        part = data[begin:end]
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
                source = chance.randint(0, len(data))
                part = data[source : source + len(part)]
            case 7:
                drops_rest = chance.random() < 0.2
                end = len(data) if drops_rest else begin
        data = data[:begin] + part + data[end:]
    return data


Counts = tuple[int, ...]


def count_words(sentences: Iterable[Sentence]) -> Counts:
    """The numbers of sentences and words, after checking that storing does not change them."""
    originals = list(sentences)
    stored = Sentences.read(pa.Table.from_batches([Sentences.of(originals).table()]))
    for column in ("upos", "feats", "feats.Case", "misc.NER"):
        read_column(stored, column)
    for sentence, copy in zip(originals, stored, strict=True):
        assert sentence.text == copy.text
        assert [w.form for w in sentence.words] == [w.form for w in copy.words]
    return len(originals), sum(len(sentence.words) for sentence in originals)


def lines_of(data: bytes) -> list[str]:
    """The lines of a file; the last one counts only if it has more than `\\r`."""
    lines = data.decode().removeprefix("\ufeff").split("\n")
    if not lines[-1].strip("\r"):
        del lines[-1]
    return [line.rstrip("\r") for line in lines]


def read_by_blocks(path: Path, kind: str, factors: tuple[str, ...]) -> Iterable[Sentence]:
    """The sentences of a file, read block by block, like a corpus."""
    for block in text.read_blocks(path):
        yield from formats.parse_lines(block.lines(), str(path), kind, factors, block.line)


def read_both_ways(path: Path) -> Counts:
    """A file of CoNLL-U word by word; reading it in columns has to give the same, errors too."""
    for block in text.read_blocks(path, sentence_end):
        lines, results = block.lines(), list[pa.RecordBatch | str]()
        for columns in (False, True):
            try:
                if columns:
                    sentences = parse_block(lines, str(path), block.line, (*ANNOTATION, HEAD))
                else:
                    sentences = Sentences.of(parse_conllu(lines, str(path), block.line))
                results.append(sentences.table())
            except UserError as error:
                results.append(str(error))
        assert results[0] == results[1], results
    return count_words(read_conllu(path))


def words_of_conllu(data: bytes) -> Counts:
    """The expected counts of CoNLL-U: ids that are numbers, a range counts as one."""
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
    """The expected counts of factored text: lines, and words between spaces."""
    lines = lines_of(data)
    return len(lines), sum(len(line.split()) for line in lines)


def words_of_json(data: bytes) -> Counts:
    """The expected counts of JSON lines: lines, and forms or words between spaces."""
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
    """A file with words and, after a line of `==`, the values of a factor, read as two files."""
    words, _, values = path.read_bytes().partition(b"==\n")
    paths = path.with_suffix(".tok"), path.with_suffix(".tok.upos")
    for part_path, data in zip(paths, (words, values), strict=True):
        part_path.write_bytes(data)
    word_lines, value_lines = map(text.read_lines, paths)
    factors = {"upos": (str(paths[1]), value_lines)}
    return count_words(parse_parallel(word_lines, str(paths[0]), factors))


def words_of_parallel(data: bytes) -> Counts:
    """The expected counts of parallel files; those of both parts if they differ."""
    words, _, values = data.partition(b"==\n")
    word_counts, value_counts = words_of_factored(words), words_of_factored(values)
    return word_counts if word_counts == value_counts else (*word_counts, *value_counts)


def read_vector_file(path: Path) -> Counts:
    """Words of a file of vectors, and numbers."""
    words, numbers = read_vectors(path)
    "".join(words).encode()  # raises if one is not text
    return len(words), int(numbers.size)


def words_of_vectors(data: bytes) -> Counts:
    """The expected counts of vectors: lines without a heading of two numbers, and all numbers."""
    lines = data.decode().removeprefix("\ufeff").split("\n")
    lines = [line.rstrip("\r ") for line in (lines if lines[-1] else lines[:-1])]
    if re.fullmatch(r"\d+ \d+", lines[0]):
        return len(lines) - 1, (len(lines) - 1) * int(lines[0].split(" ")[1])
    return len(lines), len(lines) * (len(lines[0].split(" ")) - 1)


def read_run_record(path: Path) -> Counts:
    """Points of the curve and test sets of a record, which can be written again."""
    record = read_record(path)
    json.dumps(asdict(record), ensure_ascii=False).encode()  # raises if it cannot be written
    return len(record.curve), len(record.tests)


def points_of_record(data: bytes) -> Counts:
    """The expected counts of a record."""
    content = json.loads(data)
    return len(content.get("curve", ())), len(content.get("tests", ()))


def read_checkpoint(path: Path) -> Counts:
    """A checkpoint beside whole weights and state; its checksum is made right, if it has one."""
    folder = path.parent
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and content.pop("sum", None) is not None:
            path.write_text(json.dumps({"sum": hash_json(content), **content}))
    except (ValueError, RecursionError):
        pass
    checkpoints = Checkpoints(folder, 1)
    checkpoints.read_state()
    for selection in ("best", "average"):
        checkpoints.select_weights(selection)
    return (checkpoints.step,)


def read_weights(path: Path) -> Counts:
    """Weights, which a small model has to accept."""
    weights = read_tensors(path)
    restore_weights(nn.Linear(3, 2), weights, str(path))
    return (len(weights),)


class Reader(NamedTuple):
    """A reader of files, and a simple count to compare its result with."""

    name: str
    """Name of the file."""
    read: Callable[[Path], Counts]
    expected: Callable[[bytes], Counts] | None
    seeds: tuple[bytes, ...]
    """Contents to be mutated."""


def _readers(folder: Path) -> dict[str, Reader]:
    sentences = list(parse_conllu(CONLLU.split("\n"), "seed"))
    spaceless = [s for s in sentences if not any(" " in w.form for w in s.words)]
    factors = ["upos", "feats.Case"]
    written = {
        kind: "".join(f"{x}\n" for x in write_factored(spaceless, "x", factors, kind))
        for kind in SEPARATORS
    }
    sides = zip(*write_parallel(spaceless, "x", ["upos"]), strict=True)
    parallel = "==\n".join("".join(f"{line}\n" for line in side) for side in sides)
    lines = "".join(f"{line}\n" for line in write_jsonl(sentences))
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
    tensors = {"generator.0.cpu": torch.get_rng_state()[:8]}
    state = TrainingState(step=2, best_step=2, curve=[{"step": 2, "bleu": 1.0}])
    whole.save(model, tensors, state)
    index = (folder / f"{INDEX}2.json").read_bytes()

    def factored(kind: str) -> Callable[[Path], Counts]:
        return lambda path: count_words(read_by_blocks(path, kind, tuple(factors)))

    return {
        "conllu": Reader("x.conllu", read_both_ways, words_of_conllu, (CONLLU.encode(),)),
        "pipe": Reader("x.txt", factored("pipe"), words_of_factored, (written["pipe"].encode(),)),
        "ffe8": Reader("x.txt", factored("ffe8"), words_of_factored, (written["ffe8"].encode(),)),
        "parallel": Reader("x.both", read_parallel, words_of_parallel, (parallel.encode(),)),
        "jsonl": Reader(
            "x.jsonl",
            lambda path: count_words(read_by_blocks(path, "jsonl", FACTORS)),
            words_of_json,
            (lines.encode(),),
        ),
        "vectors": Reader("x.vec", read_vector_file, words_of_vectors, (words2vec, glove)),
        "vectors.gz": Reader(
            *("x.vec.gz", read_vector_file, lambda data: words_of_vectors(gzip.decompress(data))),
            (gzip.compress(words2vec, mtime=0),),
        ),
        "record": Reader(
            *("result.json", read_run_record, points_of_record),
            (json.dumps(asdict(record), indent=1).encode(),),
        ),
        "checkpoint": Reader(f"{INDEX}2.json", read_checkpoint, None, (index,)),
        "weights": Reader(
            "x.safetensors", read_weights, None, (to_safetensors(model_tensors(model)),)
        ),
    }


class Defect(Exception):
    """A reader does something that it must not do."""


class Fuzzer:
    """The readers, with a folder for their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.readers = _readers(folder)

    def input(self, name: str, chance: random.Random) -> bytes:
        """A mutated file."""
        return mutate(chance.choice(self.readers[name].seeds), chance)

    def read(self, name: str, data: bytes, block: int = text.BLOCK) -> str | None:
        """Read a file, `block` bytes at a time; the message if it is refused."""
        reader, before = self.readers[name], text.BLOCK
        path = self.folder / reader.name
        path.write_bytes(data)
        text.BLOCK = block
        try:
            counts = reader.read(path)
        except UserError as error:
            return self._refused(str(error), data)
        except Exception as error:
            raise Defect(f"{type(error).__name__}: {str(error)[:200]}") from error
        finally:
            text.BLOCK = before
        if reader.expected and counts != (expected := reader.expected(data)):
            raise Defect(f"{counts} were read of {expected}")
        return None

    def _refused(self, message: str, data: bytes) -> str:
        """The message, after checking that it names the file and a line that exists."""
        location = re.match(rf"{re.escape(str(self.folder))}(/[\w.-]+)?(:(\d+))?: .", message)
        lines = math.inf if data[:2] == b"\x1f\x8b" else data.count(b"\n") + 1
        if not location or int(location[3] or 1) > lines:
            raise Defect(f"no file and line in the message: {message[:300]!r}")
        return message


def fuzz_reader(fuzzer: Fuzzer, name: str, inputs: int, seed: int) -> int:
    """Try many inputs of a reader, print the numbers; how many show a defect."""
    read, refused, defects, slowest, messages = 0, 0, 0, 0.0, set()
    for number in range(inputs):
        chance = random.Random(f"{seed} {name} {number}")
        data = fuzzer.input(name, chance)
        block, start = chance.choice((7, 100, text.BLOCK)), time.process_time()
        block = max(block, len(data) // 100)
        signal.setitimer(signal.ITIMER_PROF, 10)
        try:
            message = fuzzer.read(name, data, block)
        except Defect as error:
            path = Path(f"fuzz-{name}-{seed}-{number}")
            path.write_bytes(data)
            print(f"{path}: {error}", file=sys.stderr)
            defects += 1
            continue
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, time.process_time() - start)
        refused += message is not None
        read += message is None
        messages.add(re.sub(r"\d+|'.*'|\".*\"", "", message or "").partition(": ")[2])
    counts = {"inputs": inputs, "read": read, "refused": refused}
    counts |= {"kinds of message": len(messages)}
    print(json.dumps({"reader": name, **counts, "slowest_s": round(slowest, 3)}), flush=True)
    return defects


def limit_process() -> None:
    """Make 10 s of CPU for an input a `Defect`, and 1 GiB more memory than now an error."""

    def raise_late(number: int, frame: object) -> None:
        raise Defect("longer than 10 s")

    signal.signal(signal.SIGPROF, raise_late)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> int:
    """Try many inputs, and say how many were read and refused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("reader", help="its name, or all")
    parser.add_argument("--inputs", type=int, default=100_000, help="of each reader")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder))
        limit_process()
        if options.reader not in ("all", *fuzzer.readers):
            parser.error(f"readers: all, {', '.join(fuzzer.readers)}")
        names = list(fuzzer.readers) if options.reader == "all" else [options.reader]
        defects = [fuzz_reader(fuzzer, name, options.inputs, options.seed) for name in names]
    return int(any(defects))


if __name__ == "__main__":
    sys.exit(main())
