"""A policy as one file that runs without this project, in ONNX Runtime or after ``torch.export.load``.

Pre- and post-processing are part of it: observations go in as a world shows them, each under the name of its
feature, and actions come out within the bounds of the world, an index for a Discrete one. What a policy draws
at random is an input too: ``noise``, standard normal. A policy that tells several robots apart has an input
``embodiment``, an index into ``embodiments`` of the metadata, -1 for another robot.
The first dimension of all of them is ``batch``. Stacked observations have time as their second, oldest first,
and so has the ``action`` of a policy of chunks. If actions are differences from an observation, that is an
input and is added inside; nothing clips the sum. ``relative_to`` of the metadata names it.
Names, types and shapes are in the file's metadata, under the key ``cogdata``.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from cogdata import __version__
from cogdata.errors import CogError, unknown
from cogdata.features import Feature
from cogdata.system.distribution import pip_install
from trainers.algorithm import Algorithm, TensorObs
from trainers.evaluation.evaluate import Policy
from trainers.spec import EMBODIMENT

TOLERANCE: Final = 1e-4
"""Largest difference of an action's entry, in [-1, 1], that rounding in another order may make."""

METADATA: Final = "cogdata"
"""Key of the description in the file's metadata."""

_CHECKED: Final = 32
"""Random observations that a written file is tried on, in one batch and one by one."""


@dataclass(frozen=True)
class Exported:
    """A policy as a file.

    Attributes:
        data: Its bytes.
        about: What its metadata say.
        error: Largest difference to the learner's actions on random observations.
    """

    data: bytes
    about: dict[str, Any]
    error: float


class _Acting(nn.Module):
    """The policy as a function of tensors alone: parts of the observation, then noise if it draws any."""

    def __init__(self, learner: Algorithm) -> None:
        super().__init__()
        self.learner = copy.copy(learner)  # without what only training needs: it would be written too
        self.learner._modules = {name: learner._modules[name] for name in learner.acting}
        self.learner._parameters = {}

    def forward(self, *inputs: Tensor) -> Tensor:
        parts = self.learner.spec.obs.inputs
        named = dict(zip(parts, inputs, strict=False))
        if self.learner.stochastic:
            noise = inputs[-1]
        else:
            noise = torch.zeros((inputs[0].shape[0], *self.learner.noise_shape))
        unit = self.learner.act(TensorObs({part: named[part] for part in parts}), noise)
        action = self.learner.spec.action.from_unit(unit, named.get(EMBODIMENT))
        if (base := _base(self.learner, named)) is None:
            return action
        return (base.double() + action.double()).to(action.dtype)


def _base(learner: Algorithm, inputs: Mapping[str, Tensor]) -> Tensor | None:
    """What the actions of a policy of differences are added to; None: they are absolute."""
    if not (name := learner.spec.action.relative_to):
        return None
    return inputs[name] if learner.spec.obs.stack == 1 else inputs[name][:, -1]


def _check_relative(learner: Algorithm) -> None:
    """Refuse differences from what a file cannot know.

    Raises:
        CogError: It says why.
    """
    base = learner.spec.action.relative_to
    if base and learner.chunk > 1:
        raise CogError(
            f"each action of a chunk is relative to {base} at its own step, which a file that predicts "
            f"{learner.chunk} actions cannot know: train with --set chunk=1, or on a mixture without "
            f"--transform"
        )
    if base and base not in learner.spec.obs.names:
        raise CogError(
            f"actions are relative to {base}, which the policy does not look at, so it is no input of the "
            f"file: add {base} to --obs, or train on a mixture without --transform"
        )


def export_policy(policy: Policy, format: str) -> Exported:
    """Write a policy into one file and try the file against it.

    Args:
        policy: What; on the CPU.
        format: Key of :data:`FORMATS`.

    Raises:
        CogError: Unknown format, a library that it needs is not installed, the file acts differently, or
            its actions are relative to what it is not shown.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    _check_relative(policy.learner)
    learner, about = policy.learner, _about(policy)
    example = random_inputs(learner, 2, torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch")
    with _quiet(), torch.no_grad():
        acting = _Acting(learner).eval()
        acting(*example.values())  # what the specification computes once must not be a part of the trace
        program = torch.export.export(
            acting, tuple(example.values()), dynamic_shapes=(({0: batch},) * len(example),)
        )
        data, run = FORMATS[format](program, about)
    error = _difference(learner, run)
    if not error <= TOLERANCE:
        raise CogError(
            f"the exported file acts differently: actions differ by up to {error:.2g}, more than "
            f"{TOLERANCE:g}; nothing was written"
        )
    return Exported(data, about, error)


def random_inputs(learner: Algorithm, count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw inputs of an exported policy by name: frames of noise, vectors as the data vary, normal noise.

    Args:
        learner: Says which inputs there are.
        count: B.
        generator: Source.
    """
    stack = learner.spec.obs.stack
    inputs = {}
    for one in learner.spec.obs.features:
        drawn = _random(one, learner, count * stack, generator)
        inputs[one.name] = drawn if stack == 1 else drawn.view(count, stack, *one.shape)
    if robots := learner.spec.obs.embodiments:
        inputs[EMBODIMENT] = torch.randint(-1, len(robots), (count,), generator=generator)
    if learner.stochastic:
        inputs["noise"] = torch.randn((count, *learner.noise_shape), generator=generator)
    return inputs


