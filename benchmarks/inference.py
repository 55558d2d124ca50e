"""How fast texts are labelled: our predictor against ModelScope's own pipeline on the same RaNER checkpoint.

    .venv/bin/python benchmarks/inference.py [--quick] [--data FOLDER] [--out FILE]

FOLDER holds train.jsonl and test.jsonl. Makes a checkpoint of BERT-base size on the spot (random weights, fine-tuned
on train.jsonl until it finds entities with confidence, so that there is something to compare), and takes LAC as it is.
What they label is put together from test.jsonl, which neither has seen. `ratio_stock_*` is the stock pipeline's
time over ours: `exact` with the fastest exact runtime, else with the fastest of all that are admitted. `gemm_share_*`
is the share of the fp32 peak of matrix products that the whole prediction reaches (tokens, encoder, CRF, confidence):
the median over the batches, each against the peak measured right before and after it. `peak_mb` is the memory of the
process that makes and runs our runtimes; the fine-tune and the stock pipeline have processes of their own.

With a GPU everything runs there (only the CRF does not): `fast` is bf16 where that is admitted, `exact` is fp32, and
the peak is the GPU's in fp32 (without TF32, which is not exact).
"""

import argparse
import contextlib
import json
import multiprocessing
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import machine

from nerloop import checkpoint
from nerloop.admission import MAX_SCORE_DIFFERENCE, MIN_F1, agreement
from nerloop.documents import Document, labels_of, read_jsonl
from nerloop.encoder import TransformerEncoder
from nerloop.predictor import Predictor, found_in
from nerloop.runtime import EXACT, INEXACT, build, set_threads
from nerloop.starter import starter
from nerloop.tagger import Tagger
from nerloop.tagging import Decoder
from nerloop.tokenizer import SubwordTokenizer
from nerloop.trainer import Progress, Recipe, Trainer

