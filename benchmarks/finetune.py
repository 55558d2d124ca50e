"""What a number of labelled sentences is worth: test F1 after fine-tuning on 50, 100, 250, … of them.

    .venv/bin/python benchmarks/finetune.py --data FOLDER [--quick] [--sizes 100 500] [--seeds 3] [--plot F.png]

FOLDER holds train.jsonl, dev.jsonl and test.jsonl. Each seed draws its own sentences. `lac` starts from the LAC
starter and learns from twice as many of the other sentences too, without their labels, as the loop does; `labelled`
does not; `random` (one seed) does not either, and starts from the same network with random weights. Data in which
entities overlap gets a nested decoder. `perfect_ece` is what a perfectly calibrated model would show with as few
entities: ECE is never 0 by chance.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from machine import machine
from torch import nn

from nerloop.calibration import calibration, perfect_ece
from nerloop.documents import Document, labels_of, read_jsonl
from nerloop.evaluation import evaluate
from nerloop.label_matching import known_as
from nerloop.predictor import Predictor, found_in
from nerloop.settings import Settings
from nerloop.starter import fresh_starter
from nerloop.tagger import Tagger, adapt
from nerloop.tagging import Decoder
from nerloop.trainer import Recipe, Trainer

SIZES = (50, 100, 250, 500, 1000, 1500)
QUICK_SIZES = (100, 500)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl, dev.jsonl, test.jsonl")
    parser.add_argument("--quick", action="store_true", help="100 and 500 sentences, one seed, from LAC only")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of sentences (default: 50 to all)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds from LAC (default: 3)")
    parser.add_argument("--plot", type=Path, help="draw the curves into this file (PNG, SVG)")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    train, dev, test = (read_jsonl(arguments.data / f"{side}.jsonl") for side in ("train", "dev", "test"))
    overlap = sum(Decoder.flat(labels_of(train)).encode(document)[1] for document in train)
    kind = "nested" if overlap else "flat"
    sizes = arguments.sizes or (QUICK_SIZES if arguments.quick else [*(s for s in SIZES if s < len(train)), len(train)])
    seeds = 1 if arguments.quick else arguments.seeds
    result: dict[str, Any] = {"data": arguments.data.name, "decoder": kind, "seeds": seeds}
    result |= {"lac": {}, "labelled": {}, "random": {}}
    for size in sizes:
        for start, count in (("lac", seeds), ("labelled", seeds), ("random", 0 if arguments.quick else 1)):
            runs = [fit(train, dev, test, size, seed, kind, start) for seed in range(count)]
            if runs:
                result[start][str(size)] = {key: summary([run[key] for run in runs]) for key in runs[0]}
                print(start, size, json.dumps(result[start][str(size)]), file=sys.stderr, flush=True)
    result["machine"] = machine()
    if arguments.plot:
        draw(result, arguments.plot)
    line = json.dumps(result)
    if arguments.out:
        arguments.out.write_text(line + "\n")
    print(line)


def fit(
    train: Sequence[Document],
    dev: Sequence[Document],
    test: Sequence[Document],
    size: int,
    seed: int,
    kind: str,
    start: str,
) -> dict[str, float]:
    """Fine-tune on `size` sentences drawn by the seed and return the figures on the test documents."""
    draw = random.Random(seed)
    drawn = draw.sample(train, min(size, len(train)))
    others = sorted({document.text for document in train} - {document.text for document in drawn})
    draw.shuffle(others)
    others = others[: Settings.unlabelled_ratio * size] if start == "lac" else []
    labels = labels_of(drawn)
    base = with_random_weights(fresh_starter(), seed) if start == "random" else fresh_starter()
    decoder = Decoder.nested(labels, drawn) if kind == "nested" else Decoder.flat(labels)
    tagger = adapt(base, decoder, known_as(base, drawn))
    started = time.perf_counter()
    result = Trainer(Recipe(seed=seed)).fit(tagger, drawn, dev, [Document("", text) for text in others])
    seconds = time.perf_counter() - started
    found = found_in(test, Predictor(tagger, ""))
    evaluation = evaluate(test, found)
    return {
        "f1": evaluation.micro.f1,
        "precision": evaluation.micro.precision,
        "recall": evaluation.micro.recall,
        "dev_f1": max((epoch.dev_f1 or 0.0 for epoch in result.epochs), default=0.0),
        "inner_recall": evaluation.inner_recall,
        "ece": calibration(test, found).ece,
        "perfect_ece": perfect_ece([entity.score or 0.0 for document in found for entity in document.entities]),
        "seconds": seconds,
    }


def with_random_weights(tagger: Tagger, seed: int) -> Tagger:
    """Return the tagger with every weight of its encoder drawn anew."""
    torch.manual_seed(seed)
    for module in tagger.encoder.modules():
        if isinstance(module, nn.Embedding | nn.GRU):
            module.reset_parameters()
    nn.init.zeros_(tagger.linear.weight)
    return tagger


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return mean and standard deviation over the seeds."""
    return {"mean": round(statistics.mean(values), 4), "sd": round(statistics.pstdev(values), 4)}


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw test F1 against the number of sentences."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(6, 4))
    names = {"lac": "from LAC", "labelled": "from LAC, labelled sentences only", "random": "from random weights"}
    for start, name in names.items():
        points = [(int(size), run["f1"]["mean"], run["f1"]["sd"]) for size, run in result[start].items()]
        if points:
            sizes, means, deviations = zip(*points, strict=True)
            axes.errorbar(sizes, means, yerr=deviations, marker="o", capsize=3, label=name)
    axes.set_xscale("log")
    axes.set_xlabel("labelled sentences")
    axes.set_ylabel("test F1 (strict, micro)")
    axes.set_title(f"{result['data']} ({result['decoder']})")
    axes.grid(alpha=0.3)
    axes.legend()
    pyplot.savefig(path, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    main()
