import copy
import itertools
import random

import pytest
import torch

from nerloop import examples, trainer
from nerloop.documents import Document, Entity
from nerloop.encoder import GruEncoder, TransformerEncoder
from nerloop.predictor import Predictor, found_in, score
from nerloop.tagger import Tagger, weights_key
from nerloop.tagging import Decoder
from nerloop.tokenizer import CharacterVocabulary, SubwordTokenizer
from nerloop.trainer import MIN_DEV_ENTITIES, PATIENCE, Recipe, Trainer
from nerloop.training_state import TrainingState

OFF_THE_GRID = 77.0  # no fit would choose this temperature, so that seeing it again means that none was fitted


def toy(number, seed):
    """Texts of zeros and ones in which each `ab` is a person."""
    rng = random.Random(seed)
    documents = []
    for _ in range(number):
        before, after = ("".join(rng.choices("01", k=rng.randint(0, 4))) for _ in "xy")
        entity = Entity(len(before), len(before) + 2, "PER")
        documents.append(Document("", f"{before}ab{after}", (entity,)))
    return documents


DEV = toy(MIN_DEV_ENTITIES, seed=2)
FEW = Recipe(epochs=3, batch_size=4)  # where it does not matter how well the model learns


@pytest.fixture
def untrained(tiny_tagger):
    def build(**options):
        tagger = tiny_tagger(**{"labels": ("PER",), "hidden_size": 16} | options)
        tagger.temperature = OFF_THE_GRID
        return tagger

    return build


