import itertools
from dataclasses import dataclass
from functools import cache

import pytest
import torch

from nerloop.crf import Crf, SpanPath
from nerloop.documents import Entity
from nerloop.tagging import TagSet

BIOES = TagSet.bioes(["X", "Y"])
BIO = TagSet(("O", "B-X", "I-X", "B-noun", "I-noun"), ("X",))
BOTH = pytest.mark.parametrize("tag_set", [BIOES, BIO], ids=["BIOES", "BIO"])
LENGTH = 4


def random_crf(tag_set, seed=0):
    generator = torch.Generator().manual_seed(seed)
    crf = Crf(tag_set).double()
    for weights in crf.parameters():
        weights.data = torch.randn(weights.shape, generator=generator, dtype=torch.double)
    return crf


def random_emissions(tag_set, texts, length=LENGTH, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(texts, length, len(tag_set.tags), generator=generator, dtype=torch.double)


@cache
def legal_paths(tag_set, length):
    paths = itertools.product(range(len(tag_set.tags)), repeat=length)
    return [path for path in paths if is_legal(tag_set, path)]


@dataclass
class EveryPath:
    """All legal tag paths of one text and their scores, the slow way: what the CRF must agree with."""

    paths: list
    scores: torch.Tensor

    @classmethod
    def of(cls, crf, tag_set, emissions):
        paths = legal_paths(tag_set, len(emissions))
        tags = torch.tensor(paths)
        scores = crf.start_transitions[tags[:, 0]] + crf.end_transitions[tags[:, -1]]
        for position in range(len(emissions)):
            scores = scores + emissions[position, tags[:, position]]
        for position in range(1, len(emissions)):
            scores = scores + crf.transitions[tags[:, position - 1], tags[:, position]]
        return cls(paths, scores)

    @property
    def log_z(self):
        return self.scores.logsumexp(0)

    def probability(self, holds, temperature=1.0):
        chosen = torch.tensor([holds(path) for path in self.paths])
        return (self.scores / temperature).softmax(0)[chosen].sum().item()


def is_legal(tag_set, path):
    steps = all(tag_set.may_follow(before, after) for before, after in itertools.pairwise(path))
    return steps and tag_set.may_start(path[0]) and tag_set.may_end(path[-1])


def span_path(tag_set, row, entity):
    length = entity.end - entity.start
    if tag_set is BIO:
        kinds, then_not = "B" + "I" * (length - 1), BIO.id_of(f"I-{entity.label}")
    else:
        kinds, then_not = "S" if length == 1 else "B" + "I" * (length - 2) + "E", None
    return SpanPath(row, entity.start, tuple(tag_set.id_of(f"{kind}-{entity.label}") for kind in kinds), then_not)


def spans_of(tag_set, length):
    return [Entity(a, b, label) for label in tag_set.labels for a in range(length) for b in range(a + 1, length + 1)]


@BOTH
@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_log_z_sums_over_every_legal_path(tag_set, temperature):
    crf, emissions = random_crf(tag_set), random_emissions(tag_set, 2)

    marginals = crf.marginals(emissions, torch.tensor([LENGTH, LENGTH]), temperature)

    expected = [(EveryPath.of(crf, tag_set, text).scores / temperature).logsumexp(0) for text in emissions]
    assert marginals.log_z.tolist() == pytest.approx([value.item() for value in expected])


@BOTH
@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_tag_marginals_are_the_share_of_paths_with_that_tag(tag_set, temperature):
    crf, emissions = random_crf(tag_set), random_emissions(tag_set, 1)
    every = EveryPath.of(crf, tag_set, emissions[0])

    tags = crf.marginals(emissions, torch.tensor([LENGTH]), temperature).tags()[0]

    for position, tag in itertools.product(range(LENGTH), range(len(tag_set.tags))):
        expected = every.probability(lambda path, p=position, t=tag: path[p] == t, temperature)
        assert tags[position, tag].item() == pytest.approx(expected)


@BOTH
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_span_is_as_likely_as_all_paths_that_hold_exactly_this_entity(tag_set, temperature):
    crf, emissions = random_crf(tag_set), random_emissions(tag_set, 1)
    every = EveryPath.of(crf, tag_set, emissions[0])
    entities = spans_of(tag_set, LENGTH)

    marginals = crf.marginals(emissions, torch.tensor([LENGTH]), temperature)
    found = marginals.spans([span_path(tag_set, 0, entity) for entity in entities])

    expected = [every.probability(lambda p, e=entity: e in tag_set.decode(p), temperature) for entity in entities]
    assert found == pytest.approx(expected)


@BOTH
def test_a_span_is_as_likely_beside_a_longer_text_as_alone(tag_set):
    crf, emissions = random_crf(tag_set), random_emissions(tag_set, 2, length=LENGTH + 2)
    entities = spans_of(tag_set, LENGTH)
    paths = [span_path(tag_set, 0, entity) for entity in entities]

    together = crf.marginals(emissions, torch.tensor([LENGTH, LENGTH + 2])).spans(paths)
    alone = crf.marginals(emissions[:1, :LENGTH], torch.tensor([LENGTH])).spans(paths)

    assert together == pytest.approx(alone)


@BOTH
def test_texts_of_different_lengths_in_a_batch_do_not_touch_each_other(tag_set):
    crf, emissions = random_crf(tag_set), random_emissions(tag_set, 4)
    lengths = [1, 4, 2, 3]

    together = crf.marginals(emissions, torch.tensor(lengths))

    for row, length in enumerate(lengths):
        alone = crf.marginals(emissions[row : row + 1, :length], torch.tensor([length]))
        assert torch.allclose(together.tags()[row, :length], alone.tags()[0])
        assert together.log_z[row].item() == pytest.approx(alone.log_z.item())


@BOTH
@pytest.mark.parametrize("seed", range(5))
def test_viterbi_finds_the_best_legal_path(tag_set, seed):
    crf, emissions = random_crf(tag_set, seed), random_emissions(tag_set, 4, seed=seed + 100)
    lengths = [1, 4, 2, 3]

    decoded = crf.decode(emissions, torch.tensor(lengths))

    for row, length in enumerate(lengths):
        every = EveryPath.of(crf, tag_set, emissions[row, :length])
        assert tuple(decoded[row]) == every.paths[int(every.scores.argmax())]


def test_no_emission_is_strong_enough_for_an_illegal_path():
    crf = Crf(BIOES)
    emissions = torch.zeros(1, 3, len(BIOES.tags))
    emissions[0, :, BIOES.id_of("I-X")] = 100.0

    (path,) = crf.decode(emissions, torch.tensor([3]))

    assert is_legal(BIOES, path)
    assert crf.marginals(emissions, torch.tensor([3])).tags()[0, 0, BIOES.id_of("I-X")] == 0


def test_the_loss_stays_right_however_strong_an_illegal_tag_is():
    emissions = torch.zeros(1, 2, len(BIOES.tags))
    emissions[0, 0, BIOES.id_of("I-X")] = 1000.0
    every = EveryPath.of(Crf(BIOES), BIOES, emissions[0])

    loss = Crf(BIOES).negative_log_likelihood(emissions, torch.tensor([[0, 0]]), torch.tensor([2]))

    assert loss.item() == pytest.approx(every.log_z.item(), abs=1e-3)


def test_probabilities_stay_numbers_however_strong_an_illegal_tag_is():
    emissions = torch.zeros(1, 2, len(BIOES.tags))
    emissions[0, 0, BIOES.id_of("I-X")] = 1000.0

    marginals = Crf(BIOES).marginals(emissions, torch.tensor([2]))

    assert bool(marginals.tags().isfinite().all())


@BOTH
def test_the_loss_is_the_mean_negative_log_probability_of_the_gold_paths(tag_set):
    crf, emissions = random_crf(tag_set), random_emissions(tag_set, 3)
    lengths = [4, 1, 3]
    gold, naive = gold_and_naive_loss(crf, tag_set, emissions, lengths)

    loss = crf.negative_log_likelihood(emissions, gold, torch.tensor(lengths))

    assert loss.item() == pytest.approx(naive.item())


@BOTH
def test_the_gradients_are_those_of_a_plain_log_sum_exp(tag_set):
    crf, emissions = random_crf(tag_set), random_emissions(tag_set, 3).requires_grad_()
    lengths = [4, 1, 3]
    variables = [emissions, *crf.parameters()]
    gold, naive = gold_and_naive_loss(crf, tag_set, emissions, lengths)

    loss = crf.negative_log_likelihood(emissions, gold, torch.tensor(lengths))

    expected = torch.autograd.grad(naive, variables)
    for gradient, plain in zip(torch.autograd.grad(loss, variables), expected, strict=True):
        assert torch.allclose(gradient, plain, atol=1e-9)


def gold_and_naive_loss(crf, tag_set, emissions, lengths):
    gold, losses = torch.zeros(len(lengths), max(lengths), dtype=torch.long), []
    for row, length in enumerate(lengths):
        every = EveryPath.of(crf, tag_set, emissions[row, :length])
        chosen = (7 * row + 5) % len(every.paths)
        gold[row, :length] = torch.tensor(every.paths[chosen])
        losses.append(every.log_z - every.scores[chosen])
    return gold, torch.stack(losses).mean()


def test_a_loss_of_32_bit_emissions_is_32_bit_and_can_be_trained():
    crf = Crf(BIOES)
    emissions = torch.zeros(1, 3, len(BIOES.tags), requires_grad=True)

    loss = crf.negative_log_likelihood(emissions, torch.tensor([[0, 1, 3]]), torch.tensor([3]))
    loss.backward()

    assert loss.dtype == torch.float32


def test_a_higher_temperature_makes_the_best_path_less_sure():
    crf, emissions = random_crf(BIOES), random_emissions(BIOES, 1)
    lengths = torch.tensor([LENGTH])

    sureness = [crf.marginals(emissions, lengths, t).tags().amax(-1).mean().item() for t in (0.5, 1.0, 2.0, 4.0)]

    assert sureness == sorted(sureness, reverse=True)


def test_no_spans_have_no_probabilities():
    marginals = Crf(BIO).marginals(torch.zeros(1, 1, len(BIO.tags)), torch.tensor([1]))

    assert marginals.spans([]) == []
