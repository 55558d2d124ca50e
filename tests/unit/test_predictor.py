import itertools
import math
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nerloop import predictor as predictor_module
from nerloop.documents import Document, Entity
from nerloop.predictor import WINDOW_OVERLAP, Predictor, score, windows_of
from nerloop.runtime import TorchRuntime
from nerloop.tagging import Decoder, TagSet
from nerloop.tokenizer import Tokens

TEXTS = [
    "张三在北京市工作。",
    "",
    "2008年8月8日，第29届奥运会在北京开幕。",
    "   ",
    "中国人民银行行长周小川在华盛顿出席会议，会后他回到了北京",
    "他住在北京",
    "😀𠮷",
    "\r\n",
]
FILLER = "今天天气真好，我们一起去公园玩。"
NEWS = "记者在北京外国语大学见到了王小明。"
# 北京 in 北京市: both are places.
PLACE_IN_PLACE = Document("", "北京市", (Entity(0, 2, "LOC"), Entity(0, 3, "LOC")))
NESTED = Decoder.nested(["LOC", "PER"], [PLACE_IN_PLACE])  # LOC, LOC, PER
BIO = Decoder("flat", (TagSet(("O", "B-PER", "I-PER", "B-noun", "I-noun"), ("PER",)),))  # as published models have it

any_text = st.text(
    st.one_of(st.characters(codec=None), st.sampled_from("北京市0a 。\t\u3000\x00\u0301😀👨𠮷ﷺ한Ａ\ud83d")), max_size=40
)


def digits(length, seed=0):
    return "".join(random.Random(seed).choices("0123456789abcdef", k=length))


def scores(prediction):
    return [entity.score for entity in prediction.entities]


def assert_same(predictions, others):
    """Assert that predictions agree in all they say, up to the rounding of 32-bit numbers."""
    assert [p.entities for p in predictions] == [p.entities for p in others]
    for one, other in zip(predictions, others, strict=True):
        assert scores(one) == pytest.approx(scores(other), abs=1e-3)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
        assert vars(one.uncertainty) == pytest.approx(vars(other.uncertainty), abs=1e-4)


@pytest.fixture
def starter(lac):
    return Predictor(lac, "lac-starter")


@pytest.fixture
def tiny(tiny_tagger):
    return Predictor(tiny_tagger(), "tiny-v1")


@pytest.fixture
def nested(tiny_tagger):
    return Predictor(tiny_tagger(decoder=NESTED), "nested-v1")


@pytest.fixture(scope="module")
def reader(tiny_transformer):
    """A transformer that reads 30 ids at once and finds 张, 丰…, 明 as a person: a character alone decides its tag."""
    tagger = tiny_transformer(Decoder.flat(["PER"]))
    return Predictor(taught(tagger, [{"张": "B-PER", "丰": "I-PER", "明": "E-PER", "王": "S-PER"}]), "reader")


@pytest.fixture(scope="module")
def nested_reader(tiny_transformer):
    """A transformer that finds 北京 and 北京市 as places, and 市 as a person."""
    meanings = [{"北": "B-LOC", "京": "I-LOC", "市": "E-LOC"}, {"北": "B-LOC", "京": "E-LOC"}, {"市": "S-PER"}]
    return Predictor(taught(tiny_transformer(NESTED), meanings), "nested-reader")


@pytest.fixture(scope="module")
def word_reader(tiny_transformer):
    """A transformer that reads words and finds each hello as a person."""
    tagger = tiny_transformer(Decoder.flat(["PER"]), split_into_characters=False)
    units = ["hello", "ab", "1", "北", "。", "é", "[UNK]"]
    return Predictor(taught(tagger, [{"hello": "S-PER"}], units, " "), "word-reader")