def _random(feature: Feature, learner: Algorithm, count: int, generator: torch.Generator) -> Tensor:
    shape, dtype = (count, *feature.shape), getattr(torch, feature.dtype)
    if feature.is_image:
        most = 2**8 if feature.dtype == "uint8" else 2**16
        return torch.randint(most, shape, generator=generator, dtype=torch.int32).to(dtype)
    spec = learner.spec.obs
    mean, std = (torch.tensor(numbers[feature.name]).view(feature.shape) for numbers in (spec.mean, spec.std))
    drawn: Tensor = mean + std * torch.randn(shape, generator=generator)
    return drawn.clamp(min=0).to(dtype) if feature.dtype.startswith("uint") else drawn.to(dtype)


def _about(policy: Policy) -> dict[str, Any]:
    spec, learner = policy.learner.spec, policy.learner
    inputs = random_inputs(learner, 1, torch.Generator())
    action, several = spec.action.feature, [learner.chunk] if learner.chunk > 1 else []
    relative = {"relative_to": spec.action.relative_to} if spec.action.relative_to else {}
    scene = next((one.names for one in spec.obs.features if one.name == "scene"), ())
    return {
        "run": policy.run,
        "algo": learner.name,
        "update": policy.update,
        "weights_digest": policy.digest,
        "cogdata_version": __version__,
        "scene_fields": list(scene),
        "embodiments": list(spec.obs.embodiments),
        "inputs": [
            {
                "name": name,
                "dtype": str(value.dtype).removeprefix("torch."),
                "shape": ["batch", *value.shape[1:]],
            }
            for name, value in inputs.items()
        ],
        "outputs": [{"name": "action", "dtype": action.dtype, "shape": ["batch", *several, *action.shape]}],
        **relative,
    }


Run = Callable[[Mapping[str, Tensor]], Tensor]
"""From inputs by name to actions, by the written file alone."""


def _as_torch(program: torch.export.ExportedProgram, about: dict[str, Any]) -> tuple[bytes, Run]:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA: json.dumps(about)})
    module = torch.export.load(io.BytesIO(buffer.getvalue())).module()

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        actions: Tensor = module(*inputs.values())
        return actions

    return buffer.getvalue(), run


def _as_onnx(program: torch.export.ExportedProgram, about: dict[str, Any]) -> tuple[bytes, Run]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ModuleNotFoundError as error:
        raise CogError(
            f"--format onnx needs the library {error.name}: {pip_install('export')}; --format torch does not"
        ) from None
    names = [entry["name"] for entry in about["inputs"]]
    converted = torch.onnx.export(program, input_names=names, output_names=["action"], verbose=False)
    assert converted is not None
    model = converted.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(about)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data)

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        (actions,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return torch.from_numpy(actions)

    return data, run


FORMATS: Final[Mapping[str, Callable[[torch.export.ExportedProgram, dict[str, Any]], tuple[bytes, Run]]]] = (
    MappingProxyType({"onnx": _as_onnx, "torch": _as_torch})
)
"""How to write a program: its bytes, and what runs them again."""

SUFFIXES: Final[Mapping[str, str]] = MappingProxyType({"onnx": ".onnx", "torch": ".pt2"})
"""How a file of a format is named."""


def _difference(learner: Algorithm, run: Run) -> float:
    inputs = random_inputs(learner, _CHECKED, torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = _Acting(learner)(*inputs.values())
        together = run(inputs)
        singly = torch.cat(
            [run({name: value[row : row + 1] for name, value in inputs.items()}) for row in range(_CHECKED)]
        )
    unit, robot, base = learner.spec.action.to_unit, inputs.get(EMBODIMENT), _base(learner, inputs)
    found = [expected, together, singly]
    if base is not None:
        found = [_but_for_rounding(one, expected).double() - base for one in found]
    wanted, *others = (unit(one, robot).double() for one in found)
    wrong = [one - wanted for one in others]
    return float(torch.stack(wrong).abs().max())


def _but_for_rounding(found: Tensor, expected: Tensor) -> Tensor:
    """Numbers that differ from others by no more than the last digit of a sum; those are the others."""
    digit = 2 * torch.finfo(expected.dtype).eps * expected.abs()
    return torch.where((found - expected).abs() <= digit, expected, found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' remarks on libraries that nothing here needs to themselves."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
