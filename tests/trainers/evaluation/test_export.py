from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from cogdata.errors import CogError
from tests.trainers.toy import small_learner
from trainers.algorithm import Algorithm, TensorObs
from trainers.algos import ALGORITHMS
from trainers.evaluation.evaluate import Policy
from trainers.evaluation.export import METADATA, TOLERANCE, export_policy, random_inputs


def policy_of(learner: Algorithm) -> Policy:
    return Policy(learner, "toy-run", seed=3, update=7, digest="d" * 64)


def expected_actions(learner: Algorithm, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the learner itself does; a deterministic one takes noise (B, 0)."""
    count = len(next(iter(inputs.values())))
    noise = inputs.get("noise", torch.zeros((count, 0)))
    return learner.act(TensorObs({part: inputs[part] for part in learner.spec.obs.names}), noise)


@pytest.mark.parametrize(
    ("algo", "kind"),
    [
        *((algo, "image+robot") for algo in ALGORITHMS),
        ("bc", "image"),
        ("bc head=mixture", "state"),
        ("bc head=flow hybrid=true", "state"),
        ("cql shared_encoder=true acting_samples=1", "image+robot"),
    ],
)
def test_a_torch_file_acts_as_the_learner_does_for_any_number_of_rows(algo: str, kind: str) -> None:
    name, *overrides = algo.split()
    learner = small_learner(name, kind, *overrides)
    exported = export_policy(policy_of(learner), "torch")
    extra = {METADATA: ""}
    module = torch.export.load(io.BytesIO(exported.data), extra_files=extra).module()
    assert json.loads(extra[METADATA]) == exported.about
    for count in (1, 5):
        inputs = random_inputs(learner, count, torch.Generator().manual_seed(count))
        found = module(*inputs.values())
        assert found.shape == (count, 8)
        assert torch.allclose(found, expected_actions(learner, inputs), atol=1e-6)
    assert exported.error <= 1e-6
    weights = sum(value.numel() for value in module.state_dict().values())
    kept = [part for part in learner.acting for part in learner.get_submodule(part).state_dict().values()]
    assert (
        weights <= sum(value.numel() for value in kept) + 1_000
    )  # constants of the observation, no critic's


@pytest.mark.parametrize(("algo", "kind"), [("bfn", "image+robot"), ("cql", "state")])
def test_an_onnx_file_acts_as_the_learner_does_and_says_what_goes_in(algo: str, kind: str) -> None:
    learner = small_learner(algo, kind)
    exported = export_policy(policy_of(learner), "onnx")
    model = onnx.load_from_string(exported.data)
    onnx.checker.check_model(model)
    (entry,) = (prop for prop in model.metadata_props if prop.key == METADATA)
    assert json.loads(entry.value) == exported.about
    session = onnxruntime.InferenceSession(exported.data)
    names = [row["name"] for row in exported.about["inputs"]]
    assert [one.name for one in session.get_inputs()] == names
    assert [one.name for one in session.get_outputs()] == ["action"]
    inputs = random_inputs(learner, 5, torch.Generator().manual_seed(5))
    (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    assert np.allclose(found, expected_actions(learner, inputs).numpy(), atol=1e-5)
    assert exported.error <= 1e-5


def test_what_the_metadata_say() -> None:
    """The toy world: frames of 16 px, a robot of 10 numbers; bc draws a number per action component, a mode none."""
    cloned = export_policy(policy_of(small_learner("bc", "image+robot")), "torch").about
    assert cloned["inputs"] == [
        {"name": "image", "dtype": "uint8", "shape": ["batch", 16, 16, 3]},
        {"name": "robot", "dtype": "float32", "shape": ["batch", 10]},
        {"name": "noise", "dtype": "float32", "shape": ["batch", 8]},
    ]
    assert cloned["outputs"] == [{"name": "action", "dtype": "float32", "shape": ["batch", 8]}]
    assert (cloned["run"], cloned["update"], cloned["weights_digest"]) == ("toy-run", 7, "d" * 64)
    assert cloned["scene_fields"] == []
    learned = export_policy(policy_of(small_learner("cql", "state", "acting_samples=1")), "torch").about
    assert [row["name"] for row in learned["inputs"]] == ["robot", "scene"]
    assert learned["scene_fields"] == ["place", "one"]


def test_files_run_where_this_project_is_not(tmp_path: Path) -> None:
    learner = small_learner("bfn", "image+robot")
    inputs = random_inputs(learner, 3, torch.Generator().manual_seed(2))
    for name, value in inputs.items():
        np.save(tmp_path / f"{name}.npy", value.numpy())
    for format in ("onnx", "torch"):
        (tmp_path / format).write_bytes(export_policy(policy_of(learner), format).data)
    code = """
import sys
for name in ("cogdata", "trainers", "cli"):
    sys.modules[name] = None
import numpy, onnxruntime, torch
inputs = {name: numpy.load(name + ".npy") for name in ("image", "robot", "noise")}
one = onnxruntime.InferenceSession("onnx").run(None, inputs)[0]
module = torch.export.load("torch").module()
with torch.no_grad():
    two = module(*(torch.from_numpy(inputs[name]) for name in inputs)).numpy()
numpy.savez("out.npz", one=one, two=two)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "out.npz")
    expected = expected_actions(learner, inputs).numpy()
    assert np.abs(found["one"] - expected).max() <= 1e-5
    assert np.abs(found["two"] - expected).max() <= 1e-6


def test_a_file_that_acts_differently_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainers.evaluation import export

    write = export.FORMATS["torch"]

    def shifted(*args: object) -> object:
        data, run = write(*args)  # type: ignore[arg-type]
        return data, lambda inputs: run(inputs) + 2 * TOLERANCE

    monkeypatch.setattr(export, "FORMATS", {"torch": shifted})
    with pytest.raises(CogError, match="acts differently: actions differ by up to 0.0002, more than 0.0001"):
        export_policy(policy_of(small_learner("bc")), "torch")


def test_what_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CogError, match="unknown format 'onx': did you mean 'onnx'"):
        export_policy(policy_of(small_learner("bc")), "onx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        CogError, match=r"--format onnx needs the library onnxruntime: pip install 'cogdata-robot\[export\]'"
    ):
        export_policy(policy_of(small_learner("bc")), "onnx")