def taught(tagger, meanings, units="张丰明王北京市在。0aé😀 ", between=""):
    """Solve for the linear layer that gives each unit its tag in each layer, by least squares over random texts."""
    choose = random.Random(0)
    limit, read = tagger.encoder.max_tokens, tagger.encoder.tokenizer.tokenize
    texts = [choose.choices(units, k=choose.randint(1, limit)) for _ in range(200)]
    texts = [text for text in texts if len(read(between.join(text)).ids) <= limit]
    batch = tagger.encoder.collate([read(between.join(text)) for text in texts])
    layers = tagger.decoder.layers
    wanted = [
        [layer.id_of(meaning.get(unit, "O")) for layer, meaning in zip(layers, meanings, strict=True)]
        for text in texts
        for unit in text
    ]
    with torch.no_grad():
        heads = batch.heads[..., None].expand(-1, -1, tagger.encoder.hidden_size)
        vectors = tagger.encoder(batch.ids, batch.sizes).gather(1, heads)
        vectors = vectors[torch.arange(vectors.size(1)) < batch.lengths[:, None]]
        targets = 20.0 * torch.nn.functional.one_hot(torch.tensor(wanted), len(layers[0].tags)).flatten(1)
        solved = torch.linalg.lstsq(torch.cat([vectors, torch.ones(len(vectors), 1)], 1), targets).solution
        tagger.linear.weight.copy_(solved[:-1].T)
        tagger.linear.bias.copy_(solved[-1])
    return tagger


def test_a_batch_finds_what_each_text_alone_would(starter):
    assert_same(starter.predict(TEXTS), [starter.predict([text])[0] for text in TEXTS])


def test_an_entity_at_the_end_of_a_text_has_the_same_score_in_any_batch(starter):
    alone, together = starter.predict(["他住在北京"])[0], starter.predict(["他住在北京", NEWS])[0]

    assert alone.entities == together.entities != ()
    assert scores(together) == pytest.approx(scores(alone), abs=1e-3)


def test_predictions_of_a_fine_tuned_model_do_not_depend_on_the_batch(tiny, nested):
    texts = [digits(length, seed=length) for length in range(40)]

    for predictor in (tiny, nested):
        assert_same(predictor.predict(texts), [predictor.predict([text])[0] for text in texts])


@settings(max_examples=10)
@given(st.lists(st.text("张丰明王北京市在。0😀", max_size=50), max_size=6), st.randoms(use_true_random=False))
def test_predictions_of_a_transformer_do_not_depend_on_the_batch_or_the_order(reader, nested_reader, texts, random):
    order = random.sample(range(len(texts)), len(texts))

    for predictor in (reader, nested_reader):
        together = predictor.predict(texts)

        assert_same(together, [predictor.predict([text])[0] for text in texts])
        assert_same([together[number] for number in order], predictor.predict([texts[number] for number in order]))


def test_predictions_do_not_depend_on_how_much_is_computed_at_once(tiny, reader, monkeypatch):
    texts = [digits(length, seed=length) for length in (0, 3, 200, 1, 40, 40, 90)]
    for predictor in (tiny, reader):
        at_once = predictor.predict(texts)
        monkeypatch.setattr(predictor.runtime, "tokens_a_batch", 64)
        monkeypatch.setattr(predictor_module, "CRF_BUDGET", 1000)

        assert_same(predictor.predict(texts), at_once)


@pytest.mark.parametrize("budget", [1, 64, 500])
def test_no_batch_is_larger_than_the_runtime_likes(tiny, budget):
    seen = []

    class Watched(TorchRuntime):
        def emissions(self, batch):
            seen.append(batch.ids.shape)
            return super().emissions(batch)

    runtime = Watched(tiny.tagger)
    runtime.tokens_a_batch = budget
    texts = [digits(length, seed=length) for length in range(60)]
    predictor = Predictor(tiny.tagger, "", runtime=runtime)

    assert_same(predictor.predict(texts), tiny.predict(texts))
    assert all(rows * width <= budget or rows == 1 for rows, width in seen)
    assert sum(rows for rows, _ in seen) == 59  # the empty text is in none


def test_predictions_come_in_the_order_of_the_texts(tiny):
    texts = [digits(length, seed=length) for length in range(130)]
    order = random.Random(0).sample(range(130), 130)

    predictions = tiny.predict(texts)
    shuffled = tiny.predict([texts[number] for number in order])

    assert [p.entities for p in shuffled] == [predictions[number].entities for number in order]


def test_threads_share_a_predictor(tiny, reader):
    texts = [digits(length, seed=length) for length in range(40)]

    with ThreadPoolExecutor(4) as pool:
        for predictor in (tiny, reader):
            expected = predictor.predict(texts)
            assert all(found == expected for found in pool.map(predictor.predict, [texts] * 8))


def test_no_texts_have_no_predictions(tiny):
    assert tiny.predict([]) == []


