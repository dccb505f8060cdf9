"""A GRU module for sentence-transformers, which has only an LSTM. Checkpoints with it load with ``sentemb.load``."""

from sentence_transformers.sentence_transformer.modules import LSTM
from torch import nn


class GRU(LSTM):
    """Bidirectional or one-directional GRU over word embeddings: the stock LSTM module with another cell."""

    config_file_name: str = "gru_config.json"

    def __init__(
        self,
        embedding_dimension: int,
        hidden_dim: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = True,
    ) -> None:
        super().__init__(embedding_dimension, hidden_dim, num_layers, dropout, bidirectional)
        self.encoder = nn.GRU(  # type: ignore[assignment]
            embedding_dimension,
            hidden_dim,
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=bidirectional,
            batch_first=True,
        )
