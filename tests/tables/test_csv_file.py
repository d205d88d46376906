"""CSV bytes of any kind: read as they were meant, or refused with the line and a code."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.errors import DataError
from ctscribe.problems import KINDS
from ctscribe.tables.csv_file import MOST_COLUMNS, read_table, write_table

HEADER = "case_id,answer"
SAID = "右肺上叶结节，8mm。"


def file_of(folder: Path, data: bytes) -> Path:
    file = folder / "表.csv"
    file.write_bytes(data)
    return file


def refusal(folder: Path, data: bytes) -> DataError:
    with pytest.raises(DataError) as caught:
        read_table(file_of(folder, data))
    assert "表.csv" in str(caught.value)
    assert caught.value.code in KINDS
    return caught.value


@pytest.mark.parametrize("mark", ["utf-16", "utf-16-be"])
@pytest.mark.parametrize("divider", ["\t", ","])
def test_what_excel_calls_unicode_text(mark: str, divider: str, tmp_path: Path) -> None:
    text = f'{HEADER}\r\nc1,"{SAID}\n第二行"\r\n'.replace(",", divider)
    data = ("\ufeff" + text).encode(mark) if mark == "utf-16-be" else text.encode(mark)
    frame = read_table(file_of(tmp_path, data))
    assert frame.attrs["encoding"] == "utf-16"
    assert frame.to_dict("list") == {"case_id": ["c1"], "answer": [f"{SAID}\n第二行"]}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["utf-8", "utf-8", "gbk"], "line 4 is gbk or gb18030, line 2 is utf-8"),
        (["gbk", "utf-8", "gbk", "gbk"], "line 3 is utf-8, line 2 is gbk or gb18030"),
        (["gb18030", "gbk", "gbk", "utf-8", "utf-8"], "line 5 is utf-8"),
        (["utf-8-sig", "gbk", "utf-8"], "line 3 is gbk"),
    ],
)
def test_mixed_encodings_are_named_by_line(lines: list[str], says: str, tmp_path: Path) -> None:
    data = HEADER.encode()
    if lines[0] == "utf-8-sig":
        data, lines = b"\xef\xbb\xbf" + data, ["utf-8", *lines[1:]]
    for number, encoding in enumerate(lines):
        data += b"\n" + f"c{number},{SAID}".encode(encoding)
    error = refusal(tmp_path, data)
    assert error.code == "encoding-mixed"
    assert says in str(error)


def test_a_mixture_that_gbk_could_read_from_end_to_end(tmp_path: Path) -> None:
    even = "右肺上叶结节"  # of which utf-8 makes an even number of bytes
    data = f"{HEADER}\na,".encode() + even.encode("gbk") + b"\nb," + even.encode()
    assert even not in data.decode("gbk").split("b,")[1]
    assert "line 3 is" in str(refusal(tmp_path, data))


def test_one_broken_character_among_sound_lines_is_named(tmp_path: Path) -> None:
    data = f"{HEADER}\na,{SAID}\nb,{SAID}\nc,".encode() + SAID.encode()[:4] + b"\nd,x"
    error = refusal(tmp_path, data)
    assert error.code == "encoding-mixed"
    assert "line 4 is" in str(error)


def test_a_lone_encoding_is_no_mixture(tmp_path: Path) -> None:
    text = f"{HEADER}\na,plain\nb,{SAID}\nc,Sjögren ±5 “x”\nd,联通\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "gb18030"):
        frame = read_table(file_of(tmp_path, text.encode(encoding)))
        assert list(frame["answer"]) == ["plain", SAID, "Sjögren ±5 “x”", "联通"]


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"", "bad-table", "empty"),
        (b"\n \n", "bad-table", "empty"),
        (b'a,b\n1,"never closed\n2,x\n', "bad-table", "line 2: unexpected end"),
        (b'a,b\n1,"he said "x" ok"\n', "bad-table", "line 2"),
        (b"a,b\n1,2,3\n", "bad-table", "3 cells under 2 names"),
        (b"a,b\n1,\0\n", "unreadable", "zero bytes"),
        ("a,b\n1,右".encode("utf-16-le"), "unreadable", "its encoding is none"),
        ("a,b\n1,2".encode("utf-16") + b"\x00\xd8", "unreadable", "its encoding is none"),
        (b"\xff\xfea\x00,\x00b\x00\n\x001\x00,\x00\x00\x00", "unreadable", "its encoding is none"),
        (b"a," + b"x," * MOST_COLUMNS, "too-large", "columns"),
        (b"a,a\n1,2", "bad-table", "twice"),
        (b"a,,b,\n1,x,2,y", "bad-table", "columns 2, 4 have no name"),
    ],
)
def test_refusals(data: bytes, code: str, says: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, data)
    assert (error.code, says in str(error)) == (code, True), str(error)


def test_long_cells_are_read_and_the_process_keeps_its_limit(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = "右" * (before + 1)
    frame = read_table(file_of(tmp_path, f"a,{long}\n1,{long}".encode()))
    assert frame[long][0] == long
    assert csv.field_size_limit() == before


def test_rows_that_are_short_are_filled_and_blank_lines_left_out(tmp_path: Path) -> None:
    frame = read_table(file_of(tmp_path, b"a,b\r\n\r\n1\r\n2,x\r\n\r\n"))
    assert frame.to_dict("list") == {"a": ["1", "2"], "b": ["", "x"]}


def test_empty_columns_beside_the_table_are_left_out(tmp_path: Path) -> None:
    frame = read_table(file_of(tmp_path, b"a,b,,,\n1,2,,,\n3,4,,x,\n"))
    assert frame.to_dict("list") == {"a": ["1", "3"], "b": ["2", "4"], "": ["", "x"]}


def test_half_a_character_is_written_as_its_number(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": ["x\ud83d"]}, dtype=object)
    write_table(frame, tmp_path / "out.csv")
    assert list(read_table(tmp_path / "out.csv")["a"]) == ["x\\ud83d"]


CELL = st.text(alphabet='右肺,"\n\r;\t 0a\u2028é', max_size=12)


@given(st.lists(st.tuples(CELL, CELL), max_size=6))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    import pandas as pd

    file = tmp_path_factory.mktemp("t") / "t.csv"
    frame = pd.DataFrame(rows, columns=pd.Index(["a", "b"]), dtype=str)
    write_table(frame, file)
    again = read_table(file)
    # The csv format has one line end within cells for us; nothing else may change.
    assert again.to_dict("list") == frame.to_dict("list")


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_mutated_bytes_give_a_table_or_a_typed_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = f'{HEADER}\r\nc1,"{SAID}"\r\nc2,"a ""b"" c\nd"\r\n'
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "gbk", "utf-16"]))
    raw = bytearray(text.encode(encoding))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    file = file_of(tmp_path_factory.mktemp("t"), bytes(raw))
    try:
        cells = read_table(file).to_dict("list")
        code = "bad-table"
    except DataError as error:
        cells, code = {}, error.code
    assert code in KINDS
    assert all(isinstance(cell, str) for column in cells.values() for cell in column)
