"""What the order of tasks saves: F1 against what annotators read and correct, for every strategy and for random.

    .venv/bin/python benchmarks/acquire.py --data FOLDER [--quick] [--seeds 3] [--strategies random mnlp] [--plot F.png]

FOLDER holds train.jsonl, dev.jsonl and test.jsonl. No server: each round trains LAC on what is labelled so far (epochs
fixed), ranks the rest by the scores that Label Studio would sort by, and "labels" the head of that order. The first
batch is the same random one for all. Costs are counted in characters read, entities labelled and edits: entities that
differ from the pre-labels of the round's model (a relabelled or resized one counts once). F1 is strict micro-F1 on dev
and test together, which nothing is chosen on.

`characters_share_to_random_f1` is the share of random's characters after which the default strategy has reached the F1
that random ends with (means over the seeds, straight lines between the rounds); `edits_share_to_random_f1` likewise.

With `--cold` it is the first batch alone that is compared, of 1,500 texts whose labels the starter does not know: drawn
by chance, by the starter's doubt about its own labels, and by how different the texts are.
"""

import argparse
import itertools
import json
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from machine import machine

from nerloop.acquisition import HEAD, RANDOM, STRATEGIES, Order, head_scores, serving_scores
from nerloop.documents import Document, Entity, labels_of, read_jsonl
from nerloop.label_matching import known_as
from nerloop.predictor import Predictor, found_in, score
from nerloop.runtime import set_threads
from nerloop.settings import Settings
from nerloop.starter import fresh_starter
from nerloop.tagger import adapt
from nerloop.tagging import Decoder
from nerloop.trainer import Recipe, Trainer

