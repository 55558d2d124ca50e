import pytest
import torch

from nerloop.encoder import pad
from nerloop.tagger import adapt


def row(tagger, tag):
    number = tagger.tag_set.id_of(tag)
    return torch.cat([tagger.linear.weight[number], tagger.linear.bias[number : number + 1]])


@pytest.mark.parametrize(
    ("tag", "source"), [("B-PER", "B-PER"), ("I-PER", "I-PER"), ("E-PER", "I-PER"), ("S-PER", "B-PER")]
)
def test_a_label_that_a_bio_base_knows_keeps_its_rows(lac, tag, source):
    adapted = adapt(lac, ["PER", "疾病"])

    assert torch.equal(row(adapted, tag), row(lac, source))


def test_a_label_that_a_bioes_base_knows_keeps_all_four_rows(tiny_tagger):
    base = tiny_tagger(labels=("LOC", "PER"))

    adapted = adapt(base, ["ORG", "PER"])

    for kind in "BIES":
        assert torch.equal(row(adapted, f"{kind}-PER"), row(base, f"{kind}-PER"))


def test_no_entity_is_the_mean_of_all_that_the_base_does_not_call_an_entity(lac):
    adapted = adapt(lac, ["PER"])

    outside = [tag for tag in lac.tag_set.tags if tag.partition("-")[2] not in lac.tag_set.labels]
    assert torch.allclose(row(adapted, "O"), torch.stack([row(lac, tag) for tag in outside]).mean(0), atol=1e-6)


def test_a_new_label_starts_small_and_random(lac):
    adapted = adapt(lac, ["PER", "疾病"])

    new = torch.stack([row(adapted, f"{kind}-疾病") for kind in "BIES"])
    assert 0 < float(new.detach().abs().max()) < 0.2
    assert len({tuple(values) for values in new.tolist()}) == 4


def test_a_label_that_is_no_longer_wanted_is_gone(lac):
    adapted = adapt(lac, ["疾病", "PER", "PER"])

    assert adapted.tag_set.labels == ("PER", "疾病")
    assert adapted.linear.out_features == len(adapted.tag_set.tags) == 9


def test_adapting_leaves_the_base_as_it_was_and_shares_its_encoder(tiny_tagger):
    base = tiny_tagger()
    before = base.linear.weight.clone()

    adapted = adapt(base, ["LOC", "疾病"])

    assert adapted.encoder is base.encoder
    assert torch.equal(base.linear.weight, before)
    assert adapted.linear.weight.requires_grad


def test_padding_and_neighbours_never_reach_a_texts_own_scores(tiny_tagger):
    tagger = tiny_tagger()
    ids, lengths = pad([tagger.encoder.ids("0123"), tagger.encoder.ids("0123456789")])

    with torch.inference_mode():
        together = tagger.emissions(ids, lengths)
        alone = tagger.emissions(ids[:1, :4], lengths[:1])

    assert torch.allclose(together[0, :4], alone[0], atol=1e-6)
