"""Classifiers and regressors on frozen embeddings, by SentEval's schemes. Arrays in, numbers out."""

from eval.probes.mlp import MlpSettings
from eval.probes.protocols import PROBES, SEED, Fold, Logistic, Mlp, Probe, Result, kfold, nested, split, stratified
from eval.probes.relatedness import Regression, RegressorSettings, regress

__all__ = [
    "PROBES",
    "SEED",
    "Fold",
    "Logistic",
    "Mlp",
    "MlpSettings",
    "Probe",
    "Regression",
    "RegressorSettings",
    "Result",
    "kfold",
    "nested",
    "regress",
    "split",
    "stratified",
]
