"""How a run begins: from fresh weights, from another run's, or where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import torch

from cogdata.binding import bind
from cogdata.errors import CogError
from cogdata.storage.manifest import Manifest
from cogdata.storage.runs import read_run
from cogdata.storage.store import Store
from trainers.algorithm import Algorithm, Spec
from trainers.algos import build
from trainers.checkpoint import list_checkpoints, load_policy, load_training, read_info
from trainers.evaluation.during_training import parse_update
from trainers.training.batches import spec_of
from trainers.training.request import TrainRequest


def from_run(store: Store, request: TrainRequest, ref: str) -> TrainRequest:
    """Let a request start from a run's weights.

    Args:
        store: Where the run is.
        request: What to train.
        ref: ``RUN`` (its newest checkpoint), ``RUN@UPDATE`` or ``RUN@best``.

    Raises:
        CogError: No such run or checkpoint.
    """
    run, update = parse_run(ref)
    info = read_info(store, run, parse_update(store, run, update))
    return replace(request, parent=run, parent_update=info.update, parent_digest=info.weights_digest)


def check_start(store: Store, request: TrainRequest) -> None:
    """Refuse a parent that looks at something else or has other networks, before anything is begun.

    Raises:
        CogError: As it says.
    """
    parent, _ = load_policy(store, parent_of(request), request.parent_update)
    _check_obs(store, request)
    _build(request, parent.spec, torch.device("cpu")).start_from(parent)


def parse_run(ref: str) -> tuple[str, str | None]:
    """Split ``RUN``, ``RUN@UPDATE`` or ``RUN@best``.

    Args:
        ref: What the user typed.

    Returns:
        The run, and what :func:`trainers.evaluation.during_training.parse_update` reads.

    Raises:
        CogError: What follows the @ is neither a number nor "best".
    """
    run, at, update = ref.partition("@")
    if at and update != "best" and not (update.isascii() and update.isdecimal()):
        raise CogError(f"{ref!r} must be RUN, RUN@UPDATE or RUN@best, for example {run}@1000")
    return run, update if at else None


POLICY_WIDTHS: Final = {
    "bc": "widths",
    "cql": "policy_widths",
    "iql": "policy_widths",
    "sac": "policy_widths",
}
"""Algorithm with a network ``policy`` → the setting that says its layers."""


def same_policy(algo: str, settings: Mapping[str, Any], other: str) -> list[str]:
    """Return the settings that give one algorithm the policy network of another.

    Args:
        algo: Key of ``ALGORITHMS``.
        settings: Its configuration, plain.
        other: The algorithm that is to start from it, or that it starts from.

    Returns:
        ``key=value`` texts; none if one of the two has no such network.
    """
    if algo not in POLICY_WIDTHS or other not in POLICY_WIDTHS:
        return []
    widths = ",".join(map(str, settings[POLICY_WIDTHS[algo]]))
    return [f"{POLICY_WIDTHS[other]}={widths}", f"encoder={settings['encoder']}"]


def open_learner(
    store: Store, run: str, manifest: Manifest, request: TrainRequest
) -> tuple[Algorithm, float]:
    """Build the learner of a run as it stands: at its newest checkpoint, or as it begins.

    A learner that starts from another sees its inputs as that one did, normalised by the same numbers.

    Args:
        store: Where the run is, and its parent.
        run: Run id.
        manifest: What it learns from.
        request: What it is.

    Returns:
        The learner, and the wall time that was spent in its updates so far, s.

    Raises:
        CogError: The parent is gone, was changed, or does not fit.
    """
    device = torch.device(request.device)
    if list_checkpoints(store, run, full=True):
        learner = _build(request, read_info(store, run).spec, device)
        return learner, load_training(store, run, learner).seconds
    if request.parent is None:
        return _build(request, spec_of(request.obs, manifest), device), 0.0
    parent = read_parent(store, request)
    learner = _build(request, _seen_alike(store, parent, manifest, request), device)
    if request.online is not None and request.online.continues:
        _check_layers(learner, parent, request)
        load_training(store, parent_of(request), learner, request.parent_update)
    else:
        _take_over(store, learner, parent, request)
    return learner, 0.0


def read_parent(store: Store, request: TrainRequest) -> Algorithm:
    """Load the learner that a request starts from, with all that is left of its training.

    Args:
        store: Where it is.
        request: Names it.

    Raises:
        CogError: It is gone, or its weights are others by now.
    """
    parent = parent_of(request)
    learner, info = load_policy(store, parent, request.parent_update)
    if info.weights_digest != request.parent_digest:
        raise CogError(
            f"checkpoint {info.update} of run {parent!r} was exchanged since this run was begun: "
            f"restore it, or train anew"
        )
    if info.update in list_checkpoints(store, parent, full=True):
        load_training(store, parent, learner, info.update)
    return learner


def parent_of(request: TrainRequest) -> str:
    """Return the run that a request starts from.

    Raises:
        ValueError: It starts from none.
    """
    if request.parent is None:
        raise ValueError(f"this {request.algo} starts from no other run")
    return request.parent


def _build(request: TrainRequest, spec: Spec, device: torch.device) -> Algorithm:
    return build(request.algo, request.config, spec, request.seed, device)


def _check_obs(store: Store, request: TrainRequest) -> None:
    if (obs := read_run(store, parent_of(request)).obs) != request.obs:
        raise CogError(f"run {request.parent!r} looks at {obs}: say --obs {obs}")


def _seen_alike(store: Store, parent: Algorithm, manifest: Manifest, request: TrainRequest) -> Spec:
    """The parent's specification, if it can look at this mixture with it."""
    _check_obs(store, request)
    theirs, ours = parent.spec, spec_of(request.obs, manifest)
    if theirs.obs.names != ours.obs.names:
        raise CogError(
            f"run {request.parent!r} looks at {', '.join(theirs.obs.names)}, of mixture {manifest.info.ref} "
            f"--obs {request.obs} is {', '.join(ours.obs.names)}: start from a run on the same features"
        )
    if theirs.action.relative_to != ours.action.relative_to:
        raise CogError(
            f"run {request.parent!r} learned {_kind_of(theirs)}, mixture {manifest.info.ref} has "
            f"{_kind_of(ours)}: freeze it with the same --transform"
        )
    declared = manifest.info.spec
    bind(theirs.obs.features, theirs.action.feature, declared, f"mixture {manifest.info.ref}", exact=True)
    return theirs


