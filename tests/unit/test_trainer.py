import random

import pytest
import torch

from nerloop import trainer
from nerloop.documents import Document, Entity
from nerloop.evaluation import evaluate
from nerloop.predictor import Predictor
from nerloop.trainer import MIN_DEV_ENTITIES, Trainer

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


DEV = toy(60, seed=2)


def untrained(tiny_tagger):
    tagger = tiny_tagger(labels=("PER",), hidden_size=16)
    tagger.temperature = OFF_THE_GRID
    return tagger


@pytest.fixture
def few_epochs(monkeypatch):
    monkeypatch.setattr(trainer, "EPOCHS", (3, 3))  # where it does not matter how well the model learns


@pytest.fixture(scope="module")
def trained(tiny_tagger):
    tagger, heard = untrained(tiny_tagger), []
    fit = Trainer(on_epoch=heard.append).fit(tagger, toy(64, seed=1), DEV)
    return tagger, fit, heard


def f1(tagger, gold):
    predictions = Predictor(tagger, "").predict([document.text for document in gold])
    return evaluate(gold, [Document("", "", prediction.entities) for prediction in predictions]).micro.f1


def test_a_tiny_model_learns_a_toy_set_to_perfection(trained):
    tagger, _, _ = trained

    assert f1(tagger, toy(50, seed=3)) == 1.0


def test_the_caller_is_told_each_epoch_once_and_in_order(trained):
    _, fit, heard = trained

    assert [epoch.number for epoch in heard] == list(range(1, len(heard) + 1))
    assert {epoch.total for epoch in heard} == {len(heard)}
    assert tuple(heard) == fit.epochs


class Listener(list):
    def __call__(self, epoch):
        self.append(epoch)


@pytest.mark.usefixtures("few_epochs")
def test_a_listener_is_told_even_if_it_counts_as_false_at_first(tiny_tagger):
    listener = Listener()

    fit = Trainer(on_epoch=listener).fit(untrained(tiny_tagger), toy(4, seed=1), [])

    assert tuple(listener) == fit.epochs


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


@pytest.mark.usefixtures("few_epochs")
def test_with_too_few_dev_entities_the_last_epoch_is_kept_and_no_temperature_fitted(tiny_tagger):
    tagger = untrained(tiny_tagger)

    fit = Trainer().fit(tagger, toy(4, seed=1), toy(MIN_DEV_ENTITIES - 1, seed=2))

    assert tagger.temperature == OFF_THE_GRID
    assert not fit.used_dev
    assert fit.best_epoch == len(fit.epochs)
    assert {epoch.dev_f1 for epoch in fit.epochs} == {None}


def weights_after(tiny_tagger, seed):
    tagger = untrained(tiny_tagger)
    Trainer(seed).fit(tagger, toy(8, seed=1), [])
    return torch.cat([weight.flatten() for weight in tagger.state_dict().values()])


@pytest.mark.usefixtures("few_epochs")
def test_the_same_documents_and_seed_give_the_same_model_and_another_seed_another(tiny_tagger):
    one = weights_after(tiny_tagger, seed=5)
    random.random()  # what the process drew before must not matter
    torch.rand(3)
    again, other = weights_after(tiny_tagger, seed=5), weights_after(tiny_tagger, seed=6)

    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.usefixtures("few_epochs")
def test_a_long_text_is_cut_where_no_entity_is_open(tiny_tagger, monkeypatch):
    # A piece that began or ended inside an entity would be impossible for the CRF, and its loss in the thousands.
    tagger = untrained(tiny_tagger)
    monkeypatch.setattr(tagger.encoder, "max_characters", 20)

    documents = [Document("", "01" * 20, (Entity(start, start + 5, "PER"),)) for start in (15, 16, 19, 20)]
    fit = Trainer().fit(tagger, documents, [])

    assert max(epoch.loss for epoch in fit.epochs) < 1000


@pytest.mark.usefixtures("few_epochs")
def test_an_entity_longer_than_a_piece_of_text_is_left_out_and_counted(tiny_tagger, monkeypatch):
    tagger = untrained(tiny_tagger)
    monkeypatch.setattr(tagger.encoder, "max_characters", 20)

    fit = Trainer().fit(tagger, [Document("", "01" * 20, (Entity(2, 4, "PER"), Entity(5, 30, "PER")))], [])

    assert fit.dropped_entities == 1
    assert max(epoch.loss for epoch in fit.epochs) < 1000


@pytest.mark.usefixtures("few_epochs")
def test_every_character_of_a_long_text_is_learned_from(tiny_tagger, monkeypatch):
    tagger = untrained(tiny_tagger)
    monkeypatch.setattr(tagger.encoder, "max_characters", 10)
    text = "0" * 29 + "z"

    before = tagger.encoder.embedding.weight.clone()
    Trainer().fit(tagger, [Document("", text, (Entity(29, 30, "PER"),))], [])

    (row,) = tagger.encoder.ids("z")
    assert not torch.equal(tagger.encoder.embedding.weight[row], before[row])


@pytest.mark.usefixtures("few_epochs")
def test_entities_that_flat_tags_cannot_hold_are_counted(tiny_tagger):
    nested = Document("", "abab", (Entity(0, 4, "PER"), Entity(0, 2, "PER"), Entity(2, 4, "PER")))

    fit = Trainer().fit(untrained(tiny_tagger), [nested, *toy(3, seed=1)], [])

    assert fit.dropped_entities == 2


@pytest.mark.usefixtures("few_epochs")
def test_empty_texts_are_passed_over(tiny_tagger):
    fit = Trainer().fit(untrained(tiny_tagger), [Document("", ""), *toy(3, seed=1)], [Document("", "")])

    assert len(fit.epochs) > 0


@pytest.mark.parametrize("documents", [[], [Document("", "")]])
def test_nothing_to_train_on_is_refused(tiny_tagger, documents):
    with pytest.raises(ValueError, match="no training documents"):
        Trainer().fit(untrained(tiny_tagger), documents, [])


def test_a_trained_model_is_ready_to_predict(trained):
    tagger, _, _ = trained

    assert not tagger.training