@pytest.mark.parametrize("text", ["", " ", " \t\u3000", "\r\n", "😀", "👨‍👩‍👧", "𠮷", "\x00", "\ud83d"])
def test_any_text_has_exactly_one_prediction(starter, reader, nested_reader, word_reader, text):
    for predictor in (starter, reader, nested_reader, word_reader):
        (prediction,) = predictor.predict([text])

        assert all(0 <= entity.start < entity.end <= len(text) for entity in prediction.entities)
        assert 0 <= prediction.confidence <= 1


def test_an_empty_text_has_no_entities_and_leaves_no_doubt(starter, nested, reader, word_reader):
    for predictor in (starter, nested, reader, word_reader):
        before, prediction, after = predictor.predict(["张丰明 hello", "", "北京"])

        assert prediction.entities == ()
        assert prediction.confidence == 1.0
        assert vars(prediction.uncertainty) == {"least_confidence": 0, "mnlp": 0, "token_entropy": 0, "margin": 1}
        assert_same([before, after], predictor.predict(["张丰明 hello", "北京"]))


def test_a_text_without_words_has_no_entities_for_a_model_that_reads_words(word_reader):
    for text in (" \n", "\u200b"):
        (prediction,) = word_reader.predict([text])

        assert (prediction.entities, prediction.confidence) == ((), 1.0)


@pytest.mark.parametrize("before", ["😀", "𠮷𠮷", "\r\n", "　 ", "\u2028"])
def test_offsets_refer_to_the_text_exactly_as_given(starter, before):
    text = f"{before}，王小明在上海工作。"

    (prediction,) = starter.predict([text])

    assert "上海" in [text[entity.start : entity.end] for entity in prediction.entities]


@given(any_text)
@example("\ud83d" * 35)
def test_a_transformer_finds_a_name_where_it_stands_behind_any_text(reader, before):
    text = f"{before}。张丰丰明。王"
    at = len(before) + 1

    (prediction,) = reader.predict([text])

    assert prediction.entities[-2:] == (Entity(at, at + 4, "PER"), Entity(at + 5, at + 6, "PER"))


@given(any_text)
@example("ﷺ [SEP]")
def test_a_model_that_reads_words_finds_one_where_it_stands_behind_any_text(word_reader, before):
    (prediction,) = word_reader.predict([f"{before}。 hello 北"])

    at = len(before) + 2
    assert prediction.entities[-1] == Entity(at, at + 5, "PER")


def test_layers_find_a_place_in_a_place_and_a_person_across_both(nested_reader):
    (prediction,) = nested_reader.predict(["在北京市。"])

    assert prediction.entities == (Entity(1, 3, "LOC"), Entity(1, 4, "LOC"), Entity(3, 4, "PER"))
    assert min(scores(prediction)) > 0.9


def test_layers_find_what_models_of_one_layer_each_would(tiny_tagger):
    both = tiny_tagger(decoder=Decoder.nested(["LOC", "PER"]))
    texts = [digits(length, seed=length) for length in range(1, 30)]

    found = [set(prediction.entities) for prediction in Predictor(both, "").predict(texts)]

    alone = [set() for _ in texts]
    for number, label in enumerate(("LOC", "PER")):
        single = tiny_tagger(decoder=Decoder.flat([label]))
        with torch.no_grad():
            single.linear.weight.copy_(both.linear.weight[5 * number : 5 * number + 5])
            single.linear.bias.copy_(both.linear.bias[5 * number : 5 * number + 5])
        for entities, prediction in zip(alone, Predictor(single, "").predict(texts), strict=True):
            entities.update(prediction.entities)
    assert found == alone
    assert sum(map(len, found)) > 50


def test_a_span_that_two_layers_find_is_shown_once_with_the_better_score(nested):
    outer, inner = (torch.full((3, 2, 5), -1.0) for _ in range(2))
    tokens = nested.tagger.encoder.tokenizer.tokenize("01")
    for emissions, layer, sureness in ((outer, 0, 9.0), (outer, 1, 2.0), (inner, 1, 9.0), (inner, 0, 2.0)):
        for place, tag in enumerate(("B-LOC", "E-LOC")):
            emissions[layer, place, NESTED.layers[layer].id_of(tag)] = sureness

    one, other = nested.decode([tokens, tokens], [outer, inner])

    assert [entity for entity in one.entities if entity.label == "LOC"] == [Entity(0, 2, "LOC")]
    assert one.entities == other.entities
    assert one.entities[0].score == other.entities[0].score > 0.99


