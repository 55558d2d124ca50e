from hypothesis import given
from hypothesis import strategies as st

from nerloop.documents import Document, Entity
from nerloop.gazetteer import Term
from nerloop.label_memory import LABEL_MEMORY, remember


def document(text: str, *labelled: tuple[str, str]) -> Document:
    """Return a document in which every occurrence of each surface carries a label."""
    entities = [
        Entity(place, place + len(surface), label)
        for surface, label in labelled
        for place in range(len(text))
        if text.startswith(surface, place)
    ]
    return Document("", text, tuple(sorted(entities)))


def term(label: str, score: float) -> Term:
    return Term(label, score, LABEL_MEMORY)


def test_a_surface_is_kept_from_the_wanted_count_on_with_its_smoothed_precision() -> None:
    once, again = document("服用布洛芬。", ("布洛芬", "DRUG")), document("布洛芬无效", ("布洛芬", "DRUG"))

    assert remember([once], 2, 0.9) == {}
    assert remember([once, again], 2, 0.9) == {"布洛芬": term("DRUG", 0.75)}  # (2 + 1) / (2 + 2)


def test_places_where_it_was_left_unlabelled_count_against_it() -> None:
    labelled = [document("去长安", ("长安", "LOC"))] * 3
    unlabelled = [document("长安汽车涨价")]

    assert remember([*labelled, *unlabelled], 2, 0.9) == {}
    assert remember([*labelled, *unlabelled], 2, 0.75) == {"长安": term("LOC", round(4 / 6, 4))}


def test_places_inside_a_longer_entity_count_neither_way() -> None:
    short = [document("联想涨价", ("联想", "ORG"))] * 2
    long = [document("联想集团涨价", ("联想集团", "ORG"))] * 5

    assert remember([*short, *long], 2, 0.9)["联想"] == term("ORG", 0.75)


def test_a_place_that_only_touches_an_entity_counts_against_it() -> None:
    half = Document("", "服用布洛芬缓释", (Entity(0, 4, "DRUG"),))

    assert "布洛芬" not in remember([*[document("布洛芬", ("布洛芬", "DRUG"))] * 3, half], 2, 0.9)


def test_a_surface_with_several_labels_is_kept_under_one_of_them_if_they_agree_enough() -> None:
    documents = [*[document("在长安", ("长安", "LOC"))] * 9, document("长安公司", ("长安", "ORG"))]

    assert remember(documents, 2, 0.9) == {"长安": term("LOC", round(10 / 12, 4))}
    assert remember(documents, 2, 0.95) == {}


def test_single_characters_and_white_space_are_never_kept() -> None:
    documents = [document("王去了  ", ("王", "PER"), ("  ", "LOC"))] * 5

    assert remember(documents, 1, 0.1) == {}


@given(st.lists(st.text(alphabet="联想a😀\ud83d", min_size=2, max_size=12), max_size=6), st.data())
def test_scores_are_between_0_and_1_and_stricter_rules_keep_fewer(texts: list[str], data: st.DataObject) -> None:
    documents = []
    for text in texts:
        start = data.draw(st.integers(0, len(text) - 1))
        end = data.draw(st.integers(start + 1, len(text)))
        documents.append(Document("", text, (Entity(start, end, data.draw(st.sampled_from(["A", "B"]))),)))

    loose, strict = remember(documents, 1, 0.5), remember(documents, 2, 0.9)

    assert strict.items() <= loose.items()
    assert all(0 < known.score < 1 for known in loose.values())
    assert all(any(surface in text for text in texts) for surface in loose)
