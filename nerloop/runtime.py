"""What computes a model's tag scores on this machine. Owns the candidates, their admission and the choice.

CPUs differ: bf16 is twice as fast as fp32 on one and 130 times slower on another. So nothing is assumed: the
candidates are timed for about a second on the machine that serves, and the choice is kept beside the checkpoints.
torch fp32 and ONNX Runtime fp32 agree to rounding. bf16 and int8 do not: they serve only a checkpoint for which it
was measured, when it was built, that their entities are the same (`admission`).
"""

import copy
import hashlib
import json
import logging
import math
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from filelock import FileLock
from torch import Tensor, nn

from nerloop.cache import RUNTIMES
from nerloop.encoder import Batch, GruEncoder, TransformerEncoder
from nerloop.errors import SettingsError
from nerloop.tagger import Tagger, weights_key
from nerloop.tokenizer import Tokens

logger = logging.getLogger(__name__)

# Ids a batch. BERT's must stay in the cache: 0.88 of the GEMM peak at 256, 0.87 at 512, 0.79 at 1,024, 0.67 at 2,048.
TOKENS_A_BATCH = {"gru": 8192, "transformer": 256}
TOKENS_A_BATCH_CUDA = 32768
TIMED = ((1, 48), (20, 48))  # (texts, ids each) that candidates are timed on: an open task, and a part of a refresh
SECONDS_EACH = 0.1
ROUNDS = (
    3  # candidates take turns, and the best turn counts: what else the machine does hits one turn, not one candidate
)
OPSET = 17
EXACT = ("torch-fp32", "onnx-fp32")
INEXACT = ("torch-bf16", "onnx-int8")


class Runtime(Protocol):
    """Computes tag scores; `name` says how, `tokens_a_batch` how many ids it likes at once, `memory` its bytes."""

    name: str
    tokens_a_batch: int
    memory: int

    def emissions(self, batch: Batch) -> Tensor:
        """Return tag scores [N, B, L, K] in fp32, on the CPU."""


class TorchRuntime:
    """The tagger itself, in fp32 or in a bf16 copy of its encoder, on the CPU or a GPU."""

    def __init__(self, tagger: Tagger, dtype: torch.dtype = torch.float32) -> None:
        self._device = next(tagger.parameters()).device
        cuda = self._device.type == "cuda"
        self.name = f"torch-{'fp32' if dtype == torch.float32 else 'bf16'}{'-cuda' if cuda else ''}"
        self.tokens_a_batch = TOKENS_A_BATCH_CUDA if cuda else TOKENS_A_BATCH[tagger.encoder.kind]
        self._tagger = tagger if dtype == torch.float32 else copy.deepcopy(tagger).to(dtype)
        self.memory = sum(tensor.nbytes for tensor in self._tagger.state_dict().values())

    def emissions(self, batch: Batch) -> Tensor:
        """Return tag scores [N, B, L, K] in fp32, on the CPU."""
        with torch.inference_mode():
            return self._tagger.emissions(batch.to(self._device)).cpu()


