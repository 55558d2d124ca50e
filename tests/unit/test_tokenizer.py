import itertools
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nerloop.errors import BadInput
from nerloop.tokenizer import VOCABULARY, CharacterVocabulary, SubwordTokenizer, Tokens

# Any code point, lone surrogates and control characters too; the second half makes known characters likely.
any_text = st.text(
    st.one_of(
        st.characters(codec=None),
        st.sampled_from("张三北京市helo12 ab，。\t\n\u3000\x00\u200d\u0301\ufeff😀👨𠮷㍿ﷺ한Ａ１½İ\ud83d\udc4d"),
    ),
    max_size=30,
)
KINDS = ("bert", "xlm-roberta")


@pytest.fixture(scope="module")
def folders(bert_folder, xlm_roberta_folder):
    return {"bert": bert_folder, "xlm-roberta": xlm_roberta_folder}


@pytest.fixture(scope="module")
def by_word(folders):
    return {kind: SubwordTokenizer.read(folders[kind], kind, split_into_characters=False) for kind in KINDS}


@pytest.fixture(scope="module")
def by_character(by_word):
    return {
        "characters": CharacterVocabulary({"OOV": 0, "张": 1, "三": 2}),
        **{kind: tokenizer.as_characters for kind, tokenizer in by_word.items()},
    }


def words(tokenizer, text):
    return [text[start:end] for start, end in tokenizer.tokenize(text).spans]


def fits(tokens):
    """Tell whether each unit has at least one id, and the first unit the first one."""
    heads = [*tokens.heads, len(tokens.ids)]
    return heads[0] == 0 and all(one < other for one, other in itertools.pairwise(heads))


def test_a_known_character_has_its_row_and_an_unknown_one_that_of_the_unknown():
    tokens = CharacterVocabulary({"OOV": 5, "张": 1, "三": 2}).tokenize("张丰三😀")

    assert list(tokens.ids) == [1, 5, 2, 5]


@given(any_text)
def test_a_character_is_a_unit_whatever_it_is(by_character, text):
    for tokenizer in by_character.values():
        tokens = tokenizer.tokenize(text)

        assert list(tokens.spans) == [(place, place + 1) for place in range(len(text))]
        assert len(tokens.heads) == len(text)
        assert fits(tokens)


@given(any_text, any_text)
def test_a_character_is_read_the_same_whatever_stands_beside_it(by_character, before, after):
    for tokenizer in by_character.values():
        parts = [*tokenizer.tokenize(before).ids, *tokenizer.tokenize(after).ids]

        assert list(tokenizer.tokenize(before + after).ids) == parts


@given(any_text)
@example("ﷺ a")
def test_words_stand_in_order_inside_the_text(by_word, text):
    for tokenizer in by_word.values():
        tokens = tokenizer.tokenize(text)

        assert fits(tokens)
        assert len(tokens.spans) == len(tokens.heads)
        assert all(0 <= start < end <= len(text) for start, end in tokens.spans)
        # One character may be written as several words (ﷺ); then all of them stand on it.
        assert all(a[1] <= b[0] or a == b for a, b in itertools.pairwise(tokens.spans))


@given(st.lists(st.tuples(st.sampled_from(["hello", "ab", "12", "x"]), st.sampled_from([" ", "  ", "\n", "\u3000"]))))
def test_the_words_of_a_text_are_found_where_they_stand(by_word, parts):
    text = "".join(f"{space}{word}" for word, space in parts)

    for tokenizer in by_word.values():
        assert words(tokenizer, text) == [word for word, _ in parts]


@given(any_text)
def test_chinese_characters_are_words_for_bert_wherever_they_stand(by_word, text):
    spans = list(by_word["bert"].tokenize(f"{text}张三").spans)

    assert spans[-2:] == [(len(text), len(text) + 1), (len(text) + 1, len(text) + 2)]


def test_a_word_of_several_pieces_is_one_unit_and_its_first_piece_speaks_for_it(by_word):
    tokens = by_word["bert"].tokenize("ab, 北京")  # a ##b , 北 京

    assert list(tokens.spans) == [(0, 2), (2, 3), (4, 5), (5, 6)]
    assert list(tokens.heads) == [0, 2, 3, 4]
    assert len(tokens.ids) == 5


