"""The replay's files: read as they are, and what is wrong with them named."""

from pathlib import Path

import pytest

from cli.replaying.errors import ReplayError
from cli.replaying.traces import Arrival, Outcome, read_arrivals, read_outcomes

ARRIVALS = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
OUTCOMES = "promptTokens,aTokens,aCorrect,bTokens,bCorrect\n"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "file.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_arrivals_count_from_the_first_in_the_order_of_time(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        ARRIVALS
        + "2023-11-16 18:15:50.9951690,396,109\r\n2023-11-16 18:15:46.6805900,374,44\r\n"
        + "2023-11-16 18:16:46.68059, 1 ,0\n",
    )
    assert read_arrivals(path) == [
        Arrival(0.0, 374, 44),
        Arrival(4.314579, 396, 109),
        Arrival(60.0, 1, 0),
    ]


def test_arrivals_with_zones_and_a_byte_order_mark(tmp_path: Path) -> None:
    rows = "2024-05-10 00:00:00.009930+00:00,1,2\n2024-05-10T02:00:01.009930+02:00,3,4\n"
    path = write(tmp_path, b"\xef\xbb\xbf" + (ARRIVALS + rows).encode())
    assert [arrival.at for arrival in read_arrivals(path)] == [0.0, 1.0]


def test_outcomes_are_taken_by_name_in_the_models_order(tmp_path: Path) -> None:
    path = write(tmp_path, OUTCOMES.replace("promptTokens", "promptTokens,extra") + "70,x,58,1,66,0\n")
    assert read_outcomes(path, ("b", "a")) == [Outcome(70, (66, 58), (False, True))]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "line 1: no column TIMESTAMP, ContextTokens, GeneratedTokens; it has nothing"),
        ("TIMESTAMP,ContextTokens\n", "line 1: no column GeneratedTokens; it has TIMESTAMP, ContextTokens"),
        (ARRIVALS, "no rows below the header"),
        (ARRIVALS + "2023-11-16 18:15:46,1,2\nsoon,1,2\n", "line 3, column TIMESTAMP: 'soon' is no ISO 8601"),
        (ARRIVALS + "2023-11-16 18:15:46,1.5,2\n", "line 2, column ContextTokens: '1.5' is no whole number"),
        (ARRIVALS + "2023-11-16 18:15:46,1\n", "line 2, column GeneratedTokens: '' is no whole number"),
        (ARRIVALS + "2023-11-16 18:15:46,1,-2\n", "line 2, column GeneratedTokens: '-2' is not within 0.."),
        (ARRIVALS + "2023-11-16 18:15:46,1,2\n", "all requests come at one time"),
        (ARRIVALS + "2023-11-16 18:15:46,1,2\n2023-11-16 18:15:47Z,1,2\n", "some times have a zone"),
        (ARRIVALS + '"2023', "not CSV"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_faulty_arrivals(content: str | bytes, fault: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ReplayError) as raised:
        read_arrivals(path)
    assert str(raised.value).startswith(str(path))
    assert fault in str(raised.value)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("promptTokens,aTokens,aCorrect\n1,1,1\n", "no column bTokens, bCorrect"),
        (OUTCOMES + "1,0,1,1,1\n", "column aTokens: '0' is not within 1.."),
        (OUTCOMES + "1,1,1,1,2\n", "column bCorrect: '2' is not within 0..1"),
        (OUTCOMES + "1,1,yes,1,1\n", "column aCorrect: 'yes' is no whole number"),
    ],
)
def test_faulty_outcomes(content: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=fault):
        read_outcomes(write(tmp_path, content), ("a", "b"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="No such file"):
        read_arrivals(tmp_path / "none.csv")
    with pytest.raises(ReplayError, match="directory"):
        read_arrivals(tmp_path)