def _kind_of(spec: Spec) -> str:
    base = spec.action.relative_to
    return f"actions relative to {base}" if base else "absolute actions"


def _check_layers(learner: Algorithm, parent: Algorithm, request: TrainRequest) -> None:
    """Refuse settings that change the networks of a learner that goes on."""
    if _shapes(learner) == _shapes(parent):
        return
    theirs = vars(parent.config)
    changed = [name for name, value in vars(request.config).items() if value != theirs[name]]
    alone = [name for name in changed if _changes_layers(parent, name, getattr(request.config, name))]
    settings = parent.config.to_dict()
    raise CogError(
        f"{request.algo} goes on with the layers that run {request.parent!r} has: leave "
        f"{', '.join(f'{name} at {settings[name]}' for name in alone or changed)}"
    )


def _changes_layers(parent: Algorithm, name: str, value: object) -> bool:
    """Whether a setting, changed alone, makes other networks."""
    with suppress(CogError):  # it may be right only beside another one
        config = replace(parent.config, **{name: value})  # type: ignore[arg-type]
        return _shapes(build(parent.name, config, parent.spec, 0)) != _shapes(parent)
    return False


def _shapes(learner: Algorithm) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in learner.state_dict().items()}


def _take_over(store: Store, learner: Algorithm, parent: Algorithm, request: TrainRequest) -> None:
    taken = learner.start_from(parent.to(request.device))
    full = list_checkpoints(store, parent_of(request), full=True)
    if request.parent_update not in full and (lost := sorted(set(taken) - set(parent.acting))):
        raise CogError(
            f"checkpoint {request.parent_update} of run {request.parent!r} has only its policy left, "
            f"{request.algo} takes over {', '.join(lost)} too: start from update "
            f"{' or '.join(map(str, full)) or 'of another run'}"
        )
