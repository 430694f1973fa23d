"""Which experiments there are, and what they are called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from catalog.mixtures.mixture import check_name
from catalog.recipes import RECIPES
from cogdata.errors import CogError
from collectors.envs import ENVS
from trainers.paper.ablations import ABLATIONS
from trainers.paper.experiments import learns_from_prior
from trainers.paper.plan import plan_ablations, plan_experiments, plan_finetuning
from trainers.paper.table1 import BUDGETS, TASKS, find_tasks
from trainers.training.methods import METHODS, configure_stages

STATE = {"obs": "state", "preset": "fast"}


def test_the_published_table_is_the_one_of_the_paper() -> None:
    """Table 1: COG's column, row by row, and that nobody else gets anywhere where the task data never begin."""
    cog = {condition.env: condition.paper["cog"] for task in TASKS.values() for condition in task.conditions}
    assert cog == {
        "cog/PlaceTray-v0": (1.0, 0.0), "cog/PickTray-v0": (0.96, 0.04), "cog/DrawerOpen-v0": (0.98, 0.02),
        "cog/DrawerClosed-v0": (0.68, 0.07), "cog/DrawerBlocked1-v0": (0.78, 0.07),
        "cog/DrawerBlocked2-v0": (0.76, 0.09),
    }  # fmt: skip
    for condition in (
        condition for task in TASKS.values() for condition in task.conditions if not condition.familiar
    ):
        assert condition.paper["no_prior"] == condition.paper["bc_init"] == (0.0, None)


@pytest.mark.parametrize("name", TASKS)
def test_what_a_task_names_exists(name: str) -> None:
    task = TASKS[name]
    envs = [condition.env for condition in task.conditions]
    assert sorted(env for scenario in task.scenarios for env in scenario.envs) == sorted(envs)
    assert set(envs) <= ENVS.keys()
    for scenario in task.scenarios:
        assert {scenario.mixture(obs) for obs in ("state", "image", "image+robot")} <= RECIPES.keys()
    assert {method for condition in task.conditions for method in condition.paper} <= METHODS.keys()


def test_a_method_without_prior_is_trained_once_for_all_conditions() -> None:
    experiments = plan_experiments(["drawer"], methods=["bfn", "no_prior"], seeds=[3], **STATE)
    assert [
        (experiment.name, experiment.mixture, len(experiment.envs), experiment.curve_env)
        for experiment in experiments
    ] == [
        ("closed_drawer-state-fast-bfn-s3", "closed_drawer", 2, "cog/DrawerClosed-v0"),
        ("blocked_drawer_1-state-fast-bfn-s3", "blocked_drawer_1", 1, "cog/DrawerBlocked1-v0"),
        ("blocked_drawer_2-state-fast-bfn-s3", "blocked_drawer_2", 1, "cog/DrawerBlocked2-v0"),
        ("closed_drawer-state-fast-no_prior-s3", "closed_drawer", 4, None),
    ]
    assert [name for name in METHODS if not learns_from_prior(name)] == [
        "no_prior",
        "bc_oracle",
        "bfn_no_prior",
    ]


def test_learners_of_images_get_the_mixture_for_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, ("fast", True), {"bfn": ("batch_size=64",)})
    (experiment,) = plan_experiments(
        ["place_in_tray"],
        obs="image+robot",
        preset="fast",
        methods=["bfn"],
        seeds=[0],
        settings=["bfn.critics=3"],
    )
    assert (experiment.mixture, experiment.scenario) == ("place_in_tray_wide", "place_in_tray")
    assert experiment.name == "place_in_tray-image_robot-fast-bfn-s0"
    config = configure_stages("bfn", "fast", experiment.settings)[0][1].to_dict()
    assert (config["batch_size"], config["critics"]) == (64, 3)


def test_settings_go_to_the_methods_that_have_such_a_stage() -> None:
    experiments = plan_experiments(
        ["place_in_tray"], methods=["bc_all", "bc_init"], seeds=[0], settings=["cql.updates=7"], **STATE
    )
    assert ["cql.updates=7" in experiment.settings for experiment in experiments] == [False, True]
    assert configure_stages("bc_init", "fast", experiments[1].settings)[1][1].updates == 7


