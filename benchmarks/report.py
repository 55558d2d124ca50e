"""What the figures of `nerloop report` can be held against: how far fine-tunes agree, and what hiding pre-labels saves.

    .venv/bin/python benchmarks/report.py --data FOLDER [--quick] [--sentences 400] [--more 100]

FOLDER holds train.jsonl, dev.jsonl and test.jsonl. `kappa` compares on the test texts, as a fine-tune does with what
serves, two models that differ in so many more sentences, and two that differ in nothing but the seed: predictions
cannot be more stable than those. `hiding` counts, for each target precision, the edits a test text needs.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from machine import machine

from nerloop.corrections import Corrections, corrections
from nerloop.documents import Document, labels_of, read_jsonl
from nerloop.evaluation import evaluate
from nerloop.label_matching import known_as
from nerloop.predictor import Predictor, found_in
from nerloop.starter import fresh_starter
from nerloop.stopping import kappa
from nerloop.tagger import Tagger, adapt
from nerloop.tagging import Decoder
from nerloop.thresholds import thresholds
from nerloop.trainer import Recipe, Trainer

TARGETS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl, dev.jsonl, test.jsonl")
    parser.add_argument("--quick", action="store_true", help="100 sentences, and 50 more")
    parser.add_argument("--sentences", type=int, default=400, help="sentences of the first model (default: 400)")
    parser.add_argument("--more", type=int, default=100, help="sentences that the others have more (default: 100)")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    train, dev, test = (read_jsonl(arguments.data / f"{side}.jsonl") for side in ("train", "dev", "test"))
    few, more = (100, 50) if arguments.quick else (arguments.sentences, arguments.more)
    models = [fit(train[:count], dev, seed) for count, seed in ((few, 0), (few + more, 0), (few + more, 1))]
    found = [found_in(test, Predictor(model, "")) for model in models]
    before, after, other_seed = ([document.entities for document in one] for one in found)
    chosen = found_in(dev, Predictor(models[1], ""))
    result: dict[str, Any] = {
        "data": arguments.data.name,
        "sentences": few,
        "more": more,
        "f1": [round(evaluate(test, one).micro.f1, 4) for one in found],
        "kappa": {"more_sentences": kappa(before, after), "other_seed": kappa(after, other_seed)},
        "hiding": {str(target): hiding(test, found[1], thresholds(dev, chosen, target)) for target in TARGETS},
        "machine": machine(),
    }
    line = json.dumps(result)
    if arguments.out:
        arguments.out.write_text(line + "\n")
    print(line)


def fit(train: Sequence[Document], dev: Sequence[Document], seed: int) -> Tagger:
    """Fine-tune LAC; data in which entities overlap gets a nested decoder."""
    labels, base = labels_of(train), fresh_starter()
    flat = Decoder.flat(labels)
    overlap = sum(flat.encode(document)[1] for document in train)
    tagger = adapt(base, Decoder.nested(labels, train) if overlap else flat, known_as(base, train))
    Trainer(Recipe(seed=seed)).fit(tagger, train, dev)
    print(f"{len(train)} sentences, seed {seed}: done", file=sys.stderr, flush=True)
    return tagger


def hiding(gold: Sequence[Document], found: Sequence[Document], hidden: Mapping[str, float]) -> dict[str, Any]:
    """Return what annotators would do to what lies above the thresholds."""
    shown = [
        replace(one, entities=tuple(e for e in one.entities if (e.score or 0.0) > hidden.get(e.label, -1.0)))
        for one in found
    ]
    pairs = zip(shown, gold, strict=True)
    done = sum((corrections(one.entities, right.entities) for one, right in pairs), Corrections())
    return {"thresholds": hidden, "shown": done.shown, "edits_a_text": round(done.edits_per_annotation, 3)}


if __name__ == "__main__":
    main()
