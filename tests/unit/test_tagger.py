import itertools

import pytest
import torch

from nerloop.documents import Document, Entity
from nerloop.tagger import adapt, weights_key
from nerloop.tagging import Decoder

PLACE_IN_PLACE = Document("", "北京市", (Entity(0, 2, "LOC"), Entity(0, 3, "LOC")))
NESTED = Decoder.nested(["LOC", "PER"])  # one layer a label
DEEP = Decoder.nested(["LOC", "PER"], [PLACE_IN_PLACE])  # LOC, LOC, PER


def row(tagger, tag, layer=0):
    layers = tagger.decoder.layers
    number = sum(len(before.tags) for before in layers[:layer]) + layers[layer].id_of(tag)
    return torch.cat([tagger.linear.weight[number], tagger.linear.bias[number : number + 1]])


def mean_row(tagger, *places):
    return torch.stack([row(tagger, tag, layer) for tag, layer in places]).mean(0)


def crf_weights(tagger, tags, layer=0):
    """Start, end and pairwise weights of some tags of a layer."""
    ids = [tagger.decoder.layers[layer].id_of(tag) for tag in tags]
    crf = tagger.crf
    pairs = crf.transitions[layer, ids][:, ids].flatten()
    return torch.cat([crf.start_transitions[layer, ids], crf.end_transitions[layer, ids], pairs])


def bioes(label):
    return [f"{kind}-{label}" for kind in "BIES"]


def is_new(values):
    """Tell whether rows are small, random and all different."""
    return 0 < float(values.detach().abs().max()) < 0.2 and len({tuple(v) for v in values.tolist()}) == len(values)


@pytest.fixture
def base(tiny_tagger):
    """Builds a base whose CRF weights are all different, as those of a trained one are."""

    def build(decoder):
        tagger = tiny_tagger(decoder=decoder)
        generator = torch.Generator().manual_seed(7)
        for weights in tagger.crf.parameters():
            weights.data = torch.randn(weights.shape, generator=generator)
        return tagger

    return build


@pytest.mark.parametrize(
    ("tag", "source"), [("B-PER", "B-PER"), ("I-PER", "I-PER"), ("E-PER", "I-PER"), ("S-PER", "B-PER")]
)
@pytest.mark.parametrize(
    ("decoder", "layer"),
    [(Decoder.flat(["PER", "疾病"]), 0), (Decoder.nested(["PER", "疾病"]), 0)],
    ids=["flat", "nested"],
)
def test_a_label_that_a_bio_base_knows_keeps_its_rows(lac, decoder, layer, tag, source):
    adapted = adapt(lac, decoder)

    assert torch.equal(row(adapted, tag, layer), row(lac, source))


def test_of_a_bio_base_no_crf_weights_are_kept_because_its_tags_mean_something_else(lac):
    adapted = adapt(lac, Decoder.flat(["PER", "疾病"]))

    assert all(not weights.any() for weights in adapted.crf.parameters())


def test_a_label_that_a_bioes_base_knows_keeps_its_rows_and_its_crf_weights(base):
    before = base(Decoder.flat(["LOC", "PER"]))

    adapted = adapt(before, Decoder.flat(["ORG", "PER"]))

    kept = ["O", *bioes("PER")]
    assert all(torch.equal(row(adapted, tag), row(before, tag)) for tag in kept)
    assert torch.equal(crf_weights(adapted, kept), crf_weights(before, kept))
    assert not crf_weights(adapted, bioes("ORG")).any()


def test_the_same_labels_again_give_the_same_model(base):
    for decoder in (Decoder.flat(["LOC", "PER"]), NESTED, DEEP):
        before = base(decoder)
        adapted = adapt(before, decoder)

        assert weights_key(adapted) == weights_key(before)


def test_a_nested_base_keeps_its_layers_when_a_label_is_added_between_them(base):
    before = base(DEEP)

    adapted = adapt(before, Decoder.nested(["LOC", "ORG", "PER"], [PLACE_IN_PLACE]))

    for old, new, label in ((0, 0, "LOC"), (1, 1, "LOC"), (2, 3, "PER")):
        tags = ["O", *bioes(label)]
        assert all(torch.equal(row(adapted, tag, new), row(before, tag, old)) for tag in tags)
        assert torch.equal(crf_weights(adapted, tags, new), crf_weights(before, tags, old))
    assert is_new(torch.stack([row(adapted, tag, 2) for tag in bioes("ORG")]))
    assert not crf_weights(adapted, bioes("ORG"), 2).any()


