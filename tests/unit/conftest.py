import io
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

import hypothesis
import pytest
import torch

from nerloop.crf import Crf
from nerloop.encoder import GruEncoder, TransformerEncoder
from nerloop.starter import starter
from nerloop.tagger import Tagger
from nerloop.tagging import Decoder, TagSet
from nerloop.tasks import Project, Task
from nerloop.tokenizer import CharacterVocabulary, SubwordTokenizer

# The same examples in every run and on every machine, and none of them stored.
hypothesis.settings.register_profile("unit", derandomize=True, database=None, deadline=None, max_examples=60)
hypothesis.settings.load_profile("unit")

ROWS = 50
KNOWN = (*"张三丰王小明在北京市工作大学0123456789abcdefghijklmnopqrstuvwxyz，。",)
WORD_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *KNOWN, "hello", "##lo", "hel", "##b", "##2")
SENTENCES = ("张三 在 北京市 工作 。", "hello world 12", "李四 和 王五 去 了 上海 。")


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # models this small only wait for each other's threads
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def lac() -> Tagger:
    return starter()


@pytest.fixture(scope="session")
def tiny_tagger() -> Callable[..., Tagger]:
    """Builds an untrained tagger that knows digits and letters; the weights of seed 2 find entities everywhere."""

    def build(
        labels: tuple[str, ...] = ("LOC", "PER"), seed: int = 2, hidden_size: int = 8, decoder: Decoder | None = None
    ) -> Tagger:
        characters = (string.digits + string.ascii_letters)[: ROWS - 1]
        vocabulary = {"OOV": 0} | {character: row for row, character in enumerate(characters, start=1)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = GruEncoder(CharacterVocabulary(vocabulary), ROWS, 8, hidden_size)
            return Tagger(encoder, decoder or Decoder.flat(labels)).eval()

    return build


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a WordPiece vocabulary of a few characters and words."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORD_PIECES), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def xlm_roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a SentencePiece model trained on three sentences."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("xlm-roberta")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 3),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "sentencepiece.bpe.model").write_bytes(model.getvalue())
    return folder


@pytest.fixture(scope="session")
def tiny_transformer(bert_folder: Path) -> Callable[..., Tagger]:
    """Builds an untrained tagger on a BERT of one layer that reads 30 ids at once, or of other measures."""
    read = cache(SubwordTokenizer.read)

    def build(
        decoder: Decoder | None = None, seed: int = 0, *, split_into_characters: bool = True, **measures: int
    ) -> Tagger:
        config = {
            "model_type": "bert",
            "vocab_size": len(WORD_PIECES),
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 32,
            **measures,
        }
        tokenizer = read(bert_folder, "bert", split_into_characters=split_into_characters)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Tagger(TransformerEncoder(tokenizer, config), decoder or Decoder.flat(["PER"])).eval()

    return build


class EveryPath:
    """All legal tag paths of one text in one layer and their scores, the slow way: what the CRF must agree with."""

    def __init__(self, crf: Crf, tag_set: TagSet, emissions: torch.Tensor, layer: int = 0) -> None:
        self.paths = legal_paths(tag_set, len(emissions))
        tags = torch.tensor(self.paths)
        scores = crf.start_transitions[layer, tags[:, 0]] + crf.end_transitions[layer, tags[:, -1]]
        for position in range(len(emissions)):
            scores = scores + emissions[position, tags[:, position]]
        for position in range(1, len(emissions)):
            scores = scores + crf.transitions[layer, tags[:, position - 1], tags[:, position]]
        self.scores = scores

    @property
    def log_z(self) -> torch.Tensor:
        return self.scores.logsumexp(0)


@cache
def legal_paths(tag_set: TagSet, length: int) -> list[tuple[int, ...]]:
    paths: list[tuple[int, ...]] = [(tag,) for tag in range(len(tag_set.tags)) if tag_set.may_start(tag)]
    for _ in range(length - 1):
        paths = [
            (*path, tag) for path in paths for tag in range(len(tag_set.tags)) if tag_set.may_follow(path[-1], tag)
        ]
    return [path for path in paths if tag_set.may_end(path[-1])]


@pytest.fixture(scope="session")
def every_path() -> type[EveryPath]:
    return EveryPath


class TaskServer:
    """The tasks of some projects as Label Studio lists them; `read` and `listed` say which were read whole, or bare.

    It stands in for a server; tests/e2e asks a real one the same.
    """

    def __init__(self, **tasks: Sequence[Task]) -> None:
        self.stored = {name: {task.id: task for task in given} for name, given in tasks.items()}
        self.read: list[int] = []
        self.listed: list[int] = []

    def tasks(
        self,
        project: Project,
        *,
        annotated: bool,
        changed_since: datetime | None = None,
        ids: Sequence[int] = (),
        bare: bool = False,
    ) -> Iterator[Task]:
        for task in list(self.stored.get(f"p{project.id}", {}).values()):
            if self._is_annotated(task) is not annotated or (ids and task.id not in ids):
                continue
            if changed_since is None or datetime.fromisoformat(task.updated_at) >= changed_since:
                (self.listed if bare else self.read).append(task.id)
                yield replace(task, annotations=()) if bare else task

    def count_tasks(self, project_id: int, *, annotated: bool) -> int:
        return sum(self._is_annotated(task) is annotated for task in self.stored.get(f"p{project_id}", {}).values())

    def ml_backends(self, project_id: int) -> list[dict[str, object]]:
        return []

    def change(self, project_id: int, task: Task) -> None:
        self.stored[f"p{project_id}"][task.id] = task

    def delete(self, project_id: int, task_id: int) -> None:
        del self.stored[f"p{project_id}"][task_id]

    def annotated(self, project_id: int) -> list[Task]:
        return [task for task in self.stored[f"p{project_id}"].values() if self._is_annotated(task)]

    def _is_annotated(self, task: Task) -> bool:
        return any(not annotation.was_cancelled for annotation in task.annotations)


@pytest.fixture(scope="session")
def task_server() -> type[TaskServer]:
    return TaskServer
