"""From tokens to vectors: a GRU (LAC's architecture) and a transformer (RaNER's). Owns the networks and their batches.

Both have the same members: `kind`, `tokenizer`, `hidden_size`, `max_tokens`, `config`, `collate` and `forward`.
Loading and saving is checkpoint.py's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nerloop.tokenizer import CharacterVocabulary, SubwordTokenizer, Tokens


@dataclass(frozen=True)
class Batch:
    """B texts, padded: `ids` [B, T] with `sizes` [B] real ones, `heads` [B, L] with `lengths` [B] units.

    `heads` are the places in `ids` that speak for each unit; padding repeats 0.
    """

    ids: Tensor
    sizes: Tensor
    heads: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})


class GruEncoder(nn.Module):
    """Character embedding and a two-layer bidirectional GRU."""

    kind = "gru"
    max_tokens = 2000  # no hard limit; windows bound the memory of very long texts

    def __init__(self, tokenizer: CharacterVocabulary, rows: int, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.config: dict[str, Any] = {"rows": rows, "embedding_size": embedding_size, "hidden_size": hidden_size}
        self.embedding = nn.Embedding(rows, embedding_size)
        self.gru = nn.GRU(embedding_size, hidden_size, 2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.2)
        self.hidden_size = 2 * hidden_size

    def collate(self, texts: Sequence[Tokens]) -> Batch:
        """Pad texts of at least one unit each."""
        ids, sizes = pad([text.ids for text in texts])
        heads, lengths = pad([text.heads for text in texts])
        return Batch(ids, sizes, heads, lengths)

    def forward(self, ids: Tensor, sizes: Tensor) -> Tensor:
        """Map ids [B, T] to vectors [B, T, hidden_size]; padding never reaches a real position."""
        vectors: Tensor = self.dropout(self.embedding(ids))
        if self.training and not ids.is_cuda:
            return self._one_way_at_a_time(vectors, sizes)
        packed = pack_padded_sequence(vectors, sizes.cpu(), batch_first=True, enforce_sorted=False)
        vectors, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=ids.size(1))
        return vectors

    def _one_way_at_a_time(self, vectors: Tensor, sizes: Tensor) -> Tensor:
        """Return what the GRU makes of vectors [B, T, E] without packing them, whose gradient takes T² on a CPU.

        For the way back the texts themselves are turned round, so that their padding stays behind them.
        """
        place = torch.arange(vectors.size(1))
        turned = torch.where(place < sizes[:, None], sizes[:, None] - 1 - place, place)
        text = torch.arange(len(sizes))[:, None]
        start = vectors.new_zeros(1, len(sizes), self.gru.hidden_size)

        def run(one_way: Tensor, weights: Sequence[Tensor]) -> Tensor:
            return torch.gru(one_way, start, tuple(weights), True, 1, 0.0, self.training, False, True)[0]

        for there, back in zip(self.gru.all_weights[::2], self.gru.all_weights[1::2], strict=True):
            vectors = torch.cat([run(vectors, there), run(vectors[text, turned], back)[text, turned]], 2)
        return vectors


class TransformerEncoder(nn.Module):
    """A BERT or XLM-R encoder that reads `[CLS] … [SEP]`."""

    kind = "transformer"
    # Rows of the position table that no token uses: RoBERTa starts to count behind its padding row.
    unused_positions: ClassVar[dict[str, int]] = {"bert": 0, "xlm-roberta": 2}

    def __init__(self, tokenizer: SubwordTokenizer, config: Mapping[str, Any]) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel  # two seconds; only checkpoints with a transformer pay them

        # On a GPU, cuDNN's attention plans each new length anew: 37 ms in bf16 where the others take 0.06 ms.
        torch.backends.cuda.enable_cudnn_sdp(False)
        self.tokenizer = tokenizer
        options = {key: value for key, value in config.items() if key not in {"model_type", "torch_dtype", "dtype"}}
        self.model = AutoModel.from_config(AutoConfig.for_model(config["model_type"], **options))
        # With every default written out, which ModelScope expects to find.
        full = self.model.config.to_dict()
        self.config: dict[str, Any] = {
            key: value
            for key, value in full.items()
            if isinstance(value, int | float | str) and not key.startswith("_")
        }
        for parameter in self.model.pooler.parameters():
            parameter.requires_grad = False  # kept because checkpoints have it; nothing reads it
            nn.init.zeros_(parameter)  # where one has none, it is the same each time it is read
        self.hidden_size = int(config["hidden_size"])
        unused = self.unused_positions[config["model_type"]]
        self.max_tokens = int(config.get("max_position_embeddings", 512)) - unused - 2

    def collate(self, texts: Sequence[Tokens]) -> Batch:
        """Frame each text with the begin and end tokens, and pad."""
        begin, end = self.tokenizer.begin, self.tokenizer.end
        ids, sizes = pad([[begin, *text.ids, end] for text in texts], self.tokenizer.padding)
        heads, lengths = pad([[head + 1 for head in text.heads] for text in texts])
        return Batch(ids, sizes, heads, lengths)

    def forward(self, ids: Tensor, sizes: Tensor) -> Tensor:
        """Map ids [B, T] to vectors [B, T, hidden_size]."""
        real = torch.arange(ids.size(1), device=ids.device) < sizes[:, None]
        vectors: Tensor = self.model(input_ids=ids, attention_mask=real.long()).last_hidden_state
        return vectors


Encoder = GruEncoder | TransformerEncoder


def pad(rows: Sequence[Sequence[int]], value: int = 0) -> tuple[Tensor, Tensor]:
    """Return the rows as one tensor [B, L], padded with a value, and their lengths [B]."""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.full((len(rows), int(lengths.max())), value, dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.as_tensor(row)
    return padded, lengths