class OnnxRuntime:
    """ONNX Runtime on an exported graph of encoder and linear layer."""

    def __init__(self, tagger: Tagger, graph: Path, name: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads_for(tagger.encoder.kind)
        options.log_severity_level = 3
        # Threads that wait by spinning would take the cores from the other requests, and from a swap.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._tagger = tagger
        self.name = name
        self.tokens_a_batch = TOKENS_A_BATCH[tagger.encoder.kind]
        self.memory = sum(file.stat().st_size for file in (graph, _weights(graph)) if file.exists())

    def emissions(self, batch: Batch) -> Tensor:
        """Return tag scores [N, B, L, K] in fp32, on the CPU."""
        (scores,) = self._session.run(["scores"], {"ids": batch.ids.numpy(), "sizes": batch.sizes.numpy()})
        return self._tagger.by_unit(torch.from_numpy(scores), batch.heads)


@dataclass(frozen=True)
class Choice:
    """Which runtime serves a model on this machine, and the milliseconds a text of each that was timed."""

    name: str
    milliseconds: Mapping[str, float]


def fastest(tagger: Tagger, admitted: Iterable[str], folder: Path) -> tuple[Runtime, Choice]:
    """Return the fastest of the exact and the admitted runtimes on this machine; timed once, then read from `folder`.

    With a GPU there is no choice: torch, in bf16 where that was admitted. The graphs ONNX Runtime needs are made in
    `folder` (see `graphs_folder`) the first time, which takes about half a minute for BERT-base.
    """
    names = _candidates(admitted)
    with FileLock(folder / "lock"):  # one process of this machine makes and times them, the others wait for the result
        found = chosen(tagger, names, folder)
        if found is None:
            choice = _timed(tagger, names, folder)
            _write(_note(folder, names), json.dumps(asdict(choice)).encode())
            logger.info("%s is fastest here: %s", choice.name, choice.milliseconds)
            found = build(choice.name, tagger, folder), choice
        return found


def chosen(tagger: Tagger, admitted: Iterable[str], folder: Path) -> tuple[Runtime, Choice] | None:
    """Return what `fastest` returns where that takes no time; None where something must be made or timed first."""
    names = _candidates(admitted)
    if torch.cuda.is_available():
        tagger.cuda()
        runtime = TorchRuntime(tagger, torch.bfloat16 if "torch-bf16" in names else torch.float32)
        return runtime, Choice(runtime.name, {})
    note = _note(folder, names)
    if not note.exists():
        return None
    choice = Choice(**json.loads(note.read_text(encoding="utf-8")))
    return build(choice.name, tagger, folder), choice


def _candidates(admitted: Iterable[str]) -> list[str]:
    admitted = set(admitted)
    return [*EXACT, *(name for name in INEXACT if name in admitted)]


def _note(folder: Path, names: Sequence[str]) -> Path:
    return folder / f"{machine_key(names)}.json"


def graphs_folder(cache: Path, tagger: Tagger) -> Path:
    """Return the folder of a model's graphs and times; raises `SettingsError` where it cannot be written."""
    folder = cache / RUNTIMES / weights_key(tagger)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise SettingsError(
            f"cannot write the cache {cache} ({error.strerror}); set NERLOOP_HOME to a folder that can be written"
        ) from None


def build(name: str, tagger: Tagger, folder: Path) -> Runtime:
    """Return a runtime by its name; graphs are made in `folder` where they are missing."""
    if name.startswith("torch-"):
        return TorchRuntime(tagger, torch.bfloat16 if name == "torch-bf16" else torch.float32)
    graph = folder / f"{name}.onnx"
    if not graph.exists():
        _make_graph(tagger, graph)
    return OnnxRuntime(tagger, graph, name)


def milliseconds(runtime: Runtime, tagger: Tagger) -> float:
    """Time a runtime: the geometric mean, over the sizes of `TIMED`, of the least milliseconds a text."""
    total = 0.0
    for texts, ids in TIMED:
        batch = tagger.encoder.collate([Tokens([1] * ids, range(ids), []) for _ in range(texts)])
        runtime.emissions(batch)
        spent: list[float] = []
        while sum(spent) < SECONDS_EACH:
            started = time.perf_counter()
            runtime.emissions(batch)
            spent.append(time.perf_counter() - started)
        total += math.log(min(spent) * 1000 / texts)
    return math.exp(total / len(TIMED))


def threads_for(kind: str) -> int:
    """Return the threads for a kind of encoder: one for a GRU, all cores this process may use for a transformer.

    A GRU's steps are too small to share: a second thread gains nothing on an idle machine, and beside another busy
    process the two wait for each other at every step, which made a fine-tune ten times slower.
    """
    if kind == GruEncoder.kind:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(kind: str) -> None:
    """Set torch's threads, of the thread that calls, for a kind of encoder."""
    torch.set_num_threads(threads_for(kind))


def bf16_pays(device: str) -> bool:
    """Tell whether matrix products are clearly faster in bf16 than in fp32 here (0.1 s to find out)."""

    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.ones(512, 512, dtype=dtype, device=device)
        spent = []
        for _ in range(4):
            started = time.perf_counter()
            (matrix @ matrix)[0, 0].item()
            spent.append(time.perf_counter() - started)
        return min(spent)

    return seconds(torch.bfloat16) * 1.3 < seconds(torch.float32)


def machine_key(names: Sequence[str]) -> str:
    """Return a name for this machine and these candidates; another processor or release is timed again."""
    from importlib.metadata import version

    cpu = next((line for line in _cpu_lines() if line.startswith("model name")), platform.processor())
    facts = [cpu, str(os.cpu_count()), torch.__version__, version("onnxruntime"), *sorted(names)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _cpu_lines() -> list[str]:
    info = Path("/proc/cpuinfo")
    return info.read_text(encoding="utf-8").splitlines() if info.exists() else []


def _timed(tagger: Tagger, names: Sequence[str], folder: Path) -> Choice:
    set_threads(tagger.encoder.kind)
    runtimes = [build(name, tagger, folder) for name in names]
    turns = [[milliseconds(runtime, tagger) for runtime in runtimes] for _ in range(ROUNDS)]
    spent = {name: round(min(turn[place] for turn in turns), 3) for place, name in enumerate(names)}
    return Choice(min(spent, key=spent.__getitem__), spent)


class _Scores(nn.Module):
    """What the graph computes; a module of its own because the exporter calls `forward`."""

    def __init__(self, tagger: Tagger) -> None:
        super().__init__()
        self.tagger = tagger

    def forward(self, ids: Tensor, sizes: Tensor) -> Tensor:
        return self.tagger.scores(ids, sizes)


def _make_graph(tagger: Tagger, graph: Path) -> None:
    """Write the ONNX graph of encoder and linear layer: in fp32, or that one with int8 weights, by its name."""
    exact = graph.with_name("onnx-fp32.onnx")
    if graph != exact and not exact.exists():
        _make_graph(tagger, exact)
    with tempfile.TemporaryDirectory(dir=graph.parent) as temporary:
        made = Path(temporary) / graph.name  # the graph names the file of its weights, so that both keep their names
        if graph == exact:
            _export(tagger, made)
        else:
            _quantize(exact, made)
        weights = _weights(made)
        if weights.exists():
            weights.replace(_weights(graph))
        made.replace(graph)


def _weights(graph: Path) -> Path:
    """Return the file beside a transformer's graph that holds its weights.

    ONNX Runtime maps it. Weights within the graph would be read and copied, which takes three times as long beside the
    requests, and the allocator keeps most of that memory when the model has gone.
    """
    return graph.with_name(f"{graph.name}.data")


def _export(tagger: Tagger, made: Path) -> None:
    """Write the fp32 graph; of a transformer, attention, layer norm and GELU become ONNX Runtime's own operators."""
    ids, sizes = torch.ones(2, 8, dtype=torch.long), torch.tensor([8, 5])
    axes = {"ids": {0: "texts", 1: "ids"}, "sizes": {0: "texts"}, "scores": {0: "texts", 1: "ids"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's age and about constants, which are constants here
        torch.onnx.export(
            _Scores(tagger).eval(),
            (ids, sizes),
            str(made),
            input_names=["ids", "sizes"],
            output_names=["scores"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    if tagger.encoder.kind == TransformerEncoder.kind:
        from onnxruntime.transformers import optimizer

        config = tagger.encoder.config
        heads, size = int(config["num_attention_heads"]), int(config["hidden_size"])
        fused = optimizer.optimize_model(str(made), "bert", heads, size, opt_level=0)
        fused.save_model_to_file(str(made), use_external_data_format=True)


def _quantize(graph: Path, made: Path) -> None:
    """Write a graph with the weights of matrix products as int8; activations are quantized as they come."""
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(graph),
        str(made),
        weight_type=QuantType.QInt8,
        per_channel=True,
        # Seven bits: processors without VNNI add two products in 16 bits, which eight bits overflow.
        reduce_range=True,
        use_external_data_format=_weights(graph).exists(),
        op_types_to_quantize=["MatMul", "Attention"],
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
    )


def _write(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)
