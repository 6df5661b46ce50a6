"""Rows of text files with separated fields."""

import pytest

from bg_ingest.domain.files.text import read_rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_encoding_gives_the_same_fields(encoding: str) -> None:
    assert read_rows("Index;Gerät\n1; ä \n".encode(encoding)) == [["Index", "Gerät"], ["1", "ä"], []]


def test_a_quote_that_is_never_closed_damages_its_own_line() -> None:
    assert read_rows(b'a,b\n1,"2\n3,4')[2] == ["3", "4"]


def test_a_line_that_is_quoted_as_a_whole_is_split() -> None:
    assert read_rows(b'a,b\n"1,""x"""\n')[1] == ["1", "x"]


def test_a_field_beyond_the_limit_of_the_parser_damages_its_own_line() -> None:
    long = b"x" * 200_000
    assert [len(row) for row in read_rows(b'a,b\n"%s",2\n3,4\n' % long)] == [2, 2, 2, 0]


def test_characters_that_python_takes_for_line_ends_do_not_split_a_row() -> None:
    assert len(read_rows("a,b\n1,x\u2028y\x0bz\x85\n".encode())) == 3


def test_a_file_cut_inside_a_character_is_read() -> None:
    assert read_rows("a,b\n1,2".encode("utf-16")[:-1])[0] == ["a", "b"]


def test_single_nulls_are_part_of_a_field() -> None:
    assert read_rows(b"a,b,c,d,e,f\n1,\0,3,4,5,6\n7,8,9,10,11,12\n")[2] == ["7", "8", "9", "10", "11", "12"]
