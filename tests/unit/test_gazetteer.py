import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.documents import Entity
from nerloop.errors import BadInput
from nerloop.gazetteer import Gazetteer, Surfaces, Term, read_gazetteer

SAME = {"ORG": "ORG", "LOC": "LOC", "DRUG": "DRUG"}
# Few characters, so that they meet; among them some that other encodings count as two, and half an emoji.
TEXT = st.text(alphabet="联想a1é😀𠮷\r\n \ud83d", max_size=30)
SURFACES = st.sets(st.text(alphabet="联想a1é😀𠮷\r\n \ud83d", min_size=1, max_size=4), max_size=8)


def gazetteer(**terms: str) -> Gazetteer:
    return Gazetteer({surface: Term(label) for surface, label in terms.items()})


def found(known: Gazetteer, text: str) -> list[tuple[str, str]]:
    return [(text[e.start : e.end], e.label) for e in known.matches(text, SAME)]


def overlap(one: Entity, other: Entity) -> bool:
    return one.start < other.end and other.start < one.end


@given(TEXT, SURFACES)
def test_every_occurrence_is_found_where_it_is_in_any_text(text: str, surfaces: set[str]) -> None:
    said = set(Surfaces(surfaces).occurrences(text))

    everywhere = {(m.start(), m.start() + len(s)) for s in surfaces for m in re.finditer(f"(?={re.escape(s)})", text)}
    inside_words = {m.start() for m in re.finditer("(?<=[a-z0-9])(?=[a-z0-9])", text)}
    assert said == {(start, end) for start, end in everywhere if not {start, end} & inside_words}


@given(TEXT, SURFACES)
def test_matches_never_overlap_and_none_could_be_added(text: str, surfaces: set[str]) -> None:
    matches = Gazetteer({surface: Term("ORG") for surface in surfaces}).matches(text, SAME)

    assert matches == sorted(matches)
    assert not any(overlap(one, other) for one in matches for other in matches if one is not other)
    for start, end in Surfaces(surfaces).occurrences(text):
        rivals = [match for match in matches if overlap(match, Entity(start, end, "ORG"))]
        assert rivals and max(match.end - match.start for match in rivals) >= end - start


@given(TEXT, SURFACES, st.data())
def test_the_model_wins_and_keeps_everything(text: str, surfaces: set[str], data: st.DataObject) -> None:
    places = st.integers(0, len(text))
    spans = st.tuples(places, places).filter(lambda span: span[0] < span[1])
    drawn = data.draw(st.sets(spans, max_size=4)) if text else set()
    model = tuple(sorted(Entity(start, end, "PER", 0.5) for start, end in drawn))
    known = Gazetteer({surface: Term("ORG") for surface in surfaces})

    filled = known.fill(text, model, SAME)

    assert [entity for entity in filled if not entity.source] == list(model)
    assert {e for e in filled if e.source} == {
        match for match in known.matches(text, SAME) if not any(overlap(match, entity) for entity in model)
    }


def test_the_longest_match_counts() -> None:
    known = gazetteer(联想="ORG", 联想集团="ORG", 集团="LOC")

    assert found(known, "联想和联想集团") == [("联想", "ORG"), ("联想集团", "ORG")]


def test_of_equally_long_matches_that_overlap_the_first_counts() -> None:
    assert found(gazetteer(上海="LOC", 海市="LOC"), "上海市") == [("上海", "LOC")]


def test_a_latin_word_or_a_number_is_not_cut() -> None:
    known = gazetteer(CT="DRUG", **{"3岁": "LOC"})

    assert found(known, "ACTH和CT检查，13岁、3岁") == [("CT", "DRUG"), ("3岁", "LOC")]


def test_terms_of_labels_that_the_project_lacks_hide_no_other() -> None:
    known = gazetteer(阿司匹林肠溶片="DRUG", 阿司匹林="ORG")

    assert [e.label for e in known.matches("服用阿司匹林肠溶片", {"ORG": "机构"})] == ["机构"]


def test_a_match_carries_the_score_and_the_source_of_its_term() -> None:
    known = Gazetteer({"联想": Term("ORG", 0.75, "label memory"), "阿司匹林": Term("DRUG")})

    assert [(e.score, e.source) for e in known.matches("联想、阿司匹林", SAME)] == [
        (0.75, "label memory"),
        (None, "gazetteer"),
    ]


@given(TEXT, SURFACES, SURFACES)
def test_two_gazetteers_together_match_as_one_with_the_terms_of_both(
    text: str, first: set[str], second: set[str]
) -> None:
    one = {surface: Term("ORG") for surface in first}
    other = {surface: Term("LOC", 0.5) for surface in second}

    joined = Gazetteer(one) | Gazetteer(other)

    assert joined.matches(text, SAME) == Gazetteer(one | other).matches(text, SAME)
    assert joined.labels == {term.label for term in (one | other).values()} | ({"ORG"} if first else set())


def test_a_gazetteer_without_terms_finds_nothing() -> None:
    assert Gazetteer().fill("联想", (Entity(0, 2, "ORG"),), {}) == (Entity(0, 2, "ORG"),)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "medical.tsv"
    path.write_bytes("\ufeff# 药品\r\n阿司匹林\tDRUG\r\n\r\n华西 医院\tORG\n阿司匹林\tDRUG\n".encode())

    assert read_gazetteer(path) == {"阿司匹林": Term("DRUG"), "华西 医院": Term("ORG")}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("阿司匹林 DRUG", "line 2: '阿司匹林 DRUG' is not a term, a tab and its label"),
        ("\tDRUG", "line 2: '\\tDRUG' is not a term, a tab and its label"),
        ("阿司匹林\t", "line 2: the label is empty"),
        ("布洛芬\tORG", "line 2: the term '布洛芬' has another label above, DRUG"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "medical.tsv"
    path.write_text(f"布洛芬\tDRUG\n{row}\n", encoding="utf-8")

    with pytest.raises(BadInput, match=re.escape(f"{path}, {message}")):
        read_gazetteer(path)


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "medical.tsv"
    path.write_bytes("布洛芬\tDRUG\n".encode("gb18030"))

    with pytest.raises(BadInput, match=r"medical\.tsv: not UTF-8"):
        read_gazetteer(path)
