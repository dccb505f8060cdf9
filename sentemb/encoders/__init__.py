"""Encoders as SentenceTransformers: made from a spec (table ENCODERS), or loaded from a checkpoint, checked before."""

from sentemb.encoders.factory import ENCODERS, freeze_unused, has_dropout, mean_of_word_embeddings, two_towers
from sentemb.encoders.final_states import FinalStates
from sentemb.encoders.fine_tuning import (
    LoraAdapters,
    adapted_layers,
    add_frequent_words,
    copy_without_adapters,
    parse_lora,
    without_adapters,
)
from sentemb.encoders.fingerprint import fingerprint_of
from sentemb.encoders.gru import GRU
from sentemb.encoders.heads import HEADS
from sentemb.encoders.layers import at_layer, layer_stack, probe
from sentemb.encoders.loading import (
    folder_of_model,
    folder_of_pretrained,
    is_folder,
    load,
    read_model,
    refuse_missing_device,
)
from sentemb.encoders.model2vec import Precision, refuse_existing, save_model2vec
from sentemb.encoders.onnx import (
    GRAPH,
    ONNX,
    ONNX_INPUTS,
    ONNX_INSTALL,
    ONNX_OUTPUT,
    ONNX_TOKENIZER,
    OnnxEncoder,
    write_onnx_config,
)
from sentemb.encoders.prompts import SIDES, Prompts, parse_prompts, prompts_of, set_prompts
from sentemb.encoders.safety import read_json, refuse_unsafe
from sentemb.encoders.skip_pooling import SkipPooling
from sentemb.encoders.threads import all_threads
from sentemb.encoders.tokenizers import max_tokens_of, tokenizer_of
from sentemb.encoders.truncation import cut_rows, full_size, gives_unit_length, is_truncated, truncated
from sentemb.encoders.two_tower import Towers, as_router, default_prompt, towers_of
from sentemb.encoders.word_embeddings import (
    NamedTexts,
    Texts,
    embedding_table,
    learn_vocabulary,
    minilm_folder,
    resolve_embeddings,
)

__all__ = [
    "ENCODERS",
    "FinalStates",
    "GRAPH",
    "GRU",
    "HEADS",
    "LoraAdapters",
    "NamedTexts",
    "ONNX",
    "ONNX_INPUTS",
    "ONNX_INSTALL",
    "ONNX_OUTPUT",
    "ONNX_TOKENIZER",
    "OnnxEncoder",
    "Precision",
    "Prompts",
    "SIDES",
    "SkipPooling",
    "Texts",
    "Towers",
    "adapted_layers",
    "add_frequent_words",
    "all_threads",
    "at_layer",
    "as_router",
    "default_prompt",
    "mean_of_word_embeddings",
    "fingerprint_of",
    "folder_of_model",
    "folder_of_pretrained",
    "freeze_unused",
    "has_dropout",
    "is_folder",
    "layer_stack",
    "learn_vocabulary",
    "load",
    "max_tokens_of",
    "minilm_folder",
    "parse_lora",
    "parse_prompts",
    "without_adapters",
    "copy_without_adapters",
    "cut_rows",
    "full_size",
    "gives_unit_length",
    "is_truncated",
    "truncated",
    "probe",
    "prompts_of",
    "read_json",
    "read_model",
    "refuse_missing_device",
    "refuse_unsafe",
    "refuse_existing",
    "resolve_embeddings",
    "save_model2vec",
    "set_prompts",
    "embedding_table",
    "tokenizer_of",
    "two_towers",
    "write_onnx_config",
    "towers_of",
]
