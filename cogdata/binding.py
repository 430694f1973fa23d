"""What a policy looks at and does, held against what a world shows and takes."""

from __future__ import annotations

from cogdata.features import EpisodeSpec, Feature


def differences(before: EpisodeSpec, now: EpisodeSpec) -> list[str]:
    """Say in which ways one declaration is another than it was, a few words each.

    Args:
        before: The one.
        now: The other.
    """
    old, new = _named(before), _named(now)
    found = [f"{name} is gone" for name in old if name not in new]
    found += [f"{name} is new" for name in new if name not in old]
    for name in old.keys() & new.keys():
        if old[name].identity() != new[name].identity():
            found.append(f"{name} is {new[name].describe()}, was {old[name].describe()}")
    if set(before.predicates) != set(now.predicates):
        found.append(
            f"predicates are {', '.join(now.predicates) or 'none'}, were "
            f"{', '.join(before.predicates) or 'none'}"
        )
    if before.reward != now.reward:
        found.append(f"reward is {now.reward}, was {before.reward}")
    return sorted(found) or ["its features have another order"]


def _named(spec: EpisodeSpec) -> dict[str, Feature]:
    return {one.name: one for one in (*spec.features, spec.action)}
