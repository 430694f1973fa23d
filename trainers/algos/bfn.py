"""Best-of-N over a flow model of behaviour: in-sample Q-learning with proposals from the data's distribution.

A flow-matching model β(a|s) clones all actions in the mixture. Two critics learn the value of the policy
"the best of N proposals of β". This rule is the policy, so no actor is trained, and the critics never
evaluate an action outside the data. The idea is EMaQ's (Ghasemipour et al., arXiv 2007.11091) and, with a
diffusion model, IDQL's (Hansen-Estruch et al., arXiv 2304.10573); flow matching after Lipman et al. (arXiv
2210.02747). Initial settings: this project's feasibility study (docs/learning.md, Feasibility), "study".

Deviations from EMaQ:

1. β is a flow model in equal Euler steps, not autoregressive.
2. Acting uses the mean of the critics, the backup their minimum.
3. A slow exponential average of the weights acts and proposes in the backup; the target networks that
   evaluate the proposals are updated faster, as in any Q-learning. With the average the clone grasps twice as
   often (docs/learning.md), and the policies of neighbouring checkpoints differ little.
4. A success (reward > 0) is absorbing by default: its target is the reward, without bootstrapping.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cogdata.errors import CogError
from trainers.algorithm import Algorithm, Config, Spec, Success, TensorBatch, TensorObs
from trainers.networks.augment import augment
from trainers.networks.encoders import Inputs
from trainers.networks.flow import Flow
from trainers.networks.modules import Critics, average, follow
from trainers.networks.precision import has_bfloat16
from trainers.networks.targets import BELLMAN_TARGETS

CriticLoss = Literal["squared", "cross_entropy"]
"""Loss between a critic and its target."""

UNLIKELY: Final = -5.0
"""Initial logit of critics that predict probabilities: a value close to 0."""


@dataclass(frozen=True)
class BfnConfig(Config):
    """Settings of best-of-N learning."""

    updates: int = 10_000  # number of updates (study)
    batch_size: int = 256  # transitions per update (study)
    encoder: str = "fast"  # image encoder, key of ENCODERS
    crop_px: int = 0  # padding of the random crop in training; crops reduce precision (docs/encoders.md)
    discount: float = 0.95  # γ; a smaller one gives more contrast between values (study)
    target_rate: float = 0.04  # τ of the target critics (study: .02; docs/learning.md)
    average_rate: float = 0.005  # rate of the average that proposes and acts; 1/n at first (ours)
    learning_rate: float = 1e-3  # Adam's learning rate of all networks (study: 3e-4; docs/learning.md)
    decay: float = 0.0  # last fraction of the updates, in which the learning rate falls linearly to 0 (ours)
    backup_samples: int = 4  # N, number of proposals at s', whose best is backed up (study)
    acting_samples: int = 16  # N', number of proposals at s, whose best acts (study)
    flow_steps: int = 5  # number of Euler steps from noise to action (study)
    flow_widths: tuple[int, ...] = (256, 256, 256)  # hidden layers of β (study)
    critic_widths: tuple[int, ...] = (256, 256)  # hidden layers of each critic, with LayerNorm (study)
    critics: int = 2  # E, number of critics (study)
    critic_loss: CriticLoss = "squared"  # "cross_entropy": values as probabilities, resolves small ones
    critic_weight: float = 30.0  # weight of the critics' loss in the sum with the flow's (docs/encoders.md)
    half_proposals: bool = True  # proposals of the backup in bfloat16 where supported (ours)
    success: Success = "absorbing"  # a reward ends the return; "continuing": the paper, no terminals

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.require("discount", 0, 1 - 1e-6)
        self.require("target_rate", 1e-6, 1)
        self.require("average_rate", 1e-6, 1)
        self.require("learning_rate", 0, 1)
        self.require("decay", 0, 1)
        if self.critic_loss == "cross_entropy" and self.success != "absorbing":
            raise CogError("critic_loss=cross_entropy needs success=absorbing: values that are probabilities")
        self.require("critic_weight", 1e-6, 1e6)
        for name in ("backup_samples", "acting_samples", "flow_steps", "critics"):
            self.require(name, 1, 1024)


class BfnModel(nn.Module):
    """Encoder, behaviour model and critics, trained together."""

    def __init__(self, config: BfnConfig, spec: Spec) -> None:
        super().__init__()
        self.inputs = Inputs(spec.obs, config.encoder)
        self.flow = Flow(self.inputs.dim, spec.action.dim, config.flow_widths)
        self.critics = Critics(
            config.critics, self.inputs.dim, spec.action.dim, config.critic_widths, norm=True
        )
        for parameter in self.critics.out.parameters():
            nn.init.zeros_(parameter)  # all values start at 0: a random one takes 1/(1-γ) sweeps to fade
        if config.critic_loss == "cross_entropy":
            assert self.critics.out.bias is not None
            nn.init.constant_(self.critics.out.bias, UNLIKELY)


class Bfn(Algorithm):
    """Best-of-N over a flow model of behaviour."""

    name: ClassVar[str] = "bfn"
    presets: ClassVar[Mapping[str, Config]] = MappingProxyType(
        {
            "fast": BfnConfig(),
            "paper": BfnConfig(
                updates=300_000,
                encoder="paper",
                crop_px=4,
                learning_rate=3e-4,
                flow_widths=(1024, 512, 512),
                critic_widths=(1024, 512, 256),
                flow_steps=10,
            ),
        }
    )
    acting: tuple[str, ...] = ("average",)

    def __init__(self, config: BfnConfig, spec: Spec) -> None:
        super().__init__(spec)
        self.config: BfnConfig = config
        self.model = BfnModel(config, spec)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.target_inputs = copy.deepcopy(self.model.inputs).requires_grad_(False)
        self.target_critics = copy.deepcopy(self.model.critics).requires_grad_(False)
        self.optimisers = {
            "model": torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, fused=True)
        }

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Initial noise of the flow, for each proposal."""
        return (self.config.acting_samples, self.spec.action.dim)

    @property
    def value_range(self) -> tuple[float, float]:
        """Returns of rewards in [0, 1]: [0, 1] if success is absorbing, else [0, 1/(1-γ)]."""
        steps = 1.0 if self.config.success == "absorbing" else 1 / (1 - self.config.discount)
        low, high = self.spec.rewards
        return (min(low, 0.0) * steps, max(high, 0.0) * steps)

    def flow_loss(self, features: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        """Squared error of the velocity on straight lines from noise to action: (v(x_t, t) - (a - x_0))²."""
        noise = torch.randn(action.shape, generator=generator, device=action.device)
        time = torch.rand((len(action), 1), generator=generator, device=action.device)
        velocity = self.model.flow(features, torch.lerp(noise, action, time), time)
        return F.mse_loss(velocity, action - noise)

    def learning_rate(self) -> float:
        """Learning rate of the next update: the configured one, reduced in the last fraction of the run."""
        return self.config.learning_rate * self.rate_left(self.config.decay)

    @torch.no_grad()
    def next_value(self, obs: TensorObs, generator: torch.Generator) -> Tensor:
        """Value (B,) of the best of N proposals of the averaged β, by the smallest of the target critics."""
        features = self.target_inputs(obs)
        proposing = self.average.inputs(obs) if self.spec.obs.has_image else features  # states: no encoder
        shape = (self.config.backup_samples, len(obs), self.spec.action.dim)
        noise = torch.randn(shape, generator=generator, device=features.device)
        half = self.config.half_proposals and has_bfloat16(features.device.type)
        with torch.autocast(features.device.type, torch.bfloat16, enabled=half):
            actions = self.average.flow.sample(proposing, noise, self.config.flow_steps)
        values = self.values(self.target_critics(features, actions.float()))  # (E, N, B)
        return values.amin(0).amax(0)

    def values(self, outputs: Tensor) -> Tensor:
        """Return the values of the critics' outputs, which are values or logits."""
        return outputs if self.config.critic_loss == "squared" else torch.sigmoid(outputs)

    def critic_loss(
        self, features: Tensor, batch: TensorBatch, target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum over critics of the mean squared error, or cross entropy, to the common target (B,)."""
        outputs = self.model.critics(features, batch.action.unsqueeze(0)).squeeze(1)  # (E, B)
        if self.config.critic_loss == "squared":
            loss = (outputs - target).square().mean(1).sum()
        else:
            wanted = target.clamp(0, 1).expand_as(outputs)
            loss = F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none").mean(1).sum()
        values = self.values(outputs.detach())
        metrics = {
            "q_mean": values.mean(),
            "q_max": values.max(),
            "q_min": values.min(),
            "target_mean": target.mean(),
        }
        return loss, metrics

    def update(self, batch: TensorBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one gradient step on flow and critics, then update targets and average."""
        batch = augment(batch, self.spec.obs, self.config.crop_px, generator)
        features = self.model.inputs(batch.obs)
        flow_loss = self.flow_loss(features, batch.action, generator)
        next_value = self.next_value(batch.next_obs, generator)
        target = BELLMAN_TARGETS[self.config.success](
            batch.reward, batch.terminated, next_value, self.config.discount
        )
        critic_loss, metrics = self.critic_loss(features, batch, target)
        optimiser = self.optimisers["model"]
        optimiser.param_groups[0]["lr"] = self.learning_rate()
        optimiser.zero_grad(set_to_none=True)
        (flow_loss + self.config.critic_weight * critic_loss).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        self.updates_done += 1
        follow(self.target_inputs, self.model.inputs, self.config.target_rate)
        follow(self.target_critics, self.model.critics, self.config.target_rate)
        average(self.average, self.model, self.config.average_rate, self.updates_done)
        return {"flow_loss": flow_loss.detach(), "critic_loss": critic_loss.detach(), **metrics}

    @torch.no_grad()
    def act(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Return the best of N' proposals by the mean of the averaged critics."""
        features = self.average.inputs(obs)
        actions = self.average.flow.sample(
            features, noise.transpose(0, 1), self.config.flow_steps
        )  # (N', B, A)
        best = self.average.critics(features, actions).mean(0).argmax(0)  # (B,)
        return actions[best, torch.arange(best.shape[0], device=best.device)]
