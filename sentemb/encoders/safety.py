"""Check model folders from other sources: refuse one that could run code, or that reads outside of its folder.

Weights are read from safetensors only. A module class must belong to sentence-transformers or sentemb. What the
libraries refuse themselves (code in the folder without ``trust_remote_code``, which is never set here) is left to them.
"""

import json
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from torch import nn

from sentemb.errors import InputError

SENTEMB_MODULES = {  # classes of sentemb that a checkpoint may name, by their places of today and of version 0.1
    "sentemb.encoders.final_states.FinalStates": "sentemb.encoders.final_states.FinalStates",
    "sentemb.encoders.gru.GRU": "sentemb.encoders.gru.GRU",
    "sentemb.gru.GRU": "sentemb.encoders.gru.GRU",
    "sentemb.encoders.onnx.encoder.OnnxEncoder": "sentemb.encoders.onnx.encoder.OnnxEncoder",
    "sentemb.encoders.skip_pooling.SkipPooling": "sentemb.encoders.skip_pooling.SkipPooling",
    "sentemb.encoders.two_tower.Towers": "sentemb.encoders.two_tower.Towers",
    "sentemb.towers.Towers": "sentemb.encoders.two_tower.Towers",
}
TWO_TOWERS = "sentemb.encoders.two_tower.Towers"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")  # what is read where it is there, and not a pickle
NO_PICKLE = re.compile(r"openvino|training_args|optimizer|scheduler|rng_state|scaler")  # never read as weights


def refuse_unsafe(folder: Path) -> None:
    """InputError if a model folder names classes or paths it should not, or has weights only as a pickle."""
    rows: Any = [{"path": "", "type": "sentence_transformers.base.modules.Transformer"}]  # a plain transformer
    if (folder / "modules.json").exists():
        rows = read_json(folder / "modules.json")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{folder / 'modules.json'} is not a list of modules; copy it again")
    for row in rows:
        _refuse_path(row.get("path"), folder / "modules.json")
        _refuse_class(row.get("type"), folder / "modules.json")
        _refuse_place(folder / row["path"], folder)


def _refuse_place(place: Path, folder: Path) -> None:
    """The same of the folder of a module, and of those that a router has inside."""
    if not place.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{place} is a link to a place outside of {folder}; do not use this model")
    for name in ("router_config.json", "config.json"):  # (the second in older ones)
        types = _object(place / name).get("types") if (place / name).exists() else None
        if isinstance(types, dict):
            for inside, kind in types.items():
                _refuse_path(inside, place / name)
                _refuse_class(kind, place / name)
                _refuse_place(place / inside, folder)
    for path in place.glob("*.index.json"):  # of weights in several files
        weights = _object(path).get("weight_map")
        for inside in weights.values() if isinstance(weights, dict) else ():
            _refuse_path(inside, path)
    for path in place.glob("sentence_*_config.json"):
        if (other := _object(path).get("tokenizer_name_or_path")) is not None:
            raise InputError(f"{path} names a tokenizer elsewhere, {other!r}; put its files into the folder instead")
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        pickled = path.suffix.lower() in PICKLED and not NO_PICKLE.match(path.name)
        if pickled and not any((place / name).exists() for name in WEIGHTS):
            raise InputError(
                f"{path} is a pickle, which can run any code when it is loaded; sentemb reads weights as safetensors "
                "only: convert it where you trust it (model.save_pretrained of the library that made it), or remove it"
            )


def read_json(path: Path) -> Any:
    """A file's JSON; InputError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())[:200]}); copy it again") from None


def _object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object; copy it again")
    return content


def _refuse_path(inside: Any, where: Path) -> None:
    """A path must stay inside its folder, by the rules of either system."""
    kinds = (PurePosixPath, PureWindowsPath)
    if isinstance(inside, str) and "\0" not in inside:
        parts = [kind(inside) for kind in kinds]
        if not any(p.is_absolute() or p.drive or p.root or ".." in p.parts for p in parts):
            return
    raise InputError(f"{where} names the path {inside!r}, outside of its folder; do not use this model")


def _refuse_class(name: Any, where: Path) -> None:
    """A module's class must be a torch module of sentence-transformers, or ours."""
    if name in SENTEMB_MODULES:
        return
    if isinstance(name, str) and re.fullmatch(r"sentence_transformers(\.[A-Za-z_]\w*)+", name):
        from sentence_transformers.util import import_from_string

        try:
            imported: Any = import_from_string(name)
        except (ImportError, AttributeError):
            imported = None
        if isinstance(imported, type) and issubclass(imported, nn.Module):
            return
    raise InputError(
        f"{where} names the class {name!r}, not a module of sentence-transformers or sentemb; reading it would "
        "run foreign code, so sentemb refuses it"
    )