def test_a_nested_base_loses_the_layers_of_a_label_that_is_gone(base):
    before = base(DEEP)

    adapted = adapt(before, Decoder.nested(["PER"]))

    tags = ["O", *bioes("PER")]
    assert adapted.linear.out_features == 5
    assert all(torch.equal(row(adapted, tag, 0), row(before, tag, 2)) for tag in tags)
    assert torch.equal(crf_weights(adapted, tags, 0), crf_weights(before, tags, 2))


def test_a_new_depth_of_a_known_label_starts_small_and_random(base):
    before = base(NESTED)

    adapted = adapt(before, DEEP)

    assert torch.equal(row(adapted, "B-LOC", 0), row(before, "B-LOC", 0))
    assert torch.equal(row(adapted, "B-PER", 2), row(before, "B-PER", 1))
    assert is_new(torch.stack([row(adapted, tag, 1) for tag in bioes("LOC")]))


def test_a_flat_base_gives_each_label_its_layer(base):
    before = base(Decoder.flat(["LOC", "PER"]))

    adapted = adapt(before, NESTED)

    for layer, label in enumerate(("LOC", "PER")):
        tags = ["O", *bioes(label)]
        assert all(torch.equal(row(adapted, tag, layer), row(before, tag)) for tag in tags)
        assert torch.equal(crf_weights(adapted, tags, layer), crf_weights(before, tags))


def test_a_nested_base_gives_its_outermost_layers_to_a_flat_decoder(base):
    before = base(DEEP)

    adapted = adapt(before, Decoder.flat(["LOC", "PER"]))

    for label, layer in (("LOC", 0), ("PER", 2)):
        assert all(torch.equal(row(adapted, tag), row(before, tag, layer)) for tag in bioes(label))
        assert torch.equal(crf_weights(adapted, bioes(label)), crf_weights(before, bioes(label), layer))
    assert torch.allclose(row(adapted, "O"), mean_row(before, ("O", 0), ("O", 2)))
    ids = [[adapted.decoder.layers[0].id_of(tag) for tag in bioes(label)] for label in ("LOC", "PER")]
    for one, other in itertools.permutations(ids):  # the base never saw these tags side by side
        assert not adapted.crf.transitions[0, one][:, other].any()


@pytest.mark.parametrize(
    "decoder", [Decoder.flat(["人名", "疾病"]), Decoder.nested(["人名", "疾病"])], ids=["flat", "nested"]
)
@pytest.mark.parametrize("known", [Decoder.flat(["LOC", "PER"]), NESTED], ids=["flat base", "nested base"])
def test_a_label_the_project_calls_otherwise_keeps_its_rows(base, known, decoder):
    before = base(known)
    there = len(known.layers) - 1

    adapted = adapt(before, decoder, {"人名": "PER"})

    for old, new in zip(bioes("PER"), bioes("人名"), strict=True):
        assert torch.equal(row(adapted, new), row(before, old, there))
    assert torch.equal(crf_weights(adapted, bioes("人名")), crf_weights(before, bioes("PER"), there))
    assert torch.equal(row(adapted, "O"), row(before, "O", there))
    assert is_new(torch.stack([row(adapted, tag, len(decoder.layers) - 1) for tag in bioes("疾病")]))


def test_labels_that_change_names_with_each_other_change_rows(base):
    before = base(Decoder.flat(["LOC", "PER"]))

    adapted = adapt(before, Decoder.flat(["LOC", "PER"]), {"LOC": "PER", "PER": "LOC"})

    assert torch.equal(row(adapted, "B-LOC"), row(before, "B-PER"))
    assert torch.equal(row(adapted, "B-PER"), row(before, "B-LOC"))


@pytest.mark.parametrize("kind", [Decoder.flat, Decoder.nested])
def test_no_entity_is_the_mean_of_all_that_the_base_does_not_call_an_entity(lac, kind):
    adapted = adapt(lac, kind(["PER", "疾病"]))

    (tag_set,) = lac.decoder.layers
    outside = [(tag, 0) for tag in tag_set.tags if tag.partition("-")[2] not in tag_set.labels]
    for layer in range(len(adapted.decoder.layers)):
        assert torch.allclose(row(adapted, "O", layer), mean_row(lac, *outside), atol=1e-6)