DEMO = Path(__file__).parent.parent / "demo"
BERT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
VOCABULARY_SIZE = 21128
INITIAL = 0.005  # a quarter of BERT's: a text shines through twelve random layers, and a minute of training is enough
LEARNING_RATE = 3e-4  # for random weights; those of RaNER are fine-tuned at 3e-5
BATCH = 100
RANER = "raner"  # the name of its folder
CUDA = torch.cuda.is_available()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sentences and a shorter fine-tune")
    parser.add_argument("--data", type=Path, default=DEMO, help="folder with train.jsonl, test.jsonl")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    sizes = {"sentences": 300, "stock": 6, "single": 30, "epochs": 6, "train": 160}
    if not arguments.quick:
        sizes = {"sentences": 2000, "stock": 30, "single": 100, "epochs": 4, "train": 330}
    documents = read_jsonl(arguments.data / "train.jsonl")
    texts = sentences(read_jsonl(arguments.data / "test.jsonl"), sizes["sentences"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        say("making a checkpoint of BERT-base size")
        in_a_process(make_raner, documents[: sizes["train"]], sizes["epochs"], folder)
        result: dict[str, Any] = {"sizes": {**sizes, "characters": sum(map(len, texts)) / len(texts)}}
        say("timing the stock pipeline")
        stock = in_a_process(stock_milliseconds, folder / RANER, texts[: sizes["stock"]])
        result |= {"stock_ms": stock, **in_a_process(figures, folder / RANER, texts, sizes, stock, folder)}
        say(json.dumps(result))
        say("timing LAC")
        result["lac"] = in_a_process(figures, None, texts, sizes, stock, folder)
    result["machine"] = machine()
    line = json.dumps(result)
    if arguments.out:
        arguments.out.write_text(line + "\n")
    print(line)


def sentences(documents: Sequence[Document], count: int) -> list[str]:
    """Return texts of realistic lengths (log-normal, median 36 characters), put together from the documents."""
    draw = random.Random(0)
    made: list[str] = []
    while len(made) < count:
        length = max(4, min(400, round(draw.lognormvariate(3.6, 0.55))))
        text = ""
        while len(text) < length:
            text += draw.choice(documents).text
        made.append(text[:length])
    return made


def in_a_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call returns in a process of its own, so that each has its own peak of memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def make_raner(documents: Sequence[Document], epochs: int, folder: Path) -> None:
    """Make a RaNER checkpoint in `folder`: BERT-base with random weights, fine-tuned until it finds entities."""
    source = folder / "vocabulary"
    source.mkdir()
    characters = sorted({c for document in documents for c in document.text.lower() if not c.isspace()})
    rows = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    rows += [f"[unused{number}]" for number in range(VOCABULARY_SIZE - len(rows))]
    (source / "vocab.txt").write_text("\n".join(rows), encoding="utf-8")
    (source / "tokenizer_config.json").write_text('{"do_lower_case": true, "tokenizer_class": "BertTokenizer"}')
    tokenizer = SubwordTokenizer.read(source, "bert", split_into_characters=True)
    torch.manual_seed(0)
    config = {
        "model_type": "bert",
        "vocab_size": VOCABULARY_SIZE,
        "max_position_embeddings": 512,
        "initializer_range": INITIAL,
        **BERT_BASE,
    }
    tagger = Tagger(TransformerEncoder(tokenizer, config), Decoder.flat(labels_of(documents)))

    def tell(progress: Progress) -> None:
        if progress.step % 20 == 0:
            say(f"step {progress.step} of {progress.steps}, loss {progress.loss:.2f}")

    Trainer(Recipe(epochs=epochs, learning_rate=LEARNING_RATE), tell).fit(tagger, documents, [])
    checkpoint.save(tagger, checkpoint.Provenance("random weights", ""), folder / RANER)


def stock_milliseconds(folder: Path, texts: Sequence[str]) -> float:
    """Return the median milliseconds a text of ModelScope's pipeline; it takes a list one text at a time."""
    with contextlib.redirect_stdout(sys.stderr):
        from modelscope.pipelines import pipeline

        stock = pipeline("named-entity-recognition", str(folder), device="gpu" if CUDA else "cpu")
        stock(texts[0])
        return round(statistics.median(milliseconds(partial(stock, text)) for text in texts), 1)


def figures(
    source: Path | None, texts: Sequence[str], sizes: dict[str, int], stock: float, folder: Path
) -> dict[str, Any]:
    """Time every runtime of a checkpoint, or of LAC, on batches of 100 and on single texts."""
    tagger = starter() if source is None else checkpoint.load(source).tagger
    set_threads(tagger.encoder.kind)
    if CUDA:
        tagger.cuda()
    exact_names, inexact_names = (of_torch(EXACT), of_torch(INEXACT)) if CUDA else (EXACT, INEXACT)
    names = exact_names + (inexact_names if tagger.encoder.kind == "transformer" else ())
    exact: list[Document] = []
    runtimes = {}
    for name in names:
        runtime = build(name, tagger, folder)
        predictor = Predictor(tagger, "", runtime=runtime)
        found, spent = timed(predictor, texts, sizes["single"])
        exact = exact or found
        f1, difference = agreement(exact, found)
        entities = sum(len(document.entities) for document in found)
        runtimes[name] = {
            "entity_f1": round(f1, 4),
            "score_difference": round(difference, 4),
            "entities": entities,
            **spent,
        }
        say(f"{name}: {runtimes[name]}")
    for graph in folder.glob("*.onnx*"):
        graph.unlink()
    served = [
        name
        for name, figure in runtimes.items()
        if name in exact_names or (figure["entity_f1"] >= MIN_F1 and figure["score_difference"] <= MAX_SCORE_DIFFERENCE)
    ]
    fast = min(served, key=lambda name: runtimes[name]["batch_ms"])
    fast_single = min(served, key=lambda name: runtimes[name]["p50_ms"])
    best = min(exact_names, key=lambda name: runtimes[name]["batch_ms"])
    best_single = min(exact_names, key=lambda name: runtimes[name]["p50_ms"])
    return {
        "fast": fast,
        "exact": best,
        "sentences_per_s": round(1000 / runtimes[fast]["batch_ms"], 1),
        "ratio_stock_batch": round(stock / runtimes[fast]["batch_ms"], 1),
        "ratio_stock_single": round(stock / runtimes[fast_single]["p50_ms"], 1),
        "ratio_stock_batch_exact": round(stock / runtimes[best]["batch_ms"], 1),
        "ratio_stock_single_exact": round(stock / runtimes[best_single]["p50_ms"], 1),
        "gemm_share_exact": runtimes[best]["gemm_share"],
        "gemm_share_fast": runtimes[fast]["gemm_share"],
        "fast_entity_f1": runtimes[fast]["entity_f1"],
        "p50_ms": runtimes[fast_single]["p50_ms"],
        "p95_ms": runtimes[fast_single]["p95_ms"],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "runtimes": runtimes,
    }


def of_torch(names: Sequence[str]) -> tuple[str, ...]:
    """Return those that run on a GPU."""
    return tuple(name for name in names if name.startswith("torch-"))


def timed(predictor: Predictor, texts: Sequence[str], single: int) -> tuple[list[Document], dict[str, float]]:
    """Return what is found; milliseconds a text in batches of 100 and alone, and the share of the peak in batches."""
    documents = [Document("", text) for text in texts]
    batches = [documents[start : start + BATCH] for start in range(0, len(documents) - BATCH + 1, BATCH)]
    found_in(batches[0], predictor)
    found: list[Document] = []
    spent = []
    shares = []
    peaks = [gemm_peak()]

    def find(batch: Sequence[Document]) -> None:
        found.extend(found_in(batch, predictor))

    for batch in batches:
        spent.append(milliseconds(partial(find, batch)))
        peaks.append(gemm_peak())
        reached = sum(floating_point_operations(predictor.tagger, document.text) for document in batch) / (
            spent[-1] / 1000
        )
        shares.append(reached / statistics.mean(peaks[-2:]))
    alone = sorted(milliseconds(partial(predictor.predict, [text])) for text in texts[:single])
    speeds = {
        "batch_ms": round(statistics.median(spent) / BATCH, 3),
        "p50_ms": round(statistics.median(alone), 2),
        "p95_ms": round(alone[int(len(alone) * 0.95)], 2),
        "gemm_share": round(statistics.median(shares), 3),
        "gemm_peak_gflops": round(statistics.median(peaks) / 1e9, 1),
    }
    return found, speeds


def floating_point_operations(tagger: Tagger, text: str) -> float:
    """Return what the encoder's matrix products need for a text, without padding."""
    encoder = tagger.encoder
    if isinstance(encoder, TransformerEncoder):
        length, layers, width = len(text) + 2, encoder.config["num_hidden_layers"], encoder.config["hidden_size"]
        weights = layers * (4 * width * width + 2 * width * encoder.config["intermediate_size"])
        return float(2 * weights * length + layers * 4 * length * length * width)
    weights = sum(weight.numel() for name, weight in encoder.gru.named_parameters() if name.startswith("weight"))
    return float(2 * weights * len(text))


def gemm_peak() -> float:
    """Return floating-point operations a second of a large fp32 matrix product, the best of a few."""
    side = 8192 if CUDA else 1536
    matrix = torch.ones(side, side, device="cuda" if CUDA else "cpu")
    best = min(milliseconds(lambda: float((matrix @ matrix)[0, 0])) for _ in range(3))
    return 2 * side**3 / (best / 1000)


def milliseconds(work: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def say(line: str) -> None:
    """Tell on stderr how far it is."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
