"""Masked-language modelling on the side of a contrastive loss: keeps a transformer's knowledge of words."""

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM, DataCollatorForLanguageModeling
from transformers.utils import logging

from sentemb.encoders import towers_of
from sentemb.errors import InputError


class MaskedWords(nn.Module):
    """The head that names masked words, and their masking: 15 % of words, of these 80 % masked, 10 % random, 10 % kept.

    The head is that of the checkpoint where it has one (``new`` is False then), its decoder tied to the model's word
    embeddings. It exists in training only. Source: Devlin et al. 2019 (arXiv 1810.04805), section 3.1; next to a
    contrastive loss: Gao et al. 2021 (arXiv 2104.08821), section 6.3 and table 6.

    Raises:
        InputError: the model is not a transformer with a masked-language-model head, or has two towers.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        first: Any = model[0]
        if len(towers_of(model)) > 1 or not isinstance(first, Transformer):
            raise InputError("mlm needs one transformer encoder; leave it out")
        self.tokenizer = first.tokenizer
        if self.tokenizer.mask_token_id is None:
            raise InputError("mlm needs a tokenizer with a mask token, but this model's has none; leave it out")
        masked_lm, self.new = _pretrained(first.auto_model.config)
        head: Any = getattr(masked_lm, "cls", None) or getattr(masked_lm, "lm_head", None)
        if not isinstance(head, nn.Module):
            raise InputError(f"mlm does not support the head of {type(masked_lm).__name__}; leave it out")
        words = first.auto_model.get_input_embeddings().weight
        if len(words) != len(masked_lm.get_output_embeddings().weight):  # (of a model with new tokens)
            masked_lm.resize_token_embeddings(len(words), mean_resizing=False)
        decoder: Any = masked_lm.get_output_embeddings()
        decoder.weight = words
        self.head: nn.Module = head
        self.collator = DataCollatorForLanguageModeling(self.tokenizer)

    def mask(self, features: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Features with words masked, and labels ``[n, L]``: the words that were there, -100 elsewhere."""
        device, ids = (
            features["input_ids"].device,
            features["input_ids"].cpu(),
        )  # (the collator's numbers are drawn there)
        special = torch.isin(ids, torch.tensor(self.tokenizer.all_special_ids))
        special |= features["attention_mask"].cpu() == 0
        masked, labels = self.collator.torch_mask_tokens(ids.clone(), special_tokens_mask=special)
        return features | {"input_ids": masked.to(device)}, labels.to(device)

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy (nats) of the masked words, from token embeddings ``[n, L, d]``; 0 if none is masked."""
        is_masked = labels != -100
        if not is_masked.any():  # a zero with a gradient for every weight, which other processes wait for
            return 0 * (tokens.sum() + sum(weight.sum() for weight in self.head.parameters()))
        return cross_entropy(self.head(tokens[is_masked]).float(), labels[is_masked])


def _pretrained(config: Any) -> tuple[Any, bool]:
    """The masked language model of a checkpoint, and whether its head had to be initialised."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        masked_lm, loading_info = AutoModelForMaskedLM.from_pretrained(
            config._name_or_path, output_loading_info=True, trust_remote_code=False, use_safetensors=True
        )
    except Exception as error:  # of files, of unknown architectures: each has its own
        why = " ".join(str(error).split())[:200]
        raise InputError(f"mlm finds no masked language model for this encoder ({why}); leave it out") from error
    finally:
        logging.set_verbosity(verbosity)
    missing = [name for name in loading_info["missing_keys"] if not name.startswith(masked_lm.base_model_prefix + ".")]
    return masked_lm, bool(missing)