ROUNDS = (60, 100, 175, 300, 520, 900)  # labelled sentences at the end of each
EPOCHS = 10
COLD_POOL = 1500
COSTS = ("characters", "entities", "edits")
DEFAULT = Settings.strategy


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl, dev.jsonl, test.jsonl")
    parser.add_argument("--quick", action="store_true", help="one seed, the default strategy and random, three rounds")
    parser.add_argument("--seeds", type=int, default=3, help="seeds (default: 3)")
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), help="which (default: all)")
    parser.add_argument("--cold", action="store_true", help="compare the first batch, before there is any label")
    parser.add_argument("--plot", type=Path, help="draw the curves into this file (PNG, SVG)")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    strategies = arguments.strategies or (["random", DEFAULT] if arguments.quick else list(STRATEGIES))
    rounds = ROUNDS[::2] if arguments.quick else ROUNDS
    seeds = 1 if arguments.quick else arguments.seeds
    if arguments.cold:
        print(json.dumps(cold_start(arguments.data, seeds)))
        return
    started = time.monotonic()
    curves: dict[str, list[list[dict[str, float]]]] = {name: [] for name in strategies}
    with ProcessPoolExecutor(multiprocessing.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        full = [pool.submit(full_f1, arguments.data, seed) for seed in range(seeds)]
        jobs = {
            pool.submit(simulate, arguments.data, name, seed, rounds): name
            for seed in range(seeds)
            for name in strategies
        }
        for job in as_completed(jobs):
            curves[jobs[job]].append(job.result())
            print(f"{jobs[job]}: {job.result()[-1]}", file=sys.stderr, flush=True)
        full_data_f1 = statistics.mean(one.result() for one in full)
    arms = {name: summary(curves[name], full_data_f1) for name in strategies}
    result: dict[str, Any] = {
        "data": arguments.data.name,
        "sizes": {"rounds": rounds, "epochs": EPOCHS, "seeds": seeds},
        "full_data_f1": round(full_data_f1, 4),
        "default": DEFAULT,
        "arms": arms,
    }
    if "random" in arms:
        for name in strategies:
            for cost in COSTS:
                arms[name][f"{cost}_share_to_random_f1"] = share(arms[name]["curve"], arms["random"]["curve"], cost)
        if DEFAULT in arms:
            result |= {f"{cost}_share_to_random_f1": arms[DEFAULT][f"{cost}_share_to_random_f1"] for cost in COSTS}
    result |= {"seconds": round(time.monotonic() - started), "machine": machine()}
    if arguments.plot:
        draw(result, arguments.plot)
    line = json.dumps(result)
    if arguments.out:
        arguments.out.write_text(line + "\n")
    print(line)


def simulate(folder: Path, strategy: str, seed: int, rounds: Sequence[int]) -> list[dict[str, float]]:
    """Return one point a round: what was labelled until then, and the F1 of the model trained on it."""
    pool, held_out = pool_and_held_out(folder, seed)
    order = Order(strategy, dev_share=0.0, gate_share=0.0, random_share=Settings.random_share)
    labelled, rest = pool[: rounds[0]], pool[rounds[0] :]
    cost = dict.fromkeys(COSTS, 0)
    spend(cost, labelled, [Document("", document.text) for document in labelled])
    points = []
    for size, following in itertools.zip_longest(rounds, rounds[1:]):
        predictor = trained(labelled, labels_of(pool), seed, f"after {size}")
        points.append({"sentences": size, **cost, "f1": score(predictor, held_out).micro.f1})
        if following is not None:
            if strategy != RANDOM:  # its order goes by a hash of the text: the same draw for every seed
                rest = ranked(rest, predictor, order, following - size)
            chosen, rest = rest[: following - size], rest[following - size :]
            spend(cost, chosen, found_in(chosen, predictor))
            labelled = [*labelled, *chosen]
    return points


def cold_start(folder: Path, seeds: int) -> dict[str, Any]:
    """Return the F1 and the cost of a first batch by each way of choosing it, means over the seeds."""
    ways = {"random": ("random", True), "by doubt": (DEFAULT, True), "by difference": (DEFAULT, False)}
    arms: dict[str, Any] = {}
    for name, (strategy, knows_labels) in ways.items():
        rows = []
        for seed in range(seeds):
            pool, held_out = pool_and_held_out(folder, seed)
            pool = pool[:COLD_POOL]
            order = Order(strategy, dev_share=0.0, gate_share=0.0, random_share=0.0)
            size = ROUNDS[0]
            first = ranked(pool, Predictor(fresh_starter(), ""), order, size, knows_labels=knows_labels)[:size]
            f1 = score(trained(first, labels_of(pool), seed), held_out).micro.f1
            rows.append((f1, sum(len(d.text) for d in first), sum(len(d.entities) for d in first)))
        means = [statistics.mean(values) for values in zip(*rows, strict=True)]
        arms[name] = {"f1": round(means[0], 4), "characters": round(means[1]), "entities": round(means[2])}
        print(f"{name}: {arms[name]}", file=sys.stderr, flush=True)
    return {"data": folder.name, "sentences": ROUNDS[0], "seeds": seeds, "arms": arms, "machine": machine()}


def ranked(
    documents: Sequence[Document], predictor: Predictor, order: Order, following: int, *, knows_labels: bool = True
) -> list[Document]:
    """Return documents in the order in which Label Studio serves them where so many labels start a fine-tune."""
    texts = [document.text for document in documents]
    predictions = predictor.predict(texts)
    scores = serving_scores(texts, predictions, order, knows_labels=knows_labels)
    by_score = sorted(range(len(texts)), key=scores.__getitem__)
    head = by_score[: min(HEAD, 2 * following) if knows_labels else HEAD]
    dealt = head_scores(
        [texts[number] for number in head],
        [predictions[number] for number in head],
        [scores[number] for number in head],
        order,
        lambda chosen: predictor.vectors(chosen).numpy(),
        knows_labels=knows_labels,
    )
    in_order = [number for _, number in sorted(zip(dealt, head, strict=True))]
    return [documents[number] for number in [*in_order, *by_score[len(head) :]]]


def full_f1(folder: Path, seed: int) -> float:
    """Return the F1 of a model trained on the whole pool."""
    pool, held_out = pool_and_held_out(folder, seed)
    return score(trained(pool, labels_of(pool), seed), held_out).micro.f1


def pool_and_held_out(folder: Path, seed: int) -> tuple[list[Document], list[Document]]:
    """Return the training documents in an order of the seed's, and dev and test together."""
    pool, dev, test = (read_jsonl(folder / f"{side}.jsonl") for side in ("train", "dev", "test"))
    random.Random(seed).shuffle(pool)
    return pool, [*dev, *test]


def trained(documents: Sequence[Document], labels: Sequence[str], seed: int, version: str = "") -> Predictor:
    """Return LAC fine-tuned on the documents, under a name, which what comes up by chance goes by."""
    base = fresh_starter()
    tagger = adapt(base, Decoder.flat(labels), known_as(base, documents))
    set_threads(tagger.encoder.kind)
    Trainer(Recipe(seed=seed, epochs=EPOCHS)).fit(tagger, documents, [])
    return Predictor(tagger, version)


def spend(cost: dict[str, int], chosen: Sequence[Document], pre_labelled: Sequence[Document]) -> None:
    """Add what it takes to label documents that carry pre-labels."""
    for document, proposed in zip(chosen, pre_labelled, strict=True):
        cost["characters"] += len(document.text)
        cost["entities"] += len(document.entities)
        missed, wrong = set(document.entities) - set(proposed.entities), set(proposed.entities) - set(document.entities)
        cost["edits"] += len(missed) + len(wrong) - changed(missed, wrong)


def changed(missed: Iterable[Entity], wrong: Iterable[Entity]) -> int:
    """Return how many wrong entities become a missed one by another label or other ends: each at most one."""
    left = set(wrong)
    for entity in missed:
        overlapping = next((one for one in left if one.start < entity.end and entity.start < one.end), None)
        left.discard(overlapping)
    return len(set(wrong)) - len(left)


def summary(curves: Sequence[Sequence[Mapping[str, float]]], full_data_f1: float) -> dict[str, Any]:
    """Return the mean curve over the seeds, the area under it by characters, and what 95 and 99 % of full F1 cost."""
    mean = [
        {key: round(statistics.mean(point[key] for point in points), 4) for key in points[0]}
        for points in zip(*curves, strict=True)
    ]
    return {
        "curve": mean,
        "final_f1": mean[-1]["f1"],
        "final_f1_sd": round(statistics.pstdev(curve[-1]["f1"] for curve in curves), 4),
        "area": round(area(mean), 4),
        **{f"sentences_to_{share}": cost_to(mean, "sentences", full_data_f1 * share / 100) for share in (95, 99)},
    }


def area(curve: Sequence[Mapping[str, float]]) -> float:
    """Return the mean F1 over the characters between the first and the last round."""
    steps = list(itertools.pairwise(curve))
    total = sum((b["characters"] - a["characters"]) * (a["f1"] + b["f1"]) / 2 for a, b in steps)
    return total / (curve[-1]["characters"] - curve[0]["characters"])


def cost_to(curve: Sequence[Mapping[str, float]], cost: str, f1: float) -> float | None:
    """Return the cost at which a curve first reaches an F1; None where it does not."""
    for before, after in itertools.pairwise(curve):
        if before["f1"] < f1 <= after["f1"]:
            part = (f1 - before["f1"]) / (after["f1"] - before["f1"])
            return round(before[cost] + part * (after[cost] - before[cost]))
    return None if curve[0]["f1"] < f1 else curve[0][cost]


def share(curve: Sequence[Mapping[str, float]], of_random: Sequence[Mapping[str, float]], cost: str) -> float | None:
    """Return the cost at which a curve reaches random's last F1, as a share of random's cost."""
    reached = cost_to(curve, cost, of_random[-1]["f1"])
    return None if reached is None else round(reached / of_random[-1][cost], 3)


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw F1 against characters and edits."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    _, panels = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True)
    for axes, cost in zip(panels, ("characters", "edits"), strict=True):
        for name, arm in result["arms"].items():
            points = [(point[cost], point["f1"]) for point in arm["curve"]]
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set_xlabel(cost)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("F1 (strict, micro)")
    panels[1].legend()
    pyplot.savefig(path, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    main()
