import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nerloop import runtime
from nerloop.encoder import Batch
from nerloop.predictor import Predictor
from nerloop.runtime import (
    EXACT,
    INEXACT,
    Choice,
    TorchRuntime,
    build,
    fastest,
    graphs_folder,
    machine_key,
    set_threads,
    threads_for,
)
from nerloop.tagger import weights_key
from nerloop.tagging import Decoder

LENGTHS = (1, 2, 3, 17, 48, 50)
POSITIONS = 64  # candidates are timed on texts of 48 ids
# Rounding of bf16 (8 bits) and of int8 against the largest score.
TOLERANCE = {"torch-bf16": 0.05, "onnx-int8": 0.1}


@pytest.fixture(autouse=True)
def timed_briefly_on_one_thread(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(runtime, "SECONDS_EACH", 0.005)
    monkeypatch.setattr(runtime, "threads_for", lambda _: 1)  # of models this small, threads only wait for each other


@pytest.fixture(scope="module")
def taggers(tiny_tagger, tiny_transformer):
    measures = {"num_hidden_layers": 2, "max_position_embeddings": POSITIONS}
    return {
        "a GRU": tiny_tagger(hidden_size=32),
        "a nested GRU": tiny_tagger(decoder=Decoder.nested(["LOC", "PER"])),
        "BERT": tiny_transformer(**measures),
        "nested BERT": tiny_transformer(Decoder.nested(["LOC", "PER"]), **measures),
    }


@pytest.fixture(scope="module")
def folders(taggers, tmp_path_factory):
    """Where the graphs of each tagger lie; made once."""
    return {kind: tmp_path_factory.mktemp("graphs") for kind in taggers}


KINDS = ("a GRU", "a nested GRU", "BERT", "nested BERT")


def texts(lengths, seed=0):
    rng = random.Random(seed)
    return ["".join(rng.choices("张三在北京市012abc，", k=length)) for length in lengths]


def batch_of(tagger, written):
    return tagger.encoder.collate([tagger.encoder.tokenizer.tokenize(text) for text in written])


def emissions(serving, tagger, written):
    """The tag scores of each text, without padding."""
    batch = batch_of(tagger, written)
    found = serving.emissions(batch)
    assert found.dtype == torch.float32
    return [found[:, row, :length] for row, length in enumerate(batch.lengths.tolist())]


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_in_fp32_is_torch_in_fp32_up_to_rounding(taggers, folders, kind):
    tagger = taggers[kind]
    onnx = build("onnx-fp32", tagger, folders[kind])

    for lengths in (LENGTHS, (1,), (48,), (2, 1)):
        written = texts(lengths)
        expected = emissions(TorchRuntime(tagger), tagger, written)
        for one, other in zip(expected, emissions(onnx, tagger, written), strict=True):
            assert one.shape == other.shape
            assert torch.allclose(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", INEXACT)
@pytest.mark.parametrize("kind", KINDS)
def test_bf16_and_int8_are_near_fp32(taggers, folders, kind, name):
    tagger = taggers[kind]
    written = texts(LENGTHS)

    found = emissions(build(name, tagger, folders[kind]), tagger, written)

    expected = emissions(TorchRuntime(tagger), tagger, written)
    largest = max(float(scores.abs().max()) for scores in expected)
    differences = [float((one - other).abs().max()) for one, other in zip(expected, found, strict=True)]
    assert 0 < max(differences) < TOLERANCE[name] * largest


@pytest.mark.parametrize("kind", KINDS)
def test_all_exact_runtimes_find_the_same_entities(taggers, folders, kind):
    written = texts(range(60), seed=1)
    found = [
        Predictor(taggers[kind], "", runtime=build(name, taggers[kind], folders[kind])).predict(written)
        for name in EXACT
    ]

    assert sum(len(prediction.entities) for prediction in found[0]) > 50
    for one, other in zip(*found, strict=True):
        assert one.entities == other.entities
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_neighbours_never_reach_a_texts_own_scores(taggers, folders, kind):
    tagger = taggers[kind]
    for name in EXACT:
        serving = build(name, tagger, folders[kind])
        together = emissions(serving, tagger, texts(LENGTHS))
        for text, scores in zip(texts(LENGTHS), together, strict=True):
            assert torch.allclose(emissions(serving, tagger, [text])[0], scores, atol=1e-5)


def test_units_of_several_ids_have_the_scores_of_their_first_one(tiny_transformer, tmp_path):
    tagger = tiny_transformer(split_into_characters=False, max_position_embeddings=POSITIONS)
    written = ["hellob 张三", "hel2 hello2 12"]
    read = [tagger.encoder.tokenizer.tokenize(text) for text in written]
    assert all(len(tokens.ids) > len(tokens.heads) for tokens in read)

    onnx = emissions(build("onnx-fp32", tagger, tmp_path), tagger, written)

    expected = emissions(TorchRuntime(tagger), tagger, written)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(expected, onnx, strict=True))


def test_a_graph_is_made_once(taggers, tmp_path):
    def files():
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    build("onnx-fp32", taggers["BERT"], tmp_path)
    made = files()

    build("onnx-fp32", taggers["BERT"], tmp_path)

    assert files() == made
    assert set(made) == {"onnx-fp32.onnx", "onnx-fp32.onnx.data"}


def test_an_inexact_copy_leaves_the_model_as_it_was(taggers, tmp_path):
    tagger = taggers["BERT"]
    before = weights_key(tagger)

    for name in INEXACT:
        build(name, tagger, tmp_path).emissions(batch_of(tagger, texts([3])))

    assert weights_key(tagger) == before
    assert {parameter.dtype for parameter in tagger.parameters()} == {torch.float32}


# The choice


def choose(tagger, admitted, cache):
    return fastest(tagger, admitted, graphs_folder(cache, tagger))


def notes(cache):
    return sorted(cache.glob("runtimes/*/*.json"))


@pytest.mark.parametrize("kind", ["a GRU", "BERT"])
def test_the_fastest_of_the_exact_runtimes_serves(taggers, tmp_path, kind):
    serving, choice = choose(taggers[kind], {}, tmp_path)

    assert set(choice.milliseconds) == set(EXACT)
    assert choice.name == serving.name == min(choice.milliseconds, key=choice.milliseconds.__getitem__)
    assert all(value > 0 for value in choice.milliseconds.values())
    found = serving.emissions(batch_of(taggers[kind], texts([5])))
    assert torch.allclose(found, TorchRuntime(taggers[kind]).emissions(batch_of(taggers[kind], texts([5]))), atol=1e-4)


@pytest.mark.parametrize("name", EXACT)
def test_the_choice_is_read_again_and_not_timed_again(taggers, tmp_path, name):
    choose(taggers["BERT"], {}, tmp_path)
    (note,) = notes(tmp_path)
    said = {"name": name, "milliseconds": {"torch-fp32": 12.5, "onnx-fp32": 47.11}}  # what no timing would find
    note.write_text(json.dumps(said), encoding="utf-8")

    serving, choice = choose(taggers["BERT"], {}, tmp_path)

    assert (serving.name, choice) == (name, Choice(**said))
    assert notes(tmp_path) == [note]


def test_only_admitted_inexact_runtimes_are_candidates(taggers, tmp_path):
    candidates = [
        set(choose(taggers["BERT"], admitted, tmp_path)[1].milliseconds)
        for admitted in ([], ["onnx-int8"], ["torch-bf16"], INEXACT, ["onnx-int4", "torch-fp32-cuda", "../x"])
    ]

    exact = set(EXACT)
    assert candidates == [exact, exact | {"onnx-int8"}, exact | {"torch-bf16"}, exact | set(INEXACT), exact]


def test_what_is_admitted_later_is_timed_then(taggers, tmp_path):
    choose(taggers["BERT"], {}, tmp_path)
    (before,) = notes(tmp_path)
    content = before.read_text(encoding="utf-8")

    _, choice = choose(taggers["BERT"], {"onnx-int8": {"entity_f1": 1.0}}, tmp_path)

    assert "onnx-int8" in choice.milliseconds
    assert len(notes(tmp_path)) == 2
    assert before.read_text(encoding="utf-8") == content


def test_other_weights_have_graphs_and_a_choice_of_their_own(tiny_transformer, tmp_path):
    taggers = [tiny_transformer(seed=seed, max_position_embeddings=POSITIONS) for seed in (0, 1)]

    found = [choose(tagger, {}, tmp_path)[0] for tagger in taggers]

    assert {note.parent.name for note in notes(tmp_path)} == {weights_key(tagger) for tagger in taggers}
    batches = [batch_of(tagger, texts([9])) for tagger in taggers]
    assert not torch.allclose(found[0].emissions(batches[0]), found[1].emissions(batches[1]), atol=1e-3)


def test_callers_that_start_together_make_one_choice(taggers, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        choices = list(pool.map(lambda _: choose(taggers["BERT"], {}, tmp_path)[1], range(4)))

    assert all(choice == choices[0] for choice in choices)
    assert len(notes(tmp_path)) == 1


def test_nothing_half_made_stays_beside_the_graphs(taggers, tmp_path):
    choose(taggers["BERT"], INEXACT, tmp_path)

    (folder,) = (tmp_path / "runtimes").iterdir()
    names = {path.name for path in folder.iterdir()}
    (note,) = notes(tmp_path)
    graphs = {f"{name}{part}" for name in ("onnx-fp32.onnx", "onnx-int8.onnx") for part in ("", ".data")}
    assert names == {*graphs, "lock", note.name}


def test_a_machine_is_known_by_its_processor_and_releases_and_what_it_may_run(monkeypatch):
    here = machine_key(EXACT)
    assert here == machine_key(tuple(reversed(EXACT)))
    assert here != machine_key([*EXACT, "onnx-int8"])

    monkeypatch.setattr(runtime, "_cpu_lines", lambda: ["model name : another"])
    assert machine_key(EXACT) != here


def test_the_time_a_text_takes_is_measured_on_one_text_and_on_many(taggers):
    seen = []

    class Counting(TorchRuntime):
        def emissions(self, batch: Batch) -> torch.Tensor:
            seen.append(tuple(batch.heads.shape))
            return super().emissions(batch)

    spent = runtime.milliseconds(Counting(taggers["BERT"]), taggers["BERT"])

    assert set(seen) == {(1, 48), (20, 48)}
    assert 0 < spent < 10_000


def test_a_gru_takes_one_thread_and_a_transformer_all_that_this_process_may_use(monkeypatch):
    monkeypatch.undo()
    before = torch.get_num_threads()
    try:
        set_threads("gru")
        assert torch.get_num_threads() == 1
        set_threads("transformer")
        assert torch.get_num_threads() == threads_for("transformer") >= 1
    finally:
        torch.set_num_threads(before)