def test_names_of_special_tokens_in_a_text_shift_nothing(by_word):
    assert words(by_word["bert"], "ab [SEP] hello[MASK] 张") == ["ab", "[SEP]", "hello", "[MASK]", "张"]
    assert words(by_word["xlm-roberta"], "ab <mask> hello </s> x") == ["ab", "<mask>", "hello", "</s>", "x"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", " ", " \t\u3000\n", "\u200b"])
def test_what_holds_no_word_has_characters_all_the_same(by_word, kind, text):
    assert len(by_word[kind].as_characters.tokenize(text).heads) == len(text)
    assert words(by_word[kind], text) == []


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_known_and_not_among_the_ids_of_a_text(by_word, kind):
    tokenizer = by_word[kind]

    special = {tokenizer.begin, tokenizer.end, tokenizer.padding}

    assert len(special) == 3
    for each in (tokenizer, tokenizer.as_characters):
        assert not special & set(each.tokenize("张三在 hello 北京市。😀").ids)


@pytest.mark.parametrize("kind", KINDS)
def test_reading_a_character_at_a_time_leaves_the_first_tokenizer_as_it_was(by_word, kind):
    text = "ab hello"

    by_character = by_word[kind].as_characters

    assert by_character.split_into_characters
    assert not by_word[kind].split_into_characters
    assert words(by_character, text) == list(text)
    assert words(by_word[kind], text) == ["ab", "hello"]
    assert by_word[kind].as_characters is by_character
    assert words(by_character.as_characters, text) == list(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_is_not_cut_short(by_word, kind):
    text = "hello " * 2000

    assert len(by_word[kind].tokenize(text).heads) == 2000
    assert len(by_word[kind].as_characters.tokenize(text).heads) == len(text)


def test_what_a_published_tokenizer_says_of_truncation_and_padding_is_not_heeded(folders, tmp_path):
    from transformers import BertTokenizerFast

    inner = BertTokenizerFast.from_pretrained(folders["bert"]).backend_tokenizer
    inner.enable_truncation(5)
    inner.enable_padding(length=20)
    inner.save(str(tmp_path / "tokenizer.json"))

    tokenizer = SubwordTokenizer.read(tmp_path, "bert", split_into_characters=False)

    assert words(tokenizer, "hello " * 9) == ["hello"] * 9
    assert words(tokenizer, "北京") == ["北", "京"]
    assert len(tokenizer.as_characters.tokenize("北京").ids) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_a_tokenizer(folders, kind):
    texts = [f"{'张三在北京 hello' * (n % 7)} {chr(0x4E00 + n)}{n}" for n in range(200)]
    shared, own = (SubwordTokenizer.read(folders[kind], kind, split_into_characters=False) for _ in range(2))

    with ThreadPoolExecutor(8) as pool:
        for each, alone in ((shared, own), (shared.as_characters, own.as_characters)):
            assert list(pool.map(each.tokenize, texts)) == [alone.tokenize(text) for text in texts]


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_of_a_tokenizer_read_texts_the_same_elsewhere(by_word, kind, tmp_path):
    for name, content in by_word[kind].files.items():
        (tmp_path / name).write_bytes(content)

    again = SubwordTokenizer.read(tmp_path, kind, split_into_characters=False)

    text = "张三在 hello 北京市。😀ab12"
    assert again.tokenize(text) == by_word[kind].tokenize(text)
    assert again.as_characters.tokenize(text) == by_word[kind].as_characters.tokenize(text)
    assert again.files == by_word[kind].files


def test_the_file_of_a_character_vocabulary_holds_its_rows():
    rows = {"OOV": 0, "张": 1, "😀": 2}

    assert json.loads(CharacterVocabulary(rows).files[VOCABULARY]) == rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_without_a_vocabulary_is_bad_input_that_names_the_file(tmp_path, kind):
    with pytest.raises(BadInput, match=r"vocab\.txt" if kind == "bert" else r"sentencepiece\.bpe\.model"):
        SubwordTokenizer.read(tmp_path, kind, split_into_characters=True)


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("bert", "vocab.txt", b""),
        ("bert", "vocab.txt", b"[PAD]\n[CLS]\n[SEP]\n[MASK]"),
        ("bert", "vocab.txt", b"\xff\xfe"),
        ("bert", "tokenizer.json", b"{}"),
        ("bert", "tokenizer.json", b"\x00"),
        ("bert", "tokenizer_config.json", b"[]"),
        ("xlm-roberta", "tokenizer.json", b"{}"),
        ("xlm-roberta", "sentencepiece.bpe.model", b""),
        ("xlm-roberta", "sentencepiece.bpe.model", b"\x00 not a model"),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_bad_input_that_names_the_directory(folders, tmp_path, kind, name, content):
    shutil.copytree(folders[kind], tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_bytes(content)

    with pytest.raises(BadInput, match=str(tmp_path)):
        SubwordTokenizer.read(tmp_path, kind, split_into_characters=True)


def test_code_a_directory_names_is_not_run(bert_folder, tmp_path):
    shutil.copytree(bert_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}')
    (tmp_path / "evil.py").write_text("raise SystemExit")

    tokenizer = SubwordTokenizer.read(tmp_path, "bert", split_into_characters=True)

    assert len(tokenizer.tokenize("北京").ids) == 2


@st.composite
def read_texts(draw):
    """Tokens of units of one to four ids."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=20))
    heads = [0, *itertools.accumulate(sizes[:-1])]
    return Tokens(range(100, 100 + sum(sizes)), heads, [(place, place + 1) for place in range(len(sizes))])


@given(read_texts(), st.data())
def test_a_cut_holds_its_units_and_all_their_ids(tokens, data):
    start = data.draw(st.integers(0, len(tokens.heads) - 1))
    end = data.draw(st.integers(start + 1, len(tokens.heads)))

    cut = tokens.cut(start, end, limit=1000)

    assert fits(cut)
    assert list(cut.spans) == list(tokens.spans[start:end])
    ends = [*tokens.heads, len(tokens.ids)]
    assert list(cut.ids) == list(tokens.ids[ends[start] : ends[end]])
    assert [cut.ids[head] for head in cut.heads] == [tokens.ids[head] for head in tokens.heads[start:end]]


@given(read_texts(), st.integers(1, 3))
def test_a_unit_longer_than_an_encoder_reads_is_cut_to_its_limit(tokens, limit):
    for unit in range(len(tokens.heads)):
        cut = tokens.cut(unit, unit + 1, limit)

        assert 1 <= len(cut.ids) <= limit
        assert cut.ids[0] == tokens.ids[tokens.heads[unit]]