@pytest.mark.parametrize(
    ("obs", "updates", "discount", "acting_samples"),
    [("state", 20, 0.5, 3), ("image+robot", 10, 0.6, 3), ("image", 10, 0.6, 3)],
)
def test_a_task_has_its_own_settings_with_and_without_images(
    obs: str, updates: int, discount: float, acting_samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget's 10 updates are the task's 20 from poses; acting samples are the task's for both."""
    for images in (False, True):
        monkeypatch.setitem(BUDGETS, ("fast", images), {"cql": ("updates=10",)})
    own = replace(
        TASKS["drawer"],
        overrides={"cql": ("acting_samples=3",)},
        state_overrides={"cql": ("updates=20", "discount=0.5")},
        image_overrides={"cql": ("discount=0.6",)},
    )
    monkeypatch.setitem(TASKS, "drawer", own)
    experiment = plan_experiments(["drawer"], obs=obs, preset="fast", methods=["cog"], seeds=[0])[0]
    config = configure_stages("cog", "fast", experiment.settings)[0][1].to_dict()
    found = (config["updates"], config["discount"], config["acting_samples"])
    assert found == (updates, discount, acting_samples)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"methods": ["cogg"]}, "unknown method 'cogg': did you mean 'cog'?"),
        ({"methods": ["cog", "cog"]}, "--methods cog,cog names a method twice"),
        ({"obs": "pixels"}, "unknown observation 'pixels'"),
        ({"preset": "slow"}, "unknown preset 'slow'"),
        ({"settings": ["updates=3"]}, "unknown stage of --set 'updates'"),
        ({"settings": ["bfn.update=3"]}, "unknown key 'update': did you mean 'updates'?"),
    ],
)
def test_what_cannot_be_planned_is_one_line(changed: dict[str, object], says: str) -> None:
    asked: dict[str, object] = {"methods": ["bfn"], "seeds": [0], **STATE, **changed}
    with pytest.raises(CogError) as caught:
        plan_experiments(["place_in_tray"], **asked)  # type: ignore[arg-type]
    assert str(caught.value).startswith(says)


def test_tasks_by_name() -> None:
    assert find_tasks("all") == ["place_in_tray", "drawer"]
    with pytest.raises(CogError, match=r"^unknown task 'draw': did you mean 'drawer'\? known: all, "):
        find_tasks("draw")


def test_an_ablation_differs_in_what_it_says() -> None:
    experiments = {
        experiment.change: experiment
        for experiment in plan_ablations(list(TASKS), list(ABLATIONS), seeds=[1], **STATE)
    }
    assert experiments["prior-10"].name == "place_in_tray-state-fast-bfn-prior-10-s1"
    assert experiments["prior-10"].learned_from == "place_in_tray_prior-10"
    assert experiments["generalist"].learned_from == "drawer_all"
    assert len(experiments["generalist"].envs) == 4
    assert experiments["flow-clone"].settings[-1] == "bc.head=flow"
    with pytest.raises(CogError, match="^unknown ablation 'prior-1'"):
        plan_ablations(list(TASKS), ["prior-1"], seeds=[0], **STATE)
    with pytest.raises(CogError, match="ablation 'prior-10' is of place_in_tray: name that task, or all"):
        plan_ablations(["drawer"], ["prior-10"], seeds=[0], **STATE)
    with pytest.raises(CogError, match="--ablations prior-10,prior-10 names an ablation twice"):
        plan_ablations(list(TASKS), ["prior-10", "prior-10"], seeds=[0], **STATE)


def test_inferred_rewards_are_those_of_what_was_seen() -> None:
    names = {
        obs: plan_ablations(list(TASKS), ["solved-inferred"], obs=obs, preset="fast", seeds=[0])[
            0
        ].learned_from
        for obs in ("state", "image", "image+robot")
    }
    assert names["state"] == "place_in_tray_solved_solved-inferred"
    assert len(set(names.values())) == 3
    for name in names.values():
        check_name(name)


def test_finetuning_goes_on_where_the_task_data_do_not_begin() -> None:
    experiments = plan_experiments(["drawer"], methods=["bfn", "bc_oracle"], seeds=[0], **STATE)
    tuned = plan_finetuning(experiments, 500)
    assert [(experiment.name, experiment.envs, experiment.online) for experiment in tuned[:2]] == [
        ("closed_drawer-state-fast-bfn-online-s0", ("cog/DrawerClosed-v0",), 500),
        ("blocked_drawer_1-state-fast-bfn-online-s0", ("cog/DrawerBlocked1-v0",), 500),
    ]
    with pytest.raises(CogError, match="^--finetune goes on with bfn, cog, bc_all: name one of them"):
        plan_finetuning(experiments[3:], 500)
