"""The arithmetic of docs/scale.md: its formulas against what torch counts, its page against its tables."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def scale():
    """benchmarks/scale.py as a module."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks" / "scale.py")
    module = sys.modules["scale"] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        del sys.modules["scale"]


@pytest.mark.parametrize("tied", [False, True])
def test_weights_and_operations_by_formula_are_those_that_torch_counts(scale, tied):
    small = scale.Architecture(vocabulary=97, dim=24, inner=40, layers=3, heads=4, key_heads=2, head_dim=8, tied=tied)
    count = scale.counted(small, width=20)
    assert count["parameters"] == small.parameters()
    assert count["forward_flops_per_token"] == pytest.approx(small.forward_flops(20, 0), rel=1e-12)
    assert count["backward_over_forward"] == pytest.approx(2, rel=1e-12)
    assert small.forward_flops(20, 0.5) - small.forward_flops(20, 0) == 24 * 97


def test_an_adapter_has_as_many_weights_as_peft_gives_it(scale):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    small = scale.Architecture(vocabulary=97, dim=24, inner=40, layers=2, heads=4, key_heads=2, head_dim=8)
    model = AutoModelForCausalLM.from_config(small.config())
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert scale._adapter(small, rank=16) == trained


@pytest.fixture(scope="module")
def numbers():
    measured = ROOT / "docs" / "benchmarks" / "scale.json"
    if not measured.exists():
        pytest.skip("nothing is measured yet: python benchmarks/scale.py")
    return json.loads(measured.read_text())


def test_what_is_on_the_page_follows_from_what_was_measured(scale, numbers):
    again = scale.worked_out(numbers["counted"], numbers["measurements"], numbers["assumed"])
    for name, value in numbers["worked_out"].items():
        assert again[name] == pytest.approx(value, rel=1e-4), name


def test_hours_go_with_the_operations_and_bytes_with_the_rows(scale, numbers):
    count, measured, given = numbers["counted"], numbers["measurements"], numbers["assumed"]
    found = scale.worked_out(count, measured, given)
    operations = scale.ROWS * found["flops_per_row_forward"]
    assert found["hours"]["reference"] * 3600 * 8 * 989e12 * 0.4 == pytest.approx(operations)
    assert found["hours"]["train_full"] == pytest.approx(3 * found["hours"]["reference"])
    twice = scale.worked_out(count, measured, given | {"gpus": 16})
    assert twice["hours"]["train_full"] == pytest.approx(found["hours"]["train_full"] / 2)
    assert twice["per_gpu"]["state_full"] == pytest.approx(found["per_gpu"]["state_full"] / 2)
    assert found["per_gpu"]["state_full"] == pytest.approx(16 * count["parameters"] / 8)


def test_the_page_names_only_what_the_tables_hold(scale, numbers):
    named = set(re.findall(r"\{\{ scale\.(\w+) \}\}", (ROOT / "docs" / "scale.md").read_text()))
    assert named == set(scale.tables(numbers))