def test_every_score_is_a_probability(tiny, nested, starter):
    texts = [digits(200, seed) for seed in range(10)]
    predictions = [*tiny.predict(texts), *nested.predict(texts), *starter.predict(TEXTS)]

    assert all(0 <= score <= 1 for prediction in predictions for score in scores(prediction))
    assert all(0 <= prediction.confidence <= 1 for prediction in predictions)
    assert all(0 <= prediction.uncertainty.least_confidence <= 1 for prediction in predictions)
    assert all(prediction.uncertainty.mnlp <= 0 <= prediction.uncertainty.token_entropy for prediction in predictions)
    assert sum(len(prediction.entities) for prediction in predictions) > 200


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([0.7, 1.0, 3.0]), st.lists(st.integers(1, 4), min_size=1, max_size=3))
@pytest.mark.parametrize("decoder", [Decoder.flat(["LOC", "PER"]), NESTED, BIO], ids=["flat", "nested", "BIO"])
def test_scores_and_doubt_are_those_of_all_paths_counted_one_by_one(
    tiny_tagger, every_path, decoder, seed, temperature, lengths
):
    tagger = tiny_tagger(decoder=decoder)
    generator = torch.Generator().manual_seed(seed)
    for weights in tagger.crf.parameters():
        weights.data = torch.randn(weights.shape, generator=generator)
    tagger.temperature = temperature
    shape = len(decoder.layers), max(lengths), len(decoder.layers[0].tags)
    emissions = [2 * torch.randn(shape, generator=generator)[:, :length] for length in lengths]
    tokens = [tagger.encoder.tokenizer.tokenize("0" * length) for length in lengths]

    predictions = Predictor(tagger, "").decode(tokens, emissions)

    for length, text, prediction in zip(lengths, emissions, predictions, strict=True):
        log_best = entropy = log_labels = 0.0
        expected = {}
        for number, layer in enumerate(decoder.layers):
            every = every_path(tagger.crf, layer, text[number].double(), number)
            shares = (every.scores / temperature).softmax(0).detach()
            log_best += float(shares.max().log())
            one_hot = torch.nn.functional.one_hot(torch.tensor(every.paths), len(layer.tags))
            tags = (one_hot * shares[:, None, None]).sum(0)
            entropy -= float(torch.special.xlogy(tags, tags).sum())
            for place in tags.tolist():
                labels = dict.fromkeys(["", *layer.labels], 0.0)
                for tag, probability in zip(layer.tags, place, strict=True):
                    label = tag.partition("-")[2]
                    labels[label if label in labels else ""] += probability
                log_labels += math.log(max(labels.values()))
            for entity in layer.decode(every.paths[int(shares.argmax())]):
                holds = sum(s for s, p in zip(shares.tolist(), every.paths, strict=True) if entity in layer.decode(p))
                expected[entity] = max(holds, expected.get(entity, 0.0))
        doubt = prediction.uncertainty
        assert {entity: entity.score for entity in prediction.entities} == pytest.approx(expected, abs=1e-4)
        assert doubt.least_confidence == pytest.approx(1 - math.exp(log_best), abs=1e-5)
        assert doubt.mnlp == pytest.approx(log_best / length, abs=1e-5)
        assert doubt.token_entropy == pytest.approx(entropy / length, abs=1e-5)
        assert prediction.confidence == pytest.approx(math.exp(log_labels / math.sqrt(length)), abs=1e-5)


def test_entities_of_one_layer_are_sorted_and_do_not_overlap(tiny):
    (prediction,) = tiny.predict([digits(500)])

    ends = [0, *(entity.end for entity in prediction.entities)]
    assert all(end <= entity.start for end, entity in zip(ends, prediction.entities, strict=False))


def test_entities_of_several_layers_are_sorted(nested):
    (prediction,) = nested.predict([digits(500)])

    assert list(prediction.entities) == sorted(prediction.entities)
    assert any(one.end > other.start for one, other in itertools.pairwise(prediction.entities))


@st.composite
def tokenized(draw):
    """Tokens of a text whose units have one to six ids."""
    sizes = draw(st.lists(st.integers(1, 6), max_size=60)) * draw(st.integers(1, 8))
    heads = [0, *itertools.accumulate(sizes)][: len(sizes)]
    return Tokens(range(sum(sizes)), heads, [(place, place + 1) for place in range(len(sizes))])


@given(tokenized(), st.integers(1, 320))
def test_each_unit_belongs_to_exactly_one_window_that_sees_it(tokens, limit):
    windows = list(windows_of(3, tokens, limit))

    owned = [unit for window in windows for unit in range(window.own_start, window.own_end)]
    assert owned == list(range(len(tokens.heads)))
    assert all(w.start <= w.own_start <= w.own_end <= w.end for w in windows)
    assert {window.text for window in windows} <= {3}


