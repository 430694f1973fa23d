"""Images of the scenes: every environment at 192×192 px and, below, at the 48×48 px of observations.

python -m bench.paper.scenes --out docs/scenes.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from collectors.envs import ENVS, make

SIZE_PX = 192
GAP_PX = 6
TITLE_PX = 18
SCENE_ENVS = tuple(env_id for env_id in ENVS if "Randomized" not in env_id)


def titled(env_id: str, seed: int) -> NDArray[np.uint8]:
    """Draw one scene: its name, the large image, the enlarged small one.  # (H, W, 3)."""
    with_title = np.full((TITLE_PX + 2 * SIZE_PX + GAP_PX, SIZE_PX, 3), 255, np.uint8)
    env = make(env_id)
    env.reset(seed=seed)
    small = env.render(48)
    enlarged = cv2.resize(small, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_NEAREST)
    with_title[TITLE_PX : TITLE_PX + SIZE_PX] = env.render(SIZE_PX)
    with_title[TITLE_PX + SIZE_PX + GAP_PX :] = enlarged
    env.close()
    name = env_id.removeprefix("cog/").removesuffix("-v0")
    cv2.putText(with_title, name, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (30, 30, 30), 1, cv2.LINE_AA)
    return with_title


def main() -> None:
    """Write the image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/scenes.png"))
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    drawn = [titled(env_id, asked.seed) for env_id in SCENE_ENVS]
    gap = np.full((drawn[0].shape[0], GAP_PX, 3), 255, np.uint8)
    row = np.concatenate([piece for image in drawn for piece in (image, gap)][:-1], axis=1)
    cv2.imwrite(str(asked.out), cv2.cvtColor(row, cv2.COLOR_RGB2BGR))
    print(f"{asked.out}: {', '.join(SCENE_ENVS)}")


if __name__ == "__main__":
    main()
