"""Lines of plain or gzipped UTF-8 text, whole or in blocks; sums of files."""

import contextlib
import gzip
import hashlib
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from nmt_feat.base.checksums import hash_file
from nmt_feat.errors import UserError

BLOCK = 1 << 20
"""The number of bytes of text that are read and processed at a time."""
REMEMBER = 1 << 26
"""Results for files of at least so many bytes are stored, and used while a file is unchanged."""


class Block(NamedTuple):
    """Some lines of a file, undecoded."""

    path: str
    data: bytes
    line: int  # the number of its first line
    offset: int  # the position of its first byte in the (decompressed) file

    def lines(self) -> list[str]:
        r"""The lines, split on "\n" only, without "\r" at their ends; bad UTF-8 is an error."""
        try:
            text = self.data.decode()
        except UnicodeDecodeError as error:
            number = self.line + self.data.count(b"\n", 0, error.start)
            raise UserError(
                f"{self.path}:{number}: invalid UTF-8 at byte offset {self.offset + error.start} "
                f"(0x{self.data[error.start]:02x}); convert the file: iconv -f ENCODING -t UTF-8"
            ) from None
        text = text if self.offset else text.removeprefix("\ufeff")
        lines = text.split("\n")
        if "\r" in text:
            lines = [line.rstrip("\r") for line in lines]
        return lines if lines[-1] else lines[:-1]


@contextmanager
def open_decompressed(path: Path | str) -> Iterator[IO[bytes]]:
    """The content of a file as a stream, decompressed where its name ends in `.gz`."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: broken gzip file ({error}); get it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def list_shards(path: Path | str) -> list[Path]:
    """The files of a name with `*`, in the order of the numbers in their names: part-2, part-10.

    A name without `*` is one file, whether it exists or not.
    """
    path = Path(path)
    if "*" not in path.name or path.exists():
        return [path]

    def parts(file: Path) -> list[str | int]:
        return [int(p) if i % 2 else p for i, p in enumerate(re.split("([0-9]+)", file.name))]

    return sorted(sorted(path.parent.glob(path.name)), key=parts)  # part-01 before part-1


def line_end(data: bytes) -> int:
    """The position behind the last complete line; 0 if there is none."""
    return data.rfind(b"\n") + 1


def read_blocks(path: Path | str, end: Callable[[bytes], int] = line_end) -> Iterator[Block]:
    """Read a file, or its shards, in blocks of about `BLOCK` bytes.

    `end` returns where the last complete line or sentence of some bytes ends. As long as there is
    none, each read is twice as long as the one before, so that the time is linear.
    """
    for shard in list_shards(path):
        with open_decompressed(shard) as file:
            rest, line, offset = b"", 1, 0
            while data := file.read(max(BLOCK, len(rest))):
                data = rest + data
                cut = end(data)
                if cut:
                    yield Block(str(shard), data[:cut], line, offset)
                    line += data.count(b"\n", 0, cut)
                    offset += cut
                rest = data[cut:]
            if rest:
                yield Block(str(shard), rest, line, offset)


def read_lines(path: Path | str) -> list[str]:
    r"""The lines of a UTF-8 file, split on "\n" only, without "\r" at their ends.

    A byte-order mark at the start is dropped. Invalid UTF-8 is a `UserError` with the offset of the
    first bad byte in the (decompressed) file.
    """
    with open_decompressed(path) as file:
        return Block(str(path), file.read(), 1, 0).lines()


def hash_content(path: Path | str, content: bool = False) -> str:
    """Hexadecimal SHA-256 of a file; with `content`, of its decompressed content."""
    if not content:
        return hash_file(path)
    with open_decompressed(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def hash_file_cached(path: Path, cache: Path, content: bool = False) -> str:
    """`hash_content`; the results for large files are stored in the folder `cache`."""
    return str(
        compute_cached(path, cache, f"{content}", lambda: hash_content(path, content), "sha256")
    )


def compute_cached(
    path: Path, cache: Path, kind: str, compute: Callable[[], Any], name: str = "value"
) -> Any:
    """Call `compute()`; for a large file, the result is stored in `cache` and used while it holds.

    It holds while the file's size and times of change stay the same. The time of the content can be
    set back, as `tar` and `cp -p` do, but not that of the inode.

    Args:
        path: the file.
        cache: the folder for results.
        kind: what is computed, a part of the key of the result.
        compute: computes it.
        name: the result's name in its file.
    """
    if not path.is_file() or path.stat().st_size < REMEMBER:
        return compute()
    key = hashlib.sha256(f"{path.resolve()} {kind}".encode()).hexdigest()
    memory, before = cache / "sums" / f"{key[:16]}.json", path.stat()
    state = [before.st_size, before.st_mtime_ns, before.st_ctime_ns]
    try:
        content = json.loads(memory.read_bytes())
        if content["state"] == state:
            return content[name]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    value, after = compute(), path.stat()
    if state == [after.st_size, after.st_mtime_ns, after.st_ctime_ns]:  # unchanged meanwhile
        # Another process may write the same result, and the folder may be read-only.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            temporary = memory.with_suffix(".tmp")
            temporary.write_text(json.dumps({"state": state, name: value}))
            os.replace(temporary, memory)
    return value


_LINE_ENDS = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def one_line(text: str) -> str:
    """Replace all line separators by spaces, so that every program reads the text as one line."""
    return _LINE_ENDS.sub(" ", text)


def rank_by_count(counts: Counter[str]) -> list[str]:
    """The values, the most frequent first, equally frequent ones in the order of the alphabet."""
    values = sorted(counts)
    values.sort(key=counts.__getitem__, reverse=True)  # ties keep their order
    return values