@pytest.fixture(scope="module", autouse=True)
def same_on_every_machine():
    """Whether bf16 pays is timed, and no test may go by a timing; threads of models this small wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(trainer, "bf16_pays", lambda _: False)
        patch.setattr(trainer, "set_threads", lambda _: None)
        yield


@pytest.fixture(scope="module")
def trained(tiny_tagger):
    tagger, heard = tiny_tagger(labels=("PER",), hidden_size=16), []
    tagger.temperature = OFF_THE_GRID
    fit = Trainer(Recipe(batch_size=4), heard.append).fit(tagger, toy(64, seed=1), DEV)
    return tagger, fit, heard


def f1(tagger, gold):
    return score(Predictor(tagger, ""), gold).micro.f1


def test_a_tiny_model_learns_a_toy_set_to_perfection(trained):
    tagger, _, _ = trained

    assert f1(tagger, toy(50, seed=3)) == 1.0


def test_the_loss_falls(trained):
    _, fit, _ = trained

    assert fit.epochs[-1].loss < fit.epochs[0].loss / 2


def test_the_best_epoch_on_dev_is_the_one_that_is_kept(trained):
    tagger, fit, _ = trained
    scores = [epoch.dev_f1 for epoch in fit.epochs]

    assert scores[fit.best_epoch - 1] == max(scores)
    assert f1(tagger, DEV) == max(scores)


def test_with_enough_dev_entities_a_temperature_is_fitted(trained):
    tagger, fit, _ = trained

    assert 0 < tagger.temperature < 10
    assert fit.used_dev


def test_with_too_few_dev_entities_the_last_epoch_is_kept_and_no_temperature_fitted(untrained):
    tagger = untrained()

    fit = Trainer(FEW).fit(tagger, toy(4, seed=1), toy(MIN_DEV_ENTITIES - 1, seed=2))

    assert tagger.temperature == OFF_THE_GRID
    assert not fit.used_dev
    assert fit.best_epoch == len(fit.epochs) == 3
    assert {epoch.dev_f1 for epoch in fit.epochs} == {None}


def test_a_trained_model_is_ready_to_predict(trained):
    tagger, _, _ = trained

    assert not tagger.training


# Progress


def test_the_caller_is_told_each_step_once_and_in_order(untrained):
    heard = []

    fit = Trainer(FEW, on_progress=heard.append).fit(untrained(), toy(10, seed=1), DEV)

    assert [(p.step, p.steps, p.epoch, p.epochs) for p in heard] == [(n + 1, 9, n // 3 + 1, 3) for n in range(9)]
    assert [p.last_epoch for p in heard] == [None, *[None] * 2, *[fit.epochs[0]] * 3, *[fit.epochs[1]] * 3]
    assert [epoch.number for epoch in fit.epochs] == [1, 2, 3]
    assert {epoch.total for epoch in fit.epochs} == {3}


def test_the_loss_told_is_the_mean_of_the_epoch_so_far(untrained):
    heard = []

    fit = Trainer(FEW, on_progress=heard.append).fit(untrained(), toy(10, seed=1), [])

    assert [p.loss for p in heard[2::3]] == [epoch.loss for epoch in fit.epochs]
    first, second = heard[0].loss, heard[1].loss
    assert second != first  # 2 × the mean of two less the first is the second step's own loss
    assert 2 * second - first > 0


def test_the_seconds_left_go_down_to_none(untrained):
    heard = []

    Trainer(FEW, on_progress=heard.append).fit(untrained(), toy(10, seed=1), [])

    assert all(p.seconds_left > 0 for p in heard[:-1])
    assert heard[-1].seconds_left == 0


def test_a_run_without_a_number_of_epochs_takes_as_many_steps_as_it_needs(trained):
    _, _, heard = trained

    assert heard[0].steps >= trainer.MIN_STEPS or heard[0].epochs == trainer.EPOCHS[1]
    assert trainer.epochs_for(10_000) == trainer.EPOCHS[0]


class Listener(list):
    def __call__(self, progress):
        self.append(progress)


def test_a_listener_is_told_even_if_it_counts_as_false_at_first(untrained):
    listener = Listener()

    Trainer(FEW, on_progress=listener).fit(untrained(), toy(4, seed=1), [])

    assert [progress.step for progress in listener] == [1, 2, 3]


# Cancelling and going on


class Cancelled(Exception):
    """What a caller raises to end a run."""


def fit_until(step, tagger, train, dev, recipe, folder=None, unlabelled=()):
    """Run a fit that is cancelled at a step; return the steps it was heard to take."""
    heard = []

    def listen(progress):
        heard.append(progress.step)
        if progress.step == step:
            raise Cancelled

    with pytest.raises(Cancelled):
        Trainer(recipe, listen, folder).fit(tagger, train, dev, unlabelled)
    return heard


def test_cancelling_takes_effect_within_one_step(untrained):
    tagger, weights = untrained(), []

    def cancel(progress):
        weights.append(weights_key(tagger))
        if progress.step == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        Trainer(FEW, cancel).fit(tagger, toy(10, seed=1), DEV)

    assert len(weights) == 5
    assert weights_key(tagger) == weights[-1]


SAVING = {"after each step": lambda _: True, "after each epoch": lambda _: False}
STARTS = {
    "a GRU": lambda gru, _: gru(),
    "a nested GRU": lambda gru, _: gru(decoder=Decoder.nested(["LOC", "PER"])),
    "BERT": lambda _, bert: bert(),
    "nested BERT": lambda _, bert: bert(Decoder.nested(["LOC", "PER"])),
}


@pytest.mark.parametrize("saving", SAVING)
@pytest.mark.parametrize("start", STARTS)
def test_a_run_cancelled_at_any_step_goes_on_to_exactly_the_model_of_an_uninterrupted_one(
    untrained, tiny_transformer, tmp_path, monkeypatch, start, saving
):
    monkeypatch.setattr(TrainingState, "due", SAVING[saving])
    train, steps = toy(18, seed=1), 15
    whole = STARTS[start](untrained, tiny_transformer)
    expected = Trainer(FEW).fit(whole, train, DEV)

    for step in random.Random(start + saving).sample(range(1, steps + 1), 2):
        folder, heard = tmp_path / f"cancelled at {step}", []
        fit_until(step, STARTS[start](untrained, tiny_transformer), train, DEV, FEW, folder)
        torch.rand(step)  # what the process drew meanwhile must not matter
        tagger = STARTS[start](untrained, tiny_transformer)

        fit = Trainer(FEW, heard.append, folder).fit(tagger, train, DEV)

        saved = step - 1 if saving == "after each step" else (step - 1) // 5 * 5
        assert [progress.step for progress in heard] == list(range(saved + 1, steps + 1))
        assert weights_key(tagger) == weights_key(whole)
        assert (fit, tagger.temperature) == (expected, whole.temperature)


def test_a_run_killed_after_its_last_step_has_nothing_left_to_train(untrained, tmp_path):
    first, again, heard = untrained(), untrained(), []
    expected = Trainer(FEW, state_folder=tmp_path).fit(first, toy(18, seed=1), DEV)

    fit = Trainer(FEW, heard.append, tmp_path).fit(again, toy(18, seed=1), DEV)

    assert heard == []
    assert fit == expected
    assert weights_key(again) == weights_key(first)


def test_a_run_cancelled_again_and_again_arrives_all_the_same(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingState, "due", lambda _: True)
    whole, train = untrained(), toy(18, seed=1)
    expected = Trainer(FEW).fit(whole, train, DEV)

    steps = [fit_until(step, untrained(), train, DEV, FEW, tmp_path)[0] for step in (2, 5, 6, 9, 14)]
    tagger = untrained()
    fit = Trainer(FEW, state_folder=tmp_path).fit(tagger, train, DEV)

    assert steps == [1, 2, 5, 6, 9]
    assert (fit, weights_key(tagger)) == (expected, weights_key(whole))


def test_a_run_goes_on_in_the_precision_it_began_in(tiny_transformer, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingState, "due", lambda _: True)
    monkeypatch.setattr(trainer, "bf16_pays", lambda _: True)
    whole, train = tiny_transformer(), toy(18, seed=1)
    Trainer(FEW).fit(whole, train, [])
    fit_until(8, tiny_transformer(), train, [], FEW, tmp_path)
    monkeypatch.setattr(trainer, "bf16_pays", lambda _: False)
    tagger, other = tiny_transformer(), tiny_transformer()

    Trainer(FEW, state_folder=tmp_path).fit(tagger, train, [])
    Trainer(FEW).fit(other, train, [])

    assert weights_key(tagger) == weights_key(whole) != weights_key(other)


OTHERS = {
    "other training documents": {"train": toy(18, seed=8)},
    "one document more": {"train": [*toy(18, seed=1), *toy(1, seed=8)]},
    "another dev set": {"dev": toy(3, seed=9)},
    "another seed": {"recipe": Recipe(epochs=3, batch_size=4, seed=1)},
    "another batch size": {"recipe": Recipe(epochs=3, batch_size=5)},
    "another learning rate": {"recipe": Recipe(epochs=3, batch_size=4, learning_rate=1e-4)},
    "another number of epochs": {"recipe": Recipe(epochs=4, batch_size=4)},
    "another start": {"options": {"seed": 3}},
    "other rows for the same label": {"options": {"labels": ("PER", "ZZZ")}},
    "another decoder": {"options": {"decoder": Decoder.nested(["PER"])}},
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_run_does_not_go_on_from_what_was_saved(untrained, tmp_path, monkeypatch, other):
    monkeypatch.setattr(TrainingState, "due", lambda _: True)
    begin = {"labels": ("AAA", "PER")} if "rows" in other else {}
    fit_until(7, untrained(**begin), toy(18, seed=1), [], FEW, tmp_path)
    parts = {"train": toy(18, seed=1), "dev": [], "recipe": FEW, "options": begin} | OTHERS[other]
    tagger, alone, heard = untrained(**parts["options"]), untrained(**parts["options"]), []

    Trainer(parts["recipe"], heard.append, tmp_path).fit(tagger, parts["train"], parts["dev"])

    Trainer(parts["recipe"]).fit(alone, parts["train"], parts["dev"])
    assert heard[0].step == 1
    assert weights_key(tagger) == weights_key(alone)


def test_saving_changes_nothing(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingState, "due", lambda _: True)
    saving, not_saving = untrained(), untrained()

    Trainer(FEW, state_folder=tmp_path).fit(saving, toy(18, seed=1), DEV)
    Trainer(FEW).fit(not_saving, toy(18, seed=1), DEV)

    assert weights_key(saving) == weights_key(not_saving)


# Learning from unlabelled texts


UNLABELLED = [Document("", document.text) for document in toy(10, seed=5)]


def test_a_second_round_begins_anew(untrained):
    heard = []

    fit = Trainer(Recipe(epochs=12, batch_size=4), heard.append).fit(untrained(), toy(18, seed=1), [], UNLABELLED)

    assert [epoch.number for epoch in fit.epochs] == list(range(1, 25))
    assert [progress.step for progress in heard] == list(range(1, 12 * (5 + 7) + 1))
    assert {(progress.steps, progress.epochs) for progress in heard} == {(144, 24)}
    assert heard[60].loss > 2 * heard[59].loss
    assert fit.best_epoch == 24


def test_unlabelled_texts_are_learned_from_as_the_first_round_labels_them(untrained, monkeypatch):
    recipe, train, learned_from, examples_of = Recipe(epochs=12, batch_size=4), toy(18, seed=1), [], trainer.examples_of
    first = untrained()
    Trainer(recipe).fit(first, train, [])

    def noted(tagger, documents):
        learned_from.append(documents)
        return examples_of(tagger, documents)

    monkeypatch.setattr(trainer, "examples_of", noted)
    Trainer(recipe).fit(untrained(), train, [], UNLABELLED)

    found = found_in(UNLABELLED, Predictor(first, ""))
    assert any(document.entities for document in found)
    assert learned_from[-1] == found


def test_what_a_gazetteer_says_of_unlabelled_texts_fills_the_gaps_that_the_first_round_leaves(untrained):
    recipe, train, helped, alone = Recipe(epochs=12, batch_size=4), toy(18, seed=1), untrained(), untrained()
    texts = [f"{document.text}00xy" for document in toy(30, seed=5)]
    listed = [Document("", text, (Entity(len(text) - 2, len(text), "PER"),)) for text in texts]

    Trainer(recipe).fit(helped, train, [], listed)
    Trainer(recipe).fit(alone, train, [], [Document("", text) for text in texts])

    found = [Predictor(tagger, "").predict(["01ab00xy"])[0].entities for tagger in (helped, alone)]
    assert found[0] == (Entity(2, 4, "PER"), Entity(6, 8, "PER"))
    assert Entity(6, 8, "PER") not in found[1]


def test_the_best_epoch_of_the_second_round_is_kept(untrained):
    tagger = untrained()

    fit = Trainer(Recipe(epochs=8, batch_size=4)).fit(tagger, toy(18, seed=1), DEV, UNLABELLED)

    dev_f1 = [epoch.dev_f1 for epoch in fit.epochs]
    assert fit.best_epoch > 8
    assert dev_f1[fit.best_epoch - 1] == max(dev_f1[8:]) == score(Predictor(tagger, ""), DEV).micro.f1


@pytest.mark.parametrize("step", [9, 15, 16, 20, 36])
def test_a_run_cancelled_in_either_round_goes_on_to_the_same_model(untrained, tmp_path, monkeypatch, step):
    monkeypatch.setattr(TrainingState, "due", lambda _: True)
    whole, tagger, heard, train = untrained(), untrained(), [], toy(18, seed=1)
    expected = Trainer(FEW).fit(whole, train, DEV, UNLABELLED)
    fit_until(step, untrained(), train, DEV, FEW, tmp_path, UNLABELLED)
    torch.rand(step)

    fit = Trainer(FEW, heard.append, tmp_path).fit(tagger, train, DEV, UNLABELLED)

    assert [progress.step for progress in heard] == list(range(step, 37))
    assert (fit, weights_key(tagger)) == (expected, weights_key(whole))


@pytest.mark.parametrize("unlabelled", [[], UNLABELLED])
def test_a_run_killed_while_an_epoch_is_judged_does_not_learn_it_twice(untrained, tmp_path, monkeypatch, unlabelled):
    monkeypatch.setattr(TrainingState, "due", lambda _: True)
    whole, tagger, heard, train = untrained(), untrained(), [], toy(18, seed=1)
    expected = Trainer(FEW).fit(whole, train, DEV, unlabelled)
    judged = itertools.count(1)

    def score_or_die(*arguments):
        if next(judged) % 2:  # each epoch is judged at the second try
            raise Cancelled
        return score(*arguments)

    monkeypatch.setattr(trainer, "score", score_or_die)
    for _ in expected.epochs:
        with pytest.raises(Cancelled):
            Trainer(FEW, heard.append, tmp_path).fit(untrained(), train, DEV, unlabelled)

    fit = Trainer(FEW, heard.append, tmp_path).fit(tagger, train, DEV, unlabelled)

    assert [progress.step for progress in heard] == list(range(1, heard[-1].steps + 1))
    assert (fit, weights_key(tagger)) == (expected, weights_key(whole))


def test_other_unlabelled_texts_are_another_run(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingState, "due", lambda _: True)
    heard, train = [], toy(18, seed=1)
    fit_until(20, untrained(), train, [], FEW, tmp_path, UNLABELLED)

    Trainer(FEW, heard.append, tmp_path).fit(untrained(), train, [], UNLABELLED[1:])

    assert heard[0].step == 1


def test_empty_unlabelled_texts_make_no_second_round(untrained):
    fit = Trainer(FEW).fit(untrained(), toy(8, seed=1), [], [Document("", ""), Document("1-2", "")])

    assert len(fit.epochs) == 3


# The same again, and early ends


def weights_after(tagger, seed):
    Trainer(Recipe(epochs=3, batch_size=4, seed=seed)).fit(tagger, toy(8, seed=1), DEV)
    return weights_key(tagger)


@pytest.mark.parametrize("start", STARTS)
def test_the_same_documents_and_seed_give_the_same_model_and_another_seed_another(untrained, tiny_transformer, start):
    one = weights_after(STARTS[start](untrained, tiny_transformer), seed=5)
    random.random()  # what the process drew before must not matter
    torch.rand(3)
    again = weights_after(STARTS[start](untrained, tiny_transformer), seed=5)
    other = weights_after(STARTS[start](untrained, tiny_transformer), seed=6)

    assert one == again != other


def test_a_run_that_only_gets_worse_ends_early_with_its_best_epoch(trained):
    tagger = copy.deepcopy(trained[0])
    heard = []
    contrary = [Document("", document.text) for document in toy(64, seed=1)]  # here `ab` is nobody

    fit = Trainer(Recipe(epochs=40), heard.append).fit(tagger, contrary, DEV)

    scores = [epoch.dev_f1 for epoch in fit.epochs]
    assert scores[fit.best_epoch - 1] == max(scores) > scores[-1]
    assert len(fit.epochs) == fit.best_epoch + PATIENCE < 40
    assert f1(tagger, DEV) == max(scores)
    assert heard[-1].step < heard[-1].steps


def test_a_run_that_ended_early_ends_there_too_when_it_was_interrupted(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingState, "due", lambda _: True)
    contrary = [Document("", document.text) for document in toy(32, seed=1)]
    recipe = Recipe(epochs=40)
    whole, part, again = (copy.deepcopy(trained[0]) for _ in range(3))
    expected = Trainer(recipe).fit(whole, contrary, DEV)
    steps = 2 * len(expected.epochs)  # two of sixteen documents an epoch

    fit_until(steps - 1, part, contrary, DEV, recipe, tmp_path)
    fit = Trainer(recipe, state_folder=tmp_path).fit(again, contrary, DEV)

    assert (fit, weights_key(again)) == (expected, weights_key(whole))


def test_a_learning_rate_given_is_that_of_the_encoder(untrained):
    still, moved = untrained(), untrained()
    before = {name: weight.clone() for name, weight in still.named_parameters()}

    Trainer(Recipe(epochs=3, batch_size=4, learning_rate=1e-12)).fit(still, toy(10, seed=1), [])
    Trainer(FEW).fit(moved, toy(10, seed=1), [])

    def farthest(tagger, part):
        pairs = [(weight, before[name]) for name, weight in tagger.named_parameters() if name.startswith(part)]
        return max(float((weight - old).detach().abs().max()) for weight, old in pairs)

    assert farthest(still, "encoder.") < 1e-6 < 1e-4 < farthest(moved, "encoder.")
    assert farthest(still, "linear.") > 1e-4


def test_a_new_head_learns_before_it_may_change_the_encoder(untrained):
    tagger = untrained()
    seen = []

    def look(progress):
        seen.append((tagger.linear.weight.detach().clone(), tagger.encoder.gru.weight_ih_l0.detach().clone()))

    Trainer(Recipe(epochs=20), on_progress=look).fit(tagger, toy(10, seed=1), [])

    heads, encoders = zip(*seen, strict=True)
    assert not torch.equal(heads[0], heads[2])
    assert torch.equal(encoders[0], encoders[2])  # 3 of 20 steps are the head's alone
    assert not torch.equal(encoders[2], encoders[3])


def test_what_nothing_reads_is_not_trained(tiny_transformer):
    tagger = tiny_transformer()
    before = {name: weight.clone() for name, weight in tagger.named_parameters() if ".pooler." in name}

    Trainer(FEW).fit(tagger, toy(10, seed=1), [])

    assert before
    assert all(torch.equal(weight, before[n]) for n, weight in tagger.named_parameters() if ".pooler." in n)


# What is learned from


@pytest.fixture
def short_pieces(monkeypatch):
    def cut_at(characters):
        monkeypatch.setattr(examples, "TRAINING_CHARACTERS", characters)

    return cut_at


def test_a_long_text_is_cut_where_no_entity_is_open(untrained, short_pieces):
    # A piece that began or ended inside an entity would be impossible for the CRF, and its loss in the thousands.
    short_pieces(20)

    documents = [Document("", "01" * 20, (Entity(start, start + 5, "PER"),)) for start in (15, 16, 19, 20)]
    fit = Trainer(FEW).fit(untrained(), documents, [])

    assert fit.dropped_entities == 0
    assert max(epoch.loss for epoch in fit.epochs) < 1000


def test_a_long_text_is_cut_where_no_entity_of_any_layer_is_open(untrained, short_pieces):
    short_pieces(20)
    tagger = untrained(decoder=Decoder.nested(["LOC", "PER"]))

    entities = (Entity(14, 22, "PER"), Entity(10, 15, "LOC"), Entity(21, 24, "LOC"))
    fit = Trainer(FEW).fit(tagger, [Document("", "01" * 20, entities)], [])

    assert fit.dropped_entities == 0
    assert max(epoch.loss for epoch in fit.epochs) < 1000


def test_an_entity_longer_than_a_piece_of_text_is_left_out_and_counted(untrained, short_pieces):
    short_pieces(20)

    fit = Trainer(FEW).fit(untrained(), [Document("", "01" * 20, (Entity(2, 4, "PER"), Entity(5, 30, "PER")))], [])

    assert fit.dropped_entities == 1
    assert max(epoch.loss for epoch in fit.epochs) < 1000


def test_every_character_of_a_long_text_is_learned_from(untrained, short_pieces):
    short_pieces(10)
    tagger = untrained()

    before = tagger.encoder.embedding.weight.clone()
    Trainer(FEW).fit(tagger, [Document("", "0" * 29 + "z", (Entity(29, 30, "PER"),))], [])

    (row,) = tagger.encoder.tokenizer.tokenize("z").ids
    assert not torch.equal(tagger.encoder.embedding.weight[row], before[row])


def test_a_text_of_more_ids_than_an_encoder_reads_is_cut_though_its_characters_are_few(xlm_roberta_folder):
    tokenizer = SubwordTokenizer.read(xlm_roberta_folder, "xlm-roberta", split_into_characters=True)
    measures = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = {"model_type": "xlm-roberta", "vocab_size": 64, "max_position_embeddings": 34, "pad_token_id": 1}
    tagger = Tagger(TransformerEncoder(tokenizer, config | measures), Decoder.flat(["PER"]))
    text = "张三在北京" * 5
    entities = tuple(Entity(start, start + 2, "PER") for start in range(0, 25, 5))
    assert len(tokenizer.tokenize(text).ids) > tagger.encoder.max_tokens > len(text)

    fit = Trainer(Recipe(epochs=1)).fit(tagger, [Document("", text, entities)], [])

    assert fit.dropped_entities == 0
    assert fit.epochs[0].loss < 1000


def test_a_base_that_reads_words_learns_entities_inside_words(tiny_transformer):
    tagger = tiny_transformer(split_into_characters=False)
    documents = [Document("", f"hello{number} 12", (Entity(1, 4, "PER"),)) for number in range(10)]

    Trainer(Recipe(epochs=30, batch_size=4, learning_rate=1e-3)).fit(tagger, documents, [])

    assert f1(tagger, documents) == 1.0
    assert tagger.encoder.tokenizer.split_into_characters


def test_a_nested_decoder_learns_a_place_in_a_place():
    rng = random.Random(0)
    people, acts = ("张三", "李四", "王五"), ("去了", "在", "住在", "喜欢")
    documents = []
    for person, act, place in itertools.product(people, acts, ("北京市", "北京", "上海市", "上海")):
        text = f"{person}{act}{place}。"
        start = text.index(place)
        entities = {Entity(0, 2, "PER"), Entity(start, start + 2, "LOC"), Entity(start, start + len(place), "LOC")}
        documents.append(Document("", text, tuple(sorted(entities))))
    rng.shuffle(documents)
    characters = sorted({character for document in documents for character in document.text})
    vocabulary = CharacterVocabulary({"OOV": 0} | {character: row for row, character in enumerate(characters, 1)})
    decoder = Decoder.nested(["LOC", "PER"], documents)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tagger = Tagger(GruEncoder(vocabulary, len(characters) + 1, 16, 16), decoder)

    fit = Trainer(Recipe(batch_size=4)).fit(tagger, documents[:36], [])

    (prediction,) = Predictor(tagger, "").predict(["李四在北京市。"])
    assert prediction.entities == (Entity(0, 2, "PER"), Entity(3, 5, "LOC"), Entity(3, 6, "LOC"))
    assert f1(tagger, documents[36:]) == 1.0
    assert fit.dropped_entities == 0


def test_entities_that_flat_tags_cannot_hold_are_counted(untrained):
    nested = Document("", "abab", (Entity(0, 4, "PER"), Entity(0, 2, "PER"), Entity(2, 4, "PER")))

    fit = Trainer(FEW).fit(untrained(), [nested, *toy(3, seed=1)], [])

    assert fit.dropped_entities == 2


def test_empty_texts_are_passed_over(untrained):
    fit = Trainer(FEW).fit(untrained(), [Document("", ""), *toy(3, seed=1)], [Document("", "")])

    assert len(fit.epochs) == 3


@pytest.mark.parametrize("documents", [[], [Document("", "")]])
def test_nothing_to_train_on_is_refused(untrained, documents):
    with pytest.raises(ValueError, match="no training documents"):
        Trainer(FEW).fit(untrained(), documents, [])
