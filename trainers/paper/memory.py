"""Whether experiments fit into memory together."""

from __future__ import annotations

from collections.abc import Sequence

from cogdata.errors import CogError
from cogdata.storage.manifest import Manifest, read_manifest
from cogdata.storage.store import Store
from cogdata.streaming import footprint
from cogdata.streaming.stream import StreamOptions
from cogdata.system import machine
from trainers.obs_kinds import OBS_KINDS
from trainers.paper.experiments import Experiment


def check_memory(store: Store, experiments: Sequence[Experiment], at_once: int) -> None:
    """Refuse more experiments at once than there is memory for: each checks its own pool alone.

    Args:
        store: Where the mixtures are.
        experiments: To be trained.
        at_once: Number of processes.

    Raises:
        CogError: The largest of them do not fit together.
    """
    manifests = {name: read_manifest(store, name) for name in {one.learned_from for one in experiments}}
    sizes = sorted((_pool_bytes(one, manifests[one.learned_from]) for one in experiments), reverse=True)
    free, taken = machine.free_memory(), sum(sizes[:at_once])
    if free is None or taken <= free:
        return
    fit = sum(sum(sizes[: count + 1]) <= free for count in range(at_once))
    advice = f"give --jobs {fit}" if fit else "give a smaller --scale"
    raise CogError(
        f"{min(at_once, len(sizes))} experiments at once need {taken / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
        f"free: {advice}, or stop something else"
    )


def _pool_bytes(experiment: Experiment, manifest: Manifest) -> int:
    batch = max(config.batch_size for _, config in experiment.stages)
    return sum(footprint.footprint(manifest, StreamOptions(batch, columns=OBS_KINDS[experiment.obs])))
