"""From characters to vectors: a GRU (LAC's architecture) and a transformer (RaNER's). Owns vocabularies and networks.

Both read one character as one token, so tags are exact to the character, and have the same four members:
`kind`, `hidden_size`, `max_characters` and `config` beside `ids` and `forward`. Loading and saving is checkpoint.py's.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class GruEncoder(nn.Module):
    """Character embedding and a two-layer bidirectional GRU."""

    kind = "gru"
    max_characters = 2000  # no hard limit; windows bound the memory of very long texts

    def __init__(self, vocabulary: Mapping[str, int], rows: int, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.vocabulary = dict(vocabulary)
        self.config: dict[str, Any] = {"rows": rows, "embedding_size": embedding_size, "hidden_size": hidden_size}
        self.unknown = self.vocabulary["OOV"]
        self.embedding = nn.Embedding(rows, embedding_size)
        self.gru = nn.GRU(embedding_size, hidden_size, 2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.2)
        self.hidden_size = 2 * hidden_size

    def ids(self, text: str) -> list[int]:
        """Return one vocabulary row a character."""
        return [self.vocabulary.get(character, self.unknown) for character in text]

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Map ids [B, L] to vectors [B, L, hidden_size]; padding never reaches a real position."""
        packed = pack_padded_sequence(
            self.dropout(self.embedding(ids)), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        vectors, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=ids.size(1))
        return vectors


class TransformerEncoder(nn.Module):
    """A BERT-like encoder that reads `[CLS] character … [SEP]`."""

    kind = "transformer"

    def __init__(self, vocabulary: Mapping[str, int], config: Mapping[str, Any]) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel  # two seconds; only checkpoints with a transformer pay them

        self.vocabulary = dict(vocabulary)
        self.config = dict(config)
        options = {key: value for key, value in config.items() if key != "model_type"}
        self.model = AutoModel.from_config(AutoConfig.for_model(config["model_type"], **options))
        self.hidden_size = int(config["hidden_size"])
        self.max_characters = int(config.get("max_position_embeddings", 512)) - 2
        self.begin, self.end, self.unknown = (self.vocabulary[token] for token in ("[CLS]", "[SEP]", "[UNK]"))

    def ids(self, text: str) -> list[int]:
        """Return one vocabulary row a character; lower case where the vocabulary has no capital."""
        rows = self.vocabulary
        return [rows.get(character, rows.get(character.lower(), self.unknown)) for character in text]

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Map ids [B, L] to vectors [B, L, hidden_size]."""
        framed = ids.new_zeros(ids.size(0), ids.size(1) + 2)
        framed[:, 0] = self.begin
        framed[:, 1:-1] = ids
        framed[torch.arange(len(ids), device=ids.device), lengths + 1] = self.end
        real = torch.arange(framed.size(1), device=ids.device)[None] < (lengths + 2)[:, None]
        vectors: Tensor = self.model(input_ids=framed, attention_mask=real.long()).last_hidden_state
        return vectors[:, 1:-1]


Encoder = GruEncoder | TransformerEncoder


def set_threads(kind: str) -> None:
    """Set torch's threads for a kind of encoder: one for a GRU, all cores for a transformer.

    A GRU's steps are too small to share: a second thread gains nothing on an idle machine, and beside another busy
    process the two wait for each other at every step, which made a fine-tune ten times slower.
    """
    torch.set_num_threads(1 if kind == GruEncoder.kind else os.cpu_count() or 1)


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return the rows as one tensor [B, L], padded with 0, and their lengths [B]."""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.tensor(row)
    return padded, lengths
