import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerloop.crf import Crf, SpanPath
from nerloop.documents import Entity
from nerloop.tagging import TagSet

BIOES = TagSet.bioes(["X", "Y"])
BIO = TagSet(("O", "B-X", "I-X", "B-noun", "I-noun"), ("X",))
LAYERS = {"BIOES": (BIOES,), "BIO": (BIO,), "nested": (TagSet.bioes(["X"]), TagSet.bioes(["Y"]), TagSet.bioes(["Y"]))}
EVERY_KIND = pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
LENGTH = 4
few = settings(max_examples=20)


@dataclass
class Case:
    """Random weights and emissions for a batch of texts of several lengths."""

    crf: Crf
    emissions: torch.Tensor
    lengths: list

    @property
    def inputs(self):
        return self.emissions, torch.tensor(self.lengths)

    def texts(self):
        """The emissions of every text without its padding: (layer, row, emissions)."""
        for layer, (row, length) in itertools.product(range(len(self.emissions)), enumerate(self.lengths)):
            yield layer, row, self.emissions[layer, row, :length]


def random_crf(layers, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    crf = Crf(layers).double()
    for weights in crf.parameters():
        weights.data = scale * torch.randn(weights.shape, generator=generator, dtype=torch.double)
    return crf


def random_emissions(layers, texts, length=LENGTH, seed=1, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    shape = len(layers), texts, length, len(layers[0].tags)
    return scale * torch.randn(shape, generator=generator, dtype=torch.double)


def case(layers, seed=0, scale=2.0, lengths=(4, 1, 3)):
    emissions = random_emissions(layers, len(lengths), max(lengths), seed + 1, scale)
    return Case(random_crf(layers, seed, scale / 2), emissions, list(lengths))


seeds = st.integers(0, 10_000)
scales = st.sampled_from([0.1, 2.0, 20.0])
temperatures = st.sampled_from([0.6, 1.0, 2.5])
lengths = st.lists(st.integers(1, LENGTH), min_size=1, max_size=3)


def is_legal(tag_set, path):
    steps = all(tag_set.may_follow(before, after) for before, after in itertools.pairwise(path))
    return steps and tag_set.may_start(path[0]) and tag_set.may_end(path[-1])


def span_path(layer, tag_set, row, entity):
    length = entity.end - entity.start
    if tag_set is BIO:
        kinds, then_not = "B" + "I" * (length - 1), BIO.id_of(f"I-{entity.label}")
    else:
        kinds, then_not = "S" if length == 1 else "B" + "I" * (length - 2) + "E", None
    tags = tuple(tag_set.id_of(f"{kind}-{entity.label}") for kind in kinds)
    return SpanPath(layer, row, entity.start, tags, then_not)


def spans_of(tag_set, length):
    return [Entity(a, b, label) for label in tag_set.labels for a in range(length) for b in range(a + 1, length + 1)]


@EVERY_KIND
@few
@given(seeds, scales, temperatures, lengths)
def test_log_z_sums_over_every_legal_path(every_path, layers, seed, scale, temperature, lengths):
    made = case(layers, seed, scale, lengths)

    log_z = made.crf.marginals(*made.inputs, temperature).log_z

    for layer, row, text in made.texts():
        scores = every_path(made.crf, layers[layer], text, layer).scores / temperature
        assert log_z[layer, row].item() == pytest.approx(scores.logsumexp(0).item())


@EVERY_KIND
@few
@given(seeds, scales, temperatures, lengths)
def test_tag_marginals_are_the_share_of_paths_with_that_tag(every_path, layers, seed, scale, temperature, lengths):
    made = case(layers, seed, scale, lengths)

    tags = made.crf.marginals(*made.inputs, temperature).tags()

    for layer, row, text in made.texts():
        every = every_path(made.crf, layers[layer], text, layer)
        shares = (every.scores / temperature).softmax(0)
        with_tag = torch.nn.functional.one_hot(torch.tensor(every.paths), len(layers[layer].tags))
        expected = (with_tag * shares[:, None, None]).sum(0)
        assert torch.allclose(tags[layer, row, : len(text)], expected, atol=1e-9)


@EVERY_KIND
@few
@given(seeds, scales, temperatures, lengths)
def test_a_span_is_as_likely_as_all_paths_that_hold_exactly_this_entity(
    every_path, layers, seed, scale, temperature, lengths
):
    made = case(layers, seed, scale, lengths)
    paths, expected = [], []
    for layer, row, text in made.texts():
        every = every_path(made.crf, layers[layer], text, layer)
        decoded = [layers[layer].decode(path) for path in every.paths]
        shares = (every.scores / temperature).softmax(0).tolist()
        for entity in spans_of(layers[layer], len(text)):
            paths.append(span_path(layer, layers[layer], row, entity))
            expected.append(sum(share for share, found in zip(shares, decoded, strict=True) if entity in found))

    found = made.crf.marginals(*made.inputs, temperature).spans(paths)

    assert found == pytest.approx(expected, abs=1e-9)


@EVERY_KIND
@few
@given(seeds, scales, lengths)
def test_viterbi_finds_the_best_legal_path_and_its_score(every_path, layers, seed, scale, lengths):
    made = case(layers, seed, scale, lengths)

    best = made.crf.decode(*made.inputs)

    for layer, row, text in made.texts():
        every = every_path(made.crf, layers[layer], text, layer)
        assert tuple(best.tags[layer, row, : len(text)].tolist()) == every.paths[int(every.scores.argmax())]
        assert best.scores[layer, row].item() == pytest.approx(every.scores.max().item())


@EVERY_KIND
def test_padding_repeats_the_last_tag_of_the_best_path(layers):
    made = case(layers, lengths=(4, 1, 2))

    tags = made.crf.decode(*made.inputs).tags

    for layer, (row, length) in itertools.product(range(len(layers)), enumerate(made.lengths)):
        assert set(tags[layer, row, length - 1 :].tolist()) == {tags[layer, row, length - 1].item()}


@EVERY_KIND
def test_a_span_is_as_likely_beside_a_longer_text_as_alone(layers):
    crf, emissions = random_crf(layers), random_emissions(layers, 2, length=LENGTH + 2)
    paths = [
        span_path(number, layer, 0, entity) for number, layer in enumerate(layers) for entity in spans_of(layer, LENGTH)
    ]

    together = crf.marginals(emissions, torch.tensor([LENGTH, LENGTH + 2])).spans(paths)
    alone = crf.marginals(emissions[:, :1, :LENGTH], torch.tensor([LENGTH])).spans(paths)

    assert together == pytest.approx(alone)


@EVERY_KIND
@few
@given(seeds)
def test_texts_of_different_lengths_in_a_batch_do_not_touch_each_other(layers, seed):
    made = case(layers, seed, lengths=(1, 4, 2, 3))

    together, best = made.crf.marginals(*made.inputs), made.crf.decode(*made.inputs)

    for row, length in enumerate(made.lengths):
        text = made.emissions[:, row : row + 1, :length], torch.tensor([length])
        alone, best_alone = made.crf.marginals(*text), made.crf.decode(*text)
        assert torch.allclose(together.tags()[:, row, :length], alone.tags()[:, 0])
        assert torch.allclose(together.log_z[:, row], alone.log_z[:, 0])
        assert torch.equal(best.tags[:, row, :length], best_alone.tags[:, 0])
        assert torch.allclose(best.scores[:, row], best_alone.scores[:, 0])


@few
@given(seeds, scales, lengths)
def test_layers_give_exactly_what_crfs_of_their_own_give(seed, scale, lengths):
    layers = LAYERS["nested"]
    made = case(layers, seed, scale, lengths)
    marginals, best = made.crf.marginals(*made.inputs, 1.5), made.crf.decode(*made.inputs)
    paths = [
        [span_path(n, layer, row, e) for row, length in enumerate(lengths) for e in spans_of(layer, length)]
        for n, layer in enumerate(layers)
    ]

    for number, layer in enumerate(layers):
        single = alone(made.crf, number, layer)
        emissions, sizes = made.emissions[number : number + 1], torch.tensor(lengths)
        expected, path = single.marginals(emissions, sizes, 1.5), single.decode(emissions, sizes)
        assert torch.equal(best.tags[number], path.tags[0])
        assert torch.equal(best.scores[number], path.scores[0])
        assert torch.allclose(marginals.log_z[number], expected.log_z[0], rtol=1e-12)
        assert torch.allclose(marginals.tags()[number], expected.tags()[0], rtol=1e-12)
        in_one = [SpanPath(0, p.row, p.start, p.tags, p.then_not) for p in paths[number]]
        assert marginals.spans(paths[number]) == pytest.approx(expected.spans(in_one), rel=1e-12)


def test_spans_of_several_layers_are_asked_at_once():
    layers = LAYERS["nested"]
    made = case(layers)
    paths = [
        span_path(number, layer, row, entity)
        for row, length in enumerate(made.lengths)
        for number, layer in enumerate(layers)
        for entity in spans_of(layer, length)
    ]
    marginals = made.crf.marginals(*made.inputs)

    assert marginals.spans(paths) == pytest.approx([marginals.spans([path])[0] for path in paths])


def alone(crf, number, layer):
    """One layer of a CRF, as a CRF of its own."""
    single = Crf([layer]).double()
    with torch.no_grad():
        for mine, theirs in zip(single.parameters(), crf.parameters(), strict=True):
            mine.copy_(theirs[number : number + 1])
    return single


def test_no_emission_is_strong_enough_for_an_illegal_path():
    crf = Crf([BIOES])
    emissions = torch.zeros(1, 1, 3, len(BIOES.tags))
    emissions[..., BIOES.id_of("I-X")] = 100.0

    path = crf.decode(emissions, torch.tensor([3])).tags[0, 0].tolist()

    assert is_legal(BIOES, path)
    assert crf.marginals(emissions, torch.tensor([3])).tags()[0, 0, 0, BIOES.id_of("I-X")] == 0


def test_the_loss_stays_right_however_strong_an_illegal_tag_is(every_path):
    emissions = torch.zeros(1, 1, 2, len(BIOES.tags))
    emissions[0, 0, 0, BIOES.id_of("I-X")] = 1000.0
    every = every_path(Crf([BIOES]), BIOES, emissions[0, 0])

    loss = Crf([BIOES]).negative_log_likelihood(emissions, torch.tensor([[[0, 0]]]), torch.tensor([2]))

    assert loss.item() == pytest.approx(every.log_z.item(), abs=1e-3)


def test_probabilities_stay_numbers_however_strong_an_illegal_tag_is():
    emissions = torch.zeros(1, 1, 2, len(BIOES.tags))
    emissions[0, 0, 0, BIOES.id_of("I-X")] = 1000.0

    marginals = Crf([BIOES]).marginals(emissions, torch.tensor([2]))

    assert bool(marginals.tags().isfinite().all())


def test_a_text_of_thousands_of_characters_keeps_probabilities_that_sum_to_one():
    made = case((BIOES,), scale=20.0, lengths=(3000, 1))

    marginals = made.crf.marginals(*made.inputs)

    assert torch.allclose(marginals.tags().sum(-1), torch.ones(1, 2, 3000, dtype=torch.double))
    assert bool((made.crf.decode(*made.inputs).scores <= marginals.log_z).all())


@EVERY_KIND
@few
@given(seeds, scales, lengths)
def test_the_loss_is_the_mean_negative_log_probability_of_the_gold_paths(every_path, layers, seed, scale, lengths):
    made = case(layers, seed, scale, lengths)
    gold, naive = gold_and_naive_loss(every_path, made, layers)

    loss = made.crf.negative_log_likelihood(made.emissions, gold, torch.tensor(lengths))

    assert loss.item() == pytest.approx(naive.item(), abs=1e-9)


@EVERY_KIND
@few
@given(seeds, scales, lengths)
def test_the_gradients_are_those_of_a_plain_log_sum_exp(every_path, layers, seed, scale, lengths):
    made = case(layers, seed, scale, lengths)
    variables = [made.emissions.requires_grad_(), *made.crf.parameters()]
    gold, naive = gold_and_naive_loss(every_path, made, layers)

    loss = made.crf.negative_log_likelihood(made.emissions, gold, torch.tensor(lengths))

    expected = torch.autograd.grad(naive, variables, allow_unused=True)  # one character moves nowhere
    for gradient, plain in zip(torch.autograd.grad(loss, variables), expected, strict=True):
        assert torch.allclose(gradient, torch.zeros_like(gradient) if plain is None else plain, atol=1e-9)


@EVERY_KIND
def test_the_gradients_are_those_of_small_steps(every_path, layers):
    made = case(layers, scale=1.0, lengths=(2, 1))
    gold, _ = gold_and_naive_loss(every_path, made, layers)
    weights = tuple(made.crf.parameters())

    def loss(emissions, *_):
        return made.crf.negative_log_likelihood(emissions, gold, torch.tensor(made.lengths))

    assert torch.autograd.gradcheck(loss, (made.emissions.requires_grad_(), *weights), fast_mode=True)


def gold_and_naive_loss(every_path, made, layers):
    gold = torch.zeros(made.emissions.shape[:3], dtype=torch.long)
    losses = []
    for layer, row, text in made.texts():
        every = every_path(made.crf, layers[layer], text, layer)
        chosen = (7 * row + 5 * layer + 3) % len(every.paths)
        gold[layer, row, : len(text)] = torch.tensor(every.paths[chosen])
        losses.append(every.log_z - every.scores[chosen])
    return gold, torch.stack(losses).sum() / len(made.lengths)


def test_a_loss_of_32_bit_emissions_is_32_bit_and_can_be_trained():
    crf = Crf([BIOES])
    emissions = torch.zeros(1, 1, 3, len(BIOES.tags), requires_grad=True)

    loss = crf.negative_log_likelihood(emissions, torch.tensor([[[0, 1, 3]]]), torch.tensor([3]))
    loss.backward()

    assert loss.dtype == torch.float32
    assert float(emissions.grad[0, 0, 1, 1]) < 0


def test_a_higher_temperature_makes_the_best_path_less_sure():
    crf, emissions = random_crf((BIOES,)), random_emissions((BIOES,), 1)
    lengths = torch.tensor([LENGTH])

    sureness = [crf.marginals(emissions, lengths, t).tags().amax(-1).mean().item() for t in (0.5, 1.0, 2.0, 4.0)]

    assert sureness == sorted(sureness, reverse=True)


def test_no_spans_have_no_probabilities():
    marginals = Crf([BIO]).marginals(torch.zeros(1, 1, 1, len(BIO.tags)), torch.tensor([1]))

    assert marginals.spans([]) == []