def test_a_new_label_starts_small_and_random_and_always_the_same(lac):
    one, other = (adapt(lac, Decoder.flat(["PER", "疾病"])) for _ in range(2))

    assert is_new(torch.stack([row(one, tag) for tag in bioes("疾病")]))
    assert weights_key(one) == weights_key(other)


def test_a_base_that_knows_none_of_the_labels_gives_its_encoder(base):
    before = base(Decoder.flat(["LOC", "PER"]))

    adapted = adapt(before, Decoder.nested(["疾病", "药品"]))

    assert adapted.encoder is before.encoder
    assert torch.equal(row(adapted, "O", 0), row(before, "O"))
    assert is_new(torch.stack([row(adapted, f"{kind}-疾病", 0) for kind in "BIES"]))


def test_a_label_that_is_no_longer_wanted_is_gone(lac):
    adapted = adapt(lac, Decoder.flat(["疾病", "PER", "PER"]))

    assert adapted.decoder.labels == ("PER", "疾病")
    assert adapted.linear.out_features == len(adapted.decoder.layers[0].tags) == 9


def test_adapting_leaves_the_base_as_it_was_and_shares_its_encoder(base):
    before = base(Decoder.flat(["LOC", "PER"]))
    key = weights_key(before)

    adapted = adapt(before, Decoder.nested(["LOC", "疾病"]))

    assert adapted.encoder is before.encoder
    assert weights_key(before) == key
    assert adapted.linear.weight.requires_grad


def test_padding_and_neighbours_never_reach_a_texts_own_scores(tiny_tagger, tiny_transformer):
    for tagger, texts in (
        (tiny_tagger(decoder=DEEP), ["0123", "0123456789"]),
        (tiny_transformer(DEEP), ["张三", "张三在北京"]),
    ):
        tokens = [tagger.encoder.tokenizer.tokenize(text) for text in texts]

        with torch.inference_mode():
            together = tagger.emissions(tagger.encoder.collate(tokens))
            alone = tagger.emissions(tagger.encoder.collate(tokens[:1]))

        assert torch.allclose(together[:, :1, : len(texts[0])], alone, atol=1e-6)


def test_a_gru_reads_texts_of_different_lengths_alike_in_training_and_in_prediction(tiny_tagger):
    tagger = tiny_tagger(decoder=DEEP)
    tokens = [tagger.encoder.tokenizer.tokenize(text) for text in ("0123", "7", "0123456789", "98")]
    batch = tagger.encoder.collate(tokens)

    with torch.inference_mode():
        predicting = tagger.emissions(batch)
    tagger.encoder.train()
    tagger.encoder.dropout.p = 0.0
    training = tagger.emissions(batch)

    assert not torch.equal(training, predicting)  # padding differs: another computation
    for row, length in enumerate(batch.lengths.tolist()):
        assert torch.allclose(training[:, row, :length], predicting[:, row, :length], atol=1e-6)


def test_each_layer_reads_its_own_scores(tiny_tagger):
    tagger = tiny_tagger(decoder=DEEP)
    batch = tagger.encoder.collate([tagger.encoder.tokenizer.tokenize("0123")])
    with torch.no_grad():
        before = tagger.emissions(batch)
        tagger.linear.bias[tagger.decoder.layers[0].id_of("B-LOC") + 5] += 1  # the second of three layers of five tags
        changed = tagger.emissions(batch) - before

    expected = torch.zeros_like(changed)
    expected[1, :, :, 1] = 1
    assert torch.allclose(changed, expected, atol=1e-6)


def test_the_loss_of_layers_is_the_sum_of_their_losses(tiny_tagger):
    tagger = tiny_tagger(decoder=DEEP)
    batch = tagger.encoder.collate([tagger.encoder.tokenizer.tokenize(text) for text in ("012", "01")])
    rows = torch.zeros(3, 2, 3, dtype=torch.long)

    with torch.no_grad():
        loss = tagger(batch, rows)
        log_z = tagger.crf.marginals(tagger.emissions(batch), batch.lengths).log_z
        outside = tagger.emissions(batch)[..., 0] * (torch.arange(3) < batch.lengths[:, None])

    assert loss.item() == pytest.approx((log_z.sum() - outside.sum()).item() / 2, abs=1e-4)  # untrained moves cost 0
