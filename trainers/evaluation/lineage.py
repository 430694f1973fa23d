"""From a number back to the simulator: the chain of what it was made of, and pictures of the data."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from cogdata.display.images import contact_sheet, png
from cogdata.storage.collections import read_collection
from cogdata.storage.manifest import Manifest
from cogdata.storage.runs import read_run
from cogdata.storage.samples import Sample, read_frames
from cogdata.storage.store import Store
from trainers.evaluation.evaluate import Evaluation
from trainers.evaluation.report import Sheet, Step

_MOMENTS = 9
_ROWS = 4


def sheets(store: Store, manifest: Manifest) -> list[Sheet]:
    """Show the first episodes of each source, from first to last frame.

    Args:
        store: Where the shards are.
        manifest: Of the mixture.
    """
    found = []
    for source in manifest.sources:
        rows = [row for row in manifest.episodes.to_pylist() if row["source"] == source][:_ROWS]
        pictures = []
        for row in rows:
            frames = np.empty((row["steps"] + 1, *manifest.info.camera_size, 3), np.uint8)
            read_frames(store, Sample.of(row), frames)
            pictures.append(frames)
        caption = f"{source}: {', '.join(row['episode_id'] for row in rows)}"
        found.append(Sheet(caption, png(contact_sheet(pictures, moments=_MOMENTS))))
    return found


def lineage(store: Store, manifest: Manifest, evaluations: Sequence[Evaluation]) -> list[Step]:
    """List what the evaluations rest on: evaluation → run → mixture → collection.

    Args:
        store: Where all of it is.
        manifest: Of the mixture that every run learned from.
        evaluations: What the report's numbers are.
    """
    runs = list(dict.fromkeys(evaluation.run for evaluation in evaluations))
    names = sorted({shard.split("/")[1] for shard in manifest.episodes["shard"].to_pylist()})
    return [
        *(_evaluation_step(evaluation) for evaluation in evaluations),
        *(_run_step(store, run) for run in runs),
        _mixture_step(manifest),
        *(_collection_step(store, name) for name in names),
    ]


def _evaluation_step(evaluation: Evaluation) -> Step:
    rows = evaluation.rows.to_pylist()
    facts = {
        "run": evaluation.run,
        "environment": rows[0]["env"],
        "checkpoint": f"update {rows[0]['update']:,}, weights {rows[0]['checkpoint_digest'][:16]}",
        "seeds": f"{len(rows)}, {rows[0]['seed']} to {rows[-1]['seed']}",
    }
    return Step(f"Evaluation {evaluation.name}", facts)


def _run_step(store: Store, run: str) -> Step:
    info = read_run(store, run)
    facts = {
        "mixture": f"{info.mixture}@{info.mixture_version}",
        "observation": info.obs,
        "seed": str(info.seed),
        "device": info.device,
    }
    return Step(f"Run {run}", facts, json.dumps(info.config, indent=2))


def _mixture_step(manifest: Manifest) -> Step:
    info = manifest.info
    counts = {
        f"source {source}": f"{count.episodes:,} episodes, {count.transitions:,} transitions, "
        f"{count.rewarded_before:,} rewarded as collected, {count.rewarded_after:,} as frozen"
        for source, count in sorted(info.counts.items())
    }
    return Step(f"Mixture {info.ref}", {"digest": info.digest, **counts}, info.sql)


def _collection_step(store: Store, name: str) -> Step:
    head = vars(read_collection(store, name))
    facts = {key: str(value) for key, value in head.items() if key not in ("name", "schema_version")}
    return Step(f"Collection {name}", facts)
