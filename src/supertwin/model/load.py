"""From a name, a folder or a config.json to a ModelSpec."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from supertwin.core.errors import ModelError, UnknownName, nearest_sentence
from supertwin.model.config import Config, short
from supertwin.model.families import ARCHITECTURES, BUILDERS
from supertwin.model.quantization import weight_format
from supertwin.model.spec import ModelSpec

_SHIPPED = Path(__file__).parent.parent / "data" / "models"
_LARGEST_FILE_BYTES = 16 << 20
_TUNED = re.compile(r"([-_](instruct|chat|it|base|hf))+$")  # the same shapes, trained further or not


@cache
def model_names() -> tuple[str, ...]:
    """Names of the shipped models, sorted."""
    return tuple(sorted(p.stem for p in _SHIPPED.glob("*.json")))


def load_model(given: str | Path) -> ModelSpec:
    """Read a shipped name, a folder that holds a config.json, or a JSON file. Case and punctuation of a name are free
    (`Llama-3.1-70B` = `llama3.1-70b`), and so are an owner in front and -Instruct or the like behind it
    (`meta-llama/Llama-3.1-70B-Instruct`).

    Raises UnknownName (no such name, with the nearest) or ModelError (the file cannot be read as a known architecture).
    """
    path = Path(given)
    name = _shipped_name(str(given))
    if name is not None:
        return _load_shipped(name)
    if given and _is_path(given):
        return spec_from_file(path)
    raise UnknownName("model", short(str(given), 80).strip("'"), model_names())


def _is_path(given: str | Path) -> bool:
    try:
        return isinstance(given, Path) or given.endswith(".json") or Path(given).exists()
    except (OSError, ValueError):
        return False


@cache
def _load_shipped(name: str) -> ModelSpec:
    return spec_from_file(_SHIPPED / f"{name}.json", name)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower().rsplit("/", 1)[-1])


@cache
def _aliases() -> Mapping[str, str]:
    return {_plain(name): name for name in reversed(model_names())}


def _shipped_name(given: str) -> str | None:
    if given.lower() in model_names():
        return given.lower()
    if given.endswith(".json") or given.startswith((".", "/", "~")) or len(given) > 200:
        return None
    return _aliases().get(_plain(given)) or _aliases().get(_plain(_TUNED.sub("", given.lower())))


def spec_from_file(path: Path, name: str = "") -> ModelSpec:
    """Read a JSON file, or the config.json of a folder. Raises ModelError."""
    name = name or (path.name if path.is_dir() else path.stem if path.stem != "config" else path.resolve().parent.name)
    if path.is_dir():
        path = path / "config.json"
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise ModelError(f"{path} is larger than a config.json can be")
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not a JSON configuration: {error}") from None
    return spec_from_config(values, name)


def spec_from_config(values: object, name: str = "config") -> ModelSpec:
    """Build the spec from a parsed config.json. Raises ModelError."""
    if not isinstance(values, dict):
        raise ModelError(f"model {name}: a configuration is a JSON object, not {short(values)}")
    whole = Config(values, name)
    config = language_part(whole)
    family = family_of(config)
    spec = BUILDERS[family](config, family)
    beside = any(whole.section(part).values for part in ("vision_config", "audio_config") if whole.has(part))
    return replace(spec, weight_format=weight_format(whole) or weight_format(config), multimodal=beside)


def language_part(config: Config) -> Config:
    """The text model of a multimodal configuration, the configuration itself otherwise."""
    for field in ("text_config", "llm_config", "language_config"):
        inner = config.section(field)
        if inner.values:
            outer = {k: config.values[k] for k in ("architectures", "tie_word_embeddings") if k in config.values}
            if inner.text("model_type") in BUILDERS:
                outer.pop("architectures", None)
            return Config({**outer, **inner.values}, config.name)
    return config


def family_of(config: Config) -> str:
    """The family's model type. A listed architecture must be known; the model type is the more exact of the two."""
    architectures, model_type = config.texts("architectures"), config.text("model_type")
    known = [a for a in architectures if a in ARCHITECTURES]
    if architectures and not known:
        raise config.error(
            f"unknown architecture {short(architectures[0], 60)}; {_nearest(architectures[0], ARCHITECTURES)}"
        )
    if model_type in BUILDERS:
        return model_type
    if known:
        return ARCHITECTURES[known[0]]
    if model_type:
        raise config.error(f"unknown model_type {short(model_type, 60)}; {_nearest(model_type, BUILDERS)}")
    raise config.error("fields architectures and model_type are missing: one of them must name the architecture")


def _nearest(given: str, legal: Mapping[str, object]) -> str:
    lowered = {name.lower(): name for name in legal}
    sentence = nearest_sentence(given[:200], sorted(lowered))
    return re.sub(r"[\w.-]+", lambda m: lowered.get(m.group(), m.group()), sentence)
