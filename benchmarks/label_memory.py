"""What label memory does to pre-labels between two trainings: F1 without it, and with it by several settings.

    .venv/bin/python benchmarks/label_memory.py --data FOLDER [--quick] [--trained 100] [--labelled 50 150] [--seeds 2]

FOLDER holds train.jsonl, of which each seed draws its own order. LAC is fine-tuned on the first documents (`trained`,
split as the loop splits them), then more are labelled (`labelled`) and remembered with those before; the pre-labels of
others are compared with their gold. `added` is the number of entities a document that memory adds,
`precision_of_matches` the share of these that is right.
"""

import argparse
import json
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from machine import machine

from nerloop.documents import Document, labels_of, read_jsonl
from nerloop.evaluation import evaluate
from nerloop.gazetteer import Gazetteer
from nerloop.label_matching import known_as
from nerloop.label_memory import remember
from nerloop.predictor import Predictor, found_in
from nerloop.settings import Settings
from nerloop.split import split
from nerloop.starter import fresh_starter
from nerloop.tagger import adapt
from nerloop.tagging import Decoder
from nerloop.trainer import Recipe, Trainer

COUNTS = (1, 2, 3, 5)
AGREEMENTS = (0.7, 0.9, 1.0)
JUDGED = 1000


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl")
    parser.add_argument("--trained", type=int, default=100, help="documents the model learns from (default: 100)")
    parser.add_argument("--labelled", type=int, nargs="+", default=[50, 150], help="more documents that are labelled")
    parser.add_argument("--seeds", type=int, default=2, help="orders of the documents (default: 2)")
    parser.add_argument("--quick", action="store_true", help="one seed, 300 documents are judged")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    documents = read_jsonl(arguments.data / "train.jsonl")
    seeds, judged = (1, 300) if arguments.quick else (arguments.seeds, JUDGED)
    runs = [run(documents, seed, arguments.trained, arguments.labelled, judged) for seed in range(seeds)]
    result = {
        "data": arguments.data.name,
        "trained": arguments.trained,
        "seeds": seeds,
        "judged": judged,
        "arms": {name: mean([one[name] for one in runs]) for name in runs[0]},
        "machine": machine(),
    }
    line = json.dumps(result)
    if arguments.out:
        arguments.out.write_text(line + "\n")
    print(line)


def run(
    documents: Sequence[Document], seed: int, trained: int, labelled: Sequence[int], judged: int
) -> dict[str, dict[str, float]]:
    """Return the figures of every arm with one order of the documents."""
    drawn = random.Random(seed).sample(documents, len(documents))
    settings = Settings()
    known = split(drawn[:trained], settings.dev_share, settings.gate_share)
    predictor = fine_tuned(known.train, known.dev, seed)
    rest = drawn[trained + max(labelled) :]
    gold = list(split(rest, settings.dev_share, settings.gate_share).train[:judged])
    alone = found_in(gold, predictor)
    arms = {"model alone": figures(gold, alone, alone)}
    for more in labelled:
        remembered = split(drawn[: trained + more], settings.dev_share, settings.gate_share).train
        for count in COUNTS:
            for agreement in AGREEMENTS:
                gazetteer = Gazetteer(remember(remembered, count, agreement))
                shown_as = {label: label for label in gazetteer.labels}
                filled = [replace(d, entities=gazetteer.fill(d.text, d.entities, shown_as)) for d in alone]
                name = f"labelled {more}, count {count}, agreement {agreement}"
                arms[name] = {"terms": len(gazetteer.terms), **figures(gold, alone, filled)}
                print(seed, name, json.dumps(arms[name]), file=sys.stderr, flush=True)
    return arms


def fine_tuned(train: Sequence[Document], dev: Sequence[Document], seed: int) -> Predictor:
    """Fine-tune LAC as the loop does; data in which entities overlap gets a nested decoder."""
    labels = labels_of(train)
    overlap = sum(Decoder.flat(labels).encode(document)[1] for document in train)
    decoder = Decoder.nested(labels, train) if overlap else Decoder.flat(labels)
    base = fresh_starter()
    tagger = adapt(base, decoder, known_as(base, train))
    Trainer(Recipe(seed=seed)).fit(tagger, train, dev)
    return Predictor(tagger, "")


def figures(gold: Sequence[Document], alone: Sequence[Document], filled: Sequence[Document]) -> dict[str, float]:
    """Compare pre-labels with gold, and what memory added to the model's with it alone."""
    micro = evaluate(gold, filled).micro
    added = right = 0
    for truth, before, after in zip(gold, alone, filled, strict=True):
        new = set(after.entities) - set(before.entities)
        added += len(new)
        right += len(new & set(truth.entities))
    return {
        "f1": micro.f1,
        "precision": micro.precision,
        "recall": micro.recall,
        "added": added / len(gold),
        "precision_of_matches": right / added if added else 0.0,
    }


def mean(runs: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the mean of every figure over the seeds."""
    return {key: round(statistics.mean(one[key] for one in runs), 4) for key in runs[0]}


if __name__ == "__main__":
    main()
