"""Files are written whole or not at all; what people read has no terminal escapes."""

from __future__ import annotations

import gzip
import io
import os
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from nmt_feat.analysis.render import ReportTable, print_table
from nmt_feat.base.outputs import check_output, refuse_inputs, write_to
from nmt_feat.base.terminal import TextConsole, TextTable, literal, say, use_utf8
from nmt_feat.errors import UserError, escape_controls, fail

HOSTILE = "[/b] :dog: \x1b[31m \x9b \u202e \udcff"
SHOWN = "[/b] :dog: \\x1b[31m \\x9b \\u202e \\udcff"


def test_a_file_is_replaced_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before", encoding="utf-8")
    path.chmod(0o640)

    def stopped() -> None:
        with write_to(path) as file:
            file.write("a part")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stopped()
    assert path.read_text(encoding="utf-8") == "before"
    with write_to(path) as file:
        file.write("über\n")
        file.flush()
        assert path.read_text(encoding="utf-8") == "before"
    assert path.read_bytes() == "über\n".encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (link := tmp_path / "link").symlink_to(target := tmp_path / "folder" / "file")
    with write_to(link) as file:
        file.write("text")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "text"


def test_long_names(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 127)
    with write_to(path) as file:
        file.write("text")
    assert path.read_text(encoding="utf-8") == "text"


def test_gzip_by_name_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        with write_to(tmp_path / name) as file:
            file.write("text\n")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"text\n"


def test_devices_and_pipes_are_written_to(tmp_path: Path) -> None:
    check_output("/dev/null", "output=", ["/dev/null"])
    with write_to("/dev/null") as file:
        file.write("text")
    assert not Path("/dev/null").is_file()
    os.mkfifo(pipe := tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    with write_to(pipe) as file:
        file.write("text")
    reader.join()
    assert got == [b"text"]
    assert pipe.is_fifo()


def test_a_standard_stream_that_is_the_other_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text"
    path.write_text("a\n", encoding="utf-8")
    with path.open(encoding="utf-8") as stdin, path.open("a", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(UserError, match="is the standard input, which the command reads"):
            refuse_inputs(path, "output=", ["-", None])
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(UserError, match=r"output=-: is .*text, which the command reads"):
            refuse_inputs("-", "output=", [path])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such", "output=no/such: No such file or directory"),
        ("file/x", "output=file/x: Not a directory"),
        (".", "output=.: is a folder; give a file"),
    ],
)
def test_refused_before_the_work(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(UserError) as error:
        check_output(name, "output=", [])
    assert str(error.value) == message


# ---- for people


def test_escape_controls() -> None:
    assert escape_controls(HOSTILE) == SHOWN
    assert (
        escape_controls("Ärger\t한국어 ‌\n") == "Ärger\t한국어 ‌\n"
    )  # tab, line end, a joiner of Persian


def test_consoles_and_tables_show_what_is_there() -> None:
    out = io.StringIO()
    console = TextConsole(file=out, width=200)
    console.print(HOSTILE)
    table = TextTable(HOSTILE, title=literal(HOSTILE))
    table.add_row(HOSTILE)
    console.print(table)
    assert out.getvalue().count(SHOWN) == 4
    assert "\x1b" not in out.getvalue()


def test_a_report_on_any_console() -> None:
    out = io.StringIO()
    block = ReportTable(HOSTILE, [HOSTILE], [[HOSTILE]], [HOSTILE])
    print_table(block, Console(file=out, width=200))
    assert out.getvalue().count(SHOWN) == 4


def test_messages(capsys: pytest.CaptureFixture[str]) -> None:
    say("a", HOSTILE)
    with pytest.raises(SystemExit):
        fail(f"{HOSTILE}\u2028b")
    assert capsys.readouterr() == (f"a {SHOWN}\n", f"error: {SHOWN} b\n")


def test_a_person_at_a_terminal_sees_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is piped stays exact."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, content in ((Terminal(), "\\x1b[0m ü\n"), (io.StringIO(), "\x1b[0m ü\n")):
        monkeypatch.setattr(sys, "stdout", stream)
        with write_to("-") as file:
            file.write("\x1b[0m ü\n")
            file.flush()
        assert stream.getvalue() == content


def test_utf8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, "ascii"))
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    use_utf8()
    say("über ┃")
    print("\udcff")  # of a file's name
    sys.stdout.flush()
    assert data.getvalue().decode() == "über ┃\n\\udcff\n"
    assert os.environ["PYTHONIOENCODING"].startswith("utf-8")  # of processes that are started
