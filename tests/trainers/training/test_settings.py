from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from cogdata.errors import CogError
from trainers.algorithm import Config
from trainers.algos import ALGORITHMS, config_class, configure
from trainers.training.settings import TrainSettings, read_settings, to_toml

BFN = {"bfn": config_class("bfn")}
BOTH = {"bc": config_class("bc"), "cql": config_class("cql")}


def written(tmp_path: Path, text: str) -> TrainSettings:
    path = tmp_path / "my.toml"
    path.write_text(text)
    return read_settings(path)


def test_a_file_says_what_options_say(tmp_path: Path) -> None:
    settings = written(
        tmp_path,
        """
        mixture = "closed_drawer@2"
        algo = "bfn"
        seed = 3
        from = "bc-run@100"
        log = ["wandb"]
        eval_episodes = 5
        [set]
        discount = 0.97
        learning_rate = 1
        critic_widths = [64, 32]
        half_proposals = false
        success = "continuing"
        """,
    )
    assert (settings.mixture, settings.algo, settings.seed) == ("closed_drawer@2", "bfn", 3)
    assert (settings.from_, settings.log, settings.eval_episodes) == ("bc-run@100", ("wandb",), 5)
    assert settings.preset is None
    assert settings.overrides(BFN) == [
        "discount=0.97", "learning_rate=1", "critic_widths=64,32", "half_proposals=false", "success=continuing",
    ]  # fmt: skip


def test_what_is_typed_silences_what_cannot_go_with_it(tmp_path: Path) -> None:
    file = written(tmp_path, 'algo = "bfn"\nfrom = "x"\nseed = 1\n[set]\nbatch_size = 8\n')
    seeds = file.under(TrainSettings(seeds="0:2", algo="bfn"))
    assert (seeds.seed, seeds.seeds, seeds.tables) == (None, "0:2", {"batch_size": 8})
    method = file.under(TrainSettings(method="bc_init"))
    assert (method.algo, method.method, method.from_, method.tables) == (None, "bc_init", None, {})
    assert file.under(TrainSettings(algo="cql")).tables == {}
    many = written(tmp_path, 'method = "cog"\nseeds = "0:2"\n')
    assert (many.under(TrainSettings(seed=3)).seeds, many.under(TrainSettings(algo="bc")).method) == (
        None,
        None,
    )


def test_what_is_typed_wins_and_set_wins_over_both(tmp_path: Path) -> None:
    """In rising order: the file's updates, its [set], --updates, --set; an option of the file without a rival stays."""
    text = "seed = 1\nthreads = 2\nupdates = 10\n[set]\nupdates = 20\nbatch_size = 8\n"
    file = written(tmp_path, text)
    assert file.overrides(BFN) == ["updates=10", "updates=20", "batch_size=8"]
    assert configure("bfn", "fast", file.overrides(BFN)).updates == 20
    typed = file.under(TrainSettings(seed=0, updates=30))
    assert (typed.seed, typed.threads) == (0, 2)
    config = configure("bfn", "fast", typed.overrides(BFN))
    assert (config.updates, config.batch_size) == (30, 8)
    last = file.under(TrainSettings(updates=30, set=("updates=40", "batch_size=4")))
    config = configure("bfn", "fast", last.overrides(BFN))
    assert (config.updates, config.batch_size) == (40, 4)
    assert TrainSettings(updates=5, set=("updates=6",)).overrides(BFN) == ["updates=5", "updates=6"]


def test_a_stage_of_a_method_has_a_table_of_its_own(tmp_path: Path) -> None:
    settings = written(
        tmp_path, "method = 'bc_init'\n[set]\nbatch_size = 8\n[set.bc]\nupdates = 5\nwidths = [32]\n"
    )
    assert settings.overrides(BOTH) == ["batch_size=8", "bc.updates=5", "bc.widths=32"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('algorithm = "bc"', "unknown key 'algorithm': did you mean 'algo'? known: algo, device"),
        ('seed = "three"', 'seed must be a whole number, found "three"'),
        ("seed = true", "seed must be a whole number, found true"),
        ("seed = 1.5", "seed must be a whole number, found 1.5"),
        ("mixture = 3", "mixture must be a text in quotes, found 3"),
        ("mixture = 2026-01-01", 'mixture must be a text in quotes, found "2026-01-01"'),
        ('mixture = ["a"]', 'mixture must be a text in quotes, found ["a"]'),
        ('log = "wandb"', 'log must be a list of texts, found "wandb"'),
        ("log = [1]", "log must be a list of texts, found [1]"),
        ("set = 3", "set must be a table of settings, found 3"),
        ("seed = = 3", "is no TOML: Invalid value (at line 1, column 8)"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CogError) as error:
        written(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "my.toml"))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "configs", "said"),
    [
        ("discont = 0.9", BFN, "my.toml: unknown key in [set] 'discont': did you mean 'discount'? known: acting_samples"),
        ('discount = "0.9"', BFN, 'my.toml: set.discount must be a number, found "0.9"'),
        ("batch_size = 8.0", BFN, "my.toml: set.batch_size must be a whole number, found 8.0"),
        ("critic_widths = 64", BFN, "my.toml: set.critic_widths must be a list of one or more whole numbers, found 64"),
        ("critic_widths = [64.0]", BFN, "my.toml: set.critic_widths must be a list of one or more whole numbers, found [64.0]"),
        ("critic_widths = []", BFN, "my.toml: set.critic_widths must be a list of one or more whole numbers, found []"),
        ("[set.bfn]\nupdates = 1", BFN, "my.toml: [set.bfn] is for a stage of a method: name it, or use [set]"),
        ("half_proposals = 1", BFN, "my.toml: set.half_proposals must be true or false, found 1"),
        ('success = "often"', BFN, 'my.toml: set.success must be one of absorbing, continuing, found "often"'),
        ("[set.sac]\nupdates = 1", BOTH, "my.toml: unknown stage in [set] 'sac': known: bc, cql"),
        ("[set.bc]\ndiscount = 0.9", BOTH, "my.toml: unknown key in [set] 'discount': "),
    ],
)  # fmt: skip
def test_a_mistake_in_what_is_set_names_file_key_and_the_known_ones(
    tmp_path: Path, text: str, configs: dict[str, type[Config]], said: str
) -> None:
    method = "method = 'bc_init'\n" if configs is BOTH else ""
    settings = written(tmp_path, f"{method}[set]\n{text}\n")
    with pytest.raises(CogError) as error:
        settings.overrides(configs)
    assert said in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CogError, match=r"cannot read .*/no.toml: No such file or directory"):
        read_settings(tmp_path / "no.toml")


@pytest.mark.parametrize("preset", ["fast", "paper"])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_configuration_survives_writing_and_reading(tmp_path: Path, algo: str, preset: str) -> None:
    config = configure(algo, preset, ["crop_px=3"])
    text = to_toml(
        {"algo": algo, "from_": None, "log": ("wandb",), "mixture": 'a "b" ü'}, {"set": config.to_dict()}
    )
    assert tomllib.loads(text)["mixture"] == 'a "b" ü'
    settings = written(tmp_path, text)
    assert (settings.algo, settings.log, settings.from_) == (algo, ("wandb",), None)
    overrides = settings.overrides({algo: config_class(algo)})
    assert configure(algo, "fast" if preset == "paper" else "paper", overrides) == config