@given(tokenized(), st.integers(1, 320))
def test_no_window_holds_more_ids_than_the_encoder_reads_and_no_unit_is_cut(tokens, limit):
    for window in windows_of(0, tokens, limit):
        whole = tokens.cut(window.start, window.end, 10**9)

        assert len(whole.ids) <= limit or window.end == window.start + 1  # one unit alone may be too long
        assert len(tokens.cut(window.start, window.end, limit).ids) <= limit


@given(st.integers(1, 1000), st.integers(1, 400))
def test_a_unit_belongs_to_the_window_that_sees_most_around_it(units, limit):
    tokens = Tokens(range(units), range(units), [(place, place + 1) for place in range(units)])
    windows = list(windows_of(0, tokens, limit))

    def seen(window, unit):
        before = math.inf if window.start == 0 else unit - window.start
        behind = math.inf if window.end == units else window.end - 1 - unit
        return min(before, behind)

    for owner in windows:
        for unit in range(owner.own_start, owner.own_end):
            assert seen(owner, unit) >= max(seen(w, unit) for w in windows if w.start <= unit < w.end) - 1
            assert seen(owner, unit) >= min(WINDOW_OVERLAP, limit // 2) // 2 - 1


def test_a_text_an_encoder_reads_at_once_is_one_window():
    tokens = Tokens(range(10), range(10), [(place, place + 1) for place in range(10)])

    (window,) = windows_of(0, tokens, 10)

    assert (window.start, window.end, window.own_start, window.own_end) == (0, 10, 0, 10)


def test_a_text_of_five_thousand_characters_is_labelled_to_its_end(tiny, monkeypatch):
    text = digits(5_000)

    (prediction,) = tiny.predict([text])
    monkeypatch.setattr(tiny.tagger.encoder, "max_tokens", 500)
    (in_other_windows,) = tiny.predict([text])

    assert prediction.entities == in_other_windows.entities
    assert prediction.entities[-1].end > 4_900


@pytest.mark.parametrize(
    "start",
    [64, 69, 71, 72, 75, 86, 91, 96],
    ids=lambda start: f"the place at {start + 3}-{start + 10}",
)
def test_an_entity_at_the_border_of_two_windows_is_neither_cut_nor_doubled(starter, monkeypatch, start):
    # Of windows of 100 characters the first owns [0, 75) and ends at 100; the second begins at 50.
    text = (FILLER * 7)[:start] + NEWS + FILLER * 4
    (whole,) = starter.predict([text])

    monkeypatch.setattr(starter.tagger.encoder, "max_tokens", 100)
    (windowed,) = starter.predict([text])

    assert windowed.entities == whole.entities
    assert Entity(start + 3, start + 10, "ORG") in windowed.entities


@pytest.mark.parametrize("length", [2, 3, 14, 30, 31, 75])
def test_an_entity_is_found_whole_wherever_a_transformers_windows_begin_and_end(reader, length):
    name = "张" + "丰" * (length - 2) + "明"
    texts = ["在" * start + name + "。" * (60 - start) for start in range(60)]

    found = reader.predict(texts)

    assert [p.entities for p in found] == [(Entity(start, start + length, "PER"),) for start in range(60)]
    assert min(scores(prediction)[0] for prediction in found) > 0.9


def test_nested_entities_are_found_in_every_window(nested_reader):
    (prediction,) = nested_reader.predict(["北京市在" * 40])

    expected = [
        entity
        for at in range(0, 160, 4)
        for entity in (Entity(at, at + 2, "LOC"), Entity(at, at + 3, "LOC"), Entity(at + 2, at + 3, "PER"))
    ]
    assert list(prediction.entities) == expected


def test_a_word_is_found_in_every_window_of_a_model_that_reads_words(word_reader):
    text = "hello ab " * 50

    (prediction,) = word_reader.predict([text])

    assert list(prediction.entities) == [Entity(at, at + 5, "PER") for at in range(0, len(text), 9)]


def test_windows_of_a_single_character_still_cover_the_text(tiny, monkeypatch):
    text = "0123456789"
    monkeypatch.setattr(tiny.tagger.encoder, "max_tokens", 1)

    (scored,) = tiny.emissions([tiny.tagger.encoder.tokenizer.tokenize(text)])

    one_by_one = [tiny.emissions([tiny.tagger.encoder.tokenizer.tokenize(character)])[0] for character in text]
    assert torch.allclose(scored, torch.cat(one_by_one, 1), atol=1e-6)


def test_every_prediction_carries_the_version_of_its_model(tiny, starter):
    assert {prediction.model_version for prediction in tiny.predict(["0", "", "1"])} == {"tiny-v1"}
    assert {prediction.model_version for prediction in starter.predict(TEXTS)} == {"lac-starter"}


def test_labels_may_be_renamed_and_hidden(starter):
    everything = starter.predict(TEXTS)

    shown = starter.with_labels({"PER": "人名"}).predict(TEXTS)

    people = [[(e.start, e.end, "人名") for e in p.entities if e.label == "PER"] for p in everything]
    assert [[(e.start, e.end, e.label) for e in p.entities] for p in shown] == people
    assert any(people)


def test_a_project_without_a_label_the_model_knows_is_shown_nothing(starter):
    assert all(prediction.entities == () for prediction in starter.with_labels({}).predict(TEXTS))


def test_renaming_leaves_the_first_predictor_as_it_was(starter):
    before = starter.predict(TEXTS)

    starter.with_labels({"PER": "人名"}).predict(TEXTS)

    assert starter.predict(TEXTS) == before
    assert starter.with_labels({"PER": "人名"}).model_version == "lac-starter"


def test_two_labels_shown_under_one_name_show_a_span_once(nested_reader):
    shown = nested_reader.with_labels({"LOC": "名", "PER": "名"})

    (prediction,) = shown.predict(["北京市"])

    assert prediction.entities == (Entity(0, 2, "名"), Entity(0, 3, "名"), Entity(2, 3, "名"))


@pytest.mark.parametrize("decoder", [Decoder.flat(["LOC", "PER"]), NESTED], ids=["flat", "nested"])
def test_a_temperature_changes_the_scores_and_never_the_entities(tiny_tagger, decoder):
    tagger = tiny_tagger(decoder=decoder)
    predictor = Predictor(tagger, "")
    found = []
    for tagger.temperature in (0.5, 1.0, 2.0, 4.0):
        found += predictor.predict([digits(100)])

    assert len({prediction.entities for prediction in found}) == 1
    for sure, unsure in itertools.pairwise(found):
        assert sum(scores(unsure)) < sum(scores(sure))
        assert unsure.uncertainty.least_confidence >= sure.uncertainty.least_confidence
        assert unsure.uncertainty.mnlp < sure.uncertainty.mnlp
        assert unsure.uncertainty.token_entropy > sure.uncertainty.token_entropy
        assert unsure.uncertainty.margin < sure.uncertainty.margin


def test_a_higher_temperature_makes_a_model_less_confident_of_a_text(tiny_tagger):
    tagger = tiny_tagger()
    predictor, found = Predictor(tagger, ""), []
    for tagger.temperature in (0.5, 1.0, 2.0, 4.0):
        found += predictor.predict([digits(100)])

    assert [p.confidence for p in found] == sorted((p.confidence for p in found), reverse=True)


def test_at_a_very_high_temperature_all_legal_paths_are_equally_likely(tiny_tagger, every_path):
    tagger = tiny_tagger(labels=("PER",))
    tagger.temperature = 100.0
    paths = every_path(tagger.crf, tagger.decoder.layers[0], torch.zeros(4, 5)).paths

    (prediction,) = Predictor(tagger, "").predict(["0123"])

    assert 1 - prediction.uncertainty.least_confidence == pytest.approx(1 / len(paths), rel=0.05)


def test_a_predictor_is_scored_by_what_it_finds(reader):
    gold = [
        Document("", "张丰明在", (Entity(0, 3, "PER"),)),
        Document("", "在王", (Entity(0, 1, "PER"),)),
        Document("", ""),
    ]

    scores = score(reader, gold).micro

    assert (scores.precision, scores.recall, scores.support) == (0.5, 0.5, 2)


def test_prediction_leaves_no_trace_in_a_model_that_is_being_trained(tiny_tagger):
    tagger = tiny_tagger()
    before = {name: weight.clone() for name, weight in tagger.state_dict().items()}

    Predictor(tagger, "").predict([digits(50)])

    assert all(torch.equal(weight, before[name]) for name, weight in tagger.state_dict().items())
    assert all(parameter.grad is None for parameter in tagger.parameters())
