"""The trap gallery, step 9: a model that is not there, a ring that stands still, a hub out of reach."""

from __future__ import annotations

import msgspec
import pytest

from records.campaign import load_campaign
from rehearsal.layout import Layout
from tasks.benchmark.models import download_model
from tasks.errors import StepError
from tasks.start import start_group
from tests.support.gallery import laid


@pytest.mark.long
@pytest.mark.parametrize(
    ("trap", "words"),
    [
        ("always-ready-models", ["llama-3.2-3b"]),
        (
            "hub-unreachable",
            ["srv2 cannot fetch model.safetensors.index.json of ", "huggingface.co:443", "HF_ENDPOINT"],
        ),
        ("wrong-model", ["qwen2.5:3b"]),
        ("mlx-only-model", ["qwen-2.5-3b", "llama-3.2-3b"]),
    ],
)
def test_models(installed: Layout, trap: str, words: list[str]) -> None:
    """A download without a trace, a hub out of reach, another model's answer, an MLX-only card: each fails by name."""
    with laid(installed, trap) as lab:
        start_group(lab)
        with pytest.raises(StepError) as caught:
            download_model(lab)
    text = " ".join(msgspec.structs.astuple(caught.value.problem))
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("trap", "node", "words"),
    [
        ("readonly-ring", "srv1", ["start_layer=0, end_layer=8", "underlying buffer is not writable", "0.10.2"]),
        ("empty-shard", "srv2", ["IndexError: list index out of range", "layers by memory"]),
    ],
)
def test_rings_that_stand_still(installed: Layout, trap: str, node: str, words: list[str]) -> None:
    """A complete ring whose cause stands in one log alone ends step 9 in seconds: line, node and cause."""
    with laid(installed, trap) as lab:
        start_group(lab)
        with pytest.raises(StepError) as caught:
            download_model(lab)
        record = load_campaign(lab.logs).records[9]
    (problem,) = caught.value.problems
    assert problem.what == node
    text = " ".join(msgspec.structs.astuple(problem))
    assert all(word in text for word in words), text
    assert record.elapsed_s < 40


@pytest.mark.long
def test_a_mirror_of_the_hub_helps(installed: Layout) -> None:
    """The advice about a hub works: with HF_ENDPOINT in hosts.yaml `start` starts EXO again, and it answers."""
    with laid(installed, "hub-unreachable") as lab:
        start_group(lab)
        with pytest.raises(StepError, match="cannot fetch"):
            download_model(lab)
        exo = lab.profile.exo
        mended = msgspec.structs.replace(exo, environment={"HF_ENDPOINT": "http://mirror.example"})
        profile = msgspec.structs.replace(lab.profile, exo=mended)
        lab.inventory = msgspec.structs.replace(lab.inventory, profiles={lab.inventory.profile: profile})
        start_group(lab)
        assert "another variable HF_ENDPOINT" in load_campaign(lab.logs).records[6].summary
        assert download_model(lab).exo_answered == profile.models.small.exo
