"""Lines of plain or gzipped UTF-8 text."""

import gzip
import hashlib
import zlib
from collections import Counter
from pathlib import Path

from nmt_feat.errors import UserError


def read_bytes(path: Path | str) -> bytes:
    """The content of a file, decompressed where its name ends in `.gz`."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file")
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: broken gzip file ({error}); get it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def read_lines(path: Path | str) -> list[str]:
    r"""The lines of a UTF-8 file, split on "\n" only, without "\r" at their ends.

    A byte-order mark at the start is no part of the text. Invalid UTF-8 is a `UserError` with the
    offset of the first bad byte in the (decompressed) file.
    """
    data = read_bytes(path)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{number}: invalid UTF-8 at byte offset {error.start} "
            f"(0x{data[error.start]:02x}); convert the file: iconv -f ENCODING -t UTF-8"
        ) from None
    lines = [line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n")]
    return lines if lines[-1] else lines[:-1]


def sha256(path: Path | str, content: bool = False) -> str:
    """Hexadecimal SHA-256 of a file; of what is in it, decompressed, where `content`."""
    data = read_bytes(path) if content else Path(path).read_bytes()
    return hashlib.sha256(data).hexdigest()


def ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Values and their counts, the most frequent first, ties by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
