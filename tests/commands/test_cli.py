"""The command line as a user meets it: real collections, exact lines, nothing lost by a mistake."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.running import TINY, Run

PICK = "cog/PickTray-v0"


def _bytes(root: Path) -> dict[str, str]:
    """Every stored file but the index over them, which is rebuilt at will."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(("catalog.", ".")) and "lock" not in path.name
    }


def _only(root: Path, pattern: str) -> Path:
    (path,) = root.glob(pattern)
    return path


# --- what works --------------------------------------------------------------------------------------------


def test_help_names_every_command(run: Run) -> None:
    said = run("--help")
    assert said.code == 0
    for command in ("collect", "list", "query", "data", "mix", "train", "finetune", "eval", "runs", "demo"):
        assert f"\n  {command} " in said.out


@pytest.mark.parametrize("what", ["policies", "envs", "algorithms", "methods", "recipes"])
def test_lists_have_a_line_of_help_each(run: Run, what: str) -> None:
    lines = run("list", what).out.splitlines()
    assert len(lines) >= 2
    assert all(len(line.split("  ", 1)[1].strip()) > 10 for line in lines)


def test_collecting_again_adds_nothing(run: Run, root: Path) -> None:
    before = _bytes(root)
    said = run("collect", "--policy", "weak_grasp", "--episodes", "12", *TINY)
    assert said.code == 0
    assert "12 episodes wanted, 12 there, 0 to collect in 0 parts" in said.out
    assert _bytes(root) == before


def test_dry_run_does_nothing(run: Run, root: Path) -> None:
    before = _bytes(root)
    said = run("collect", "--policy", "random", "--episodes", "250", "--dry-run", "--workers", "2")
    assert "250 episodes wanted, 0 there, 250 to collect in 3 parts with 2 workers" in said.out
    assert _bytes(root) == before


def test_more_episodes_of_the_same_collection_are_appended(run: Run, root: Path) -> None:
    run("collect", "--policy", "weak_grasp", "--episodes", "14", "--workers", "1", *TINY)
    said = run("query", "select count(*) as n, count(distinct seed) as seeds from episodes where policy = 'weak_grasp'",
               "--format", "json")  # fmt: skip
    assert json.loads(said.out) == [{"n": 14, "seeds": 14}]


def test_query_formats(run: Run, root: Path, tmp_path: Path) -> None:
    sql = "select policy, count(*) as n from episodes group by all order by policy"
    assert json.loads(run("query", sql, "--format", "json").out) == [
        {"policy": "place", "n": 8},
        {"policy": "weak_grasp", "n": 12},
    ]
    assert run("query", sql, "--format", "csv").out.splitlines() == ["policy,n", "place,8", "weak_grasp,12"]
    limited = run("query", sql, "--format", "jsonl", "--limit", "1")
    assert limited.out.splitlines() == ['{"policy": "place", "n": 8}']
    assert "there are more" in limited.err
    file = tmp_path / "q.sql"
    file.write_text(sql)
    assert "weak_grasp" in run("query", "-f", str(file)).out


@pytest.mark.parametrize("comment", ["-- how many", "--how many", "-- a = 1", "/* how many */"])
def test_a_query_may_begin_with_a_comment(run: Run, root: Path, comment: str) -> None:
    said = run("query", f"{comment}\nselect count(*) as n from episodes", "--format", "jsonl")
    assert said.out == '{"n": 20}\n'


def test_describe_documents_every_column(run: Run, root: Path) -> None:
    rows = json.loads(run("query", "describe episodes", "--format", "json").out)
    assert {"episode_id", "policy_params", "digest"} <= {row["column_name"] for row in rows}
    assert all(row["comment"] for row in rows)


def test_a_mixture_from_freezing_to_removal(run: Run, root: Path) -> None:
    sql = "select episode_id, case policy when 'place' then 'task' else 'prior' end as source, 0.0 as reward from episodes"
    frozen = run("query", sql, "--as", "mine", "--weight", "prior=0.25")
    assert frozen.out.startswith("mine@1 frozen")
    assert (
        "prior: 12 episodes, 36 transitions, rewarded 0 as collected, 0 as frozen · 25.0% of every batch"
        in frozen.out
    )
    assert "has this content already" in run("query", sql, "--as", "mine", "--weight", "prior=0.25").out
    assert "mine@1" in run("mix", "ls").out
    assert json.loads(run("mix", "show", "mine").out)["weights"] == {"prior": 0.25, "task": 0.75}
    assert run("query", sql + " where policy = 'place'", "--as", "mine").out.startswith("mine@2")
    assert "only in mine@1: 12 episodes" in run("mix", "diff", "mine@1", "mine@2").out
    assert "has this content already" in run("mix", "refresh", "mine").out
    assert run("mix", "rm", "mine").out.splitlines() == ["mine@1 removed", "mine@2 removed"]
    assert "is used by run bc-all-s0" in run("mix", "rm", "all").error


def test_data_commands(run: Run, root: Path) -> None:
    assert "weak_grasp" in run("data", "ls").out
    collection = _only(root, "collections/weak_grasp-*").name
    assert "12 episodes in 1 parts, 36 steps" in run("data", "info", collection).out
    assert run("data", "verify").out.strip() == "everything is whole"
    before = run("query", "select * from episodes order by all", "--format", "json").out
    assert "2 collections, 2 parts, 1 mixture, 1 run" in run("data", "rebuild").out
    assert run("query", "select * from episodes order by all", "--format", "json").out == before


def test_train_again_go_on_and_evaluate(run: Run, root: Path) -> None:
    name = _only(root, "runs/bc-all-*").name
    again = run("train", "--mixture", "all", "--algo", "bc", "--obs", "state", "--updates", "3")
    assert f"{name}: 3 updates" in again.out
    assert f"{name}: 5 updates" in run("train", "--resume", name, "--updates", "5").out
    evaluated = run("eval", name, "--env", PICK, "--seeds", "3:5", "--workers", "1", "--record", "1")
    assert f"{name} @ 5 · {PICK}: 0/2 = 0.000 [0.000, 0.658]" in evaluated.out
    recorded = list(root.glob(f"runs/{name}/evaluations/*.webp"))
    assert len(recorded) == 1
    assert recorded[0].read_bytes()[:4] == b"RIFF"
    rows = json.loads(
        run("query", 'select seed, "update", success from evaluations order by seed', "--format", "json").out
    )
    assert rows == [{"seed": 3, "update": 5, "success": False}, {"seed": 4, "update": 5, "success": False}]
    run("eval", name, "--env", PICK, "--seeds", "3:4", "--workers", "1")
    judged_again = [line.split() for line in run("runs", "ls").out.splitlines() if name in line]
    assert [line[-4:] for line in judged_again] == [
        ["2", "0", "[0,", "0.658]"]
    ]  # a seed that was evaluated twice counts once
    assert '"updates_done": 5' in run("runs", "show", name).out


def test_a_run_starts_from_another_as_it_was_set_up(run: Run, root: Path) -> None:
    parent = _only(root, "runs/bc-all-*").name
    assert run("train", "--mixture", "all", "--from", parent, "--updates", "2").code == 0
    (child,) = {path.name for path in root.glob("runs/bc-all-*")} - {parent}
    info = json.loads((root / "runs" / child / "run.json").read_text())
    assert (info["parent"], info["parent_update"], info["obs"], info["updates"]) == (parent, 3, "state", 2)
    assert f"{child}: 4 updates" in run("train", "--resume", child, "--updates", "4").out
    assert "remove both, or say --force" in run("runs", "rm", parent).error
    assert run("train", "--mixture", "all", "--from", parent, "--algo", "cql", "--updates", "1").code == 0
    cql = _only(root, "runs/cql-all-*")  # its policy is as large as the one it starts from
    assert json.loads((cql / "run.json").read_text())["config"]["policy_widths"] == [256, 256, 256]
    said = run("train", "--mixture", "all", "--from", f"{parent}@x").error
    assert said == f"'{parent}@x' must be RUN, RUN@UPDATE or RUN@best, for example {parent}@1000"
    said = run("train", "--mixture", "all", "--from", parent, "--obs", "image").error
    assert said == f"run '{parent}' looks at state: say --obs state"
    assert {path.parent.name for path in root.glob("runs/*/run.json")} == {parent, child, cql.name}


def test_a_method_is_its_stages_run_by_run(run: Run, root: Path) -> None:
    sql = (
        """select episode_id, case policy when 'place' then 'task' else 'prior' end as source from episodes"""
    )
    run("query", sql, "--as", "mine")
    command = ("train", "--method", "bc_init", "--mixture", "mine", "--obs", "state", "--updates", "2",
               "--set", "batch_size=4", "--set", "bc.updates=3", "--set", "policy_widths=8,8")  # fmt: skip
    said = run(*command)
    assert said.code == 0, said
    bc, cql = _only(root, "runs/bc-mine_prior-*").name, _only(root, "runs/cql-mine_no_prior-*").name
    assert [line.split(" in ")[0] for line in said.out.splitlines()] == [
        f"{bc}: 3 updates", f"{cql}: 2 updates",
    ]  # fmt: skip
    weights = _only(root, f"runs/{cql}/checkpoints/00000002/weights.safetensors")
    ended = weights.read_bytes()
    shutil.rmtree(root / "runs" / cql)  # as if it had been cut off between the stages
    assert [line.split(" in ")[0] for line in run(*command).out.splitlines()] == [
        f"{bc}: 3 updates", f"{cql}: 2 updates",
    ]  # fmt: skip
    assert weights.read_bytes() == ended
    rows = run("query", "select method, stage, parent, parent_update from runs where method is not null "
               "order by created_at, run", "--format", "jsonl")  # fmt: skip
    assert [json.loads(line) for line in rows.out.splitlines()] == [
        {"method": "bc_init", "stage": "bc", "parent": None, "parent_update": None},
        {"method": "bc_init", "stage": "cql", "parent": bc, "parent_update": 3},
    ]
    assert f"{cql} starts from {bc} @ 3 (bc on mine_prior@1)" in run("runs", "show", cql).out
    for extra, line in (
        (("--algo", "bc"), "--method bc_init says what learns and from where: leave --algo and --from out"),
        (("--set", "bc.widths=8"), "cql cannot start from this bc: policy.trunk.2.bias is in one of them "
                                   "only; give both the same widths and components with --set"),
        (("--mixture", "all"), "mixture all@1 has the sources data, none is named 'prior': say 'prior' as "
                               "source in its query"),
    ):  # fmt: skip
        assert run(*command, *extra).error == line


def test_going_on_is_the_same_run_bit_for_bit(run: Run, root: Path) -> None:
    weights = []
    for commands in ([("--updates", "4")], [("--updates", "2"), ("--updates", "4")]):
        shutil.rmtree(root / "runs")
        for number, (option, value) in enumerate(commands):
            if number:
                name = _only(root, "runs/bfn-*").name
                assert run("train", "--resume", name, option, value).code == 0
            else:
                run("train", "--mixture", "all", "--algo", "bfn", "--obs", "state", "--set", "batch_size=4",
                    "--threads", "1", "--memory", "1MB", option, value)  # fmt: skip
        (found,) = root.glob("runs/bfn-*/checkpoints/00000004/weights.safetensors")
        weights.append(found.read_bytes())
    assert weights[0] == weights[1]
    info = json.loads(_only(root, "runs/bfn-*/run.json").read_text())
    assert (info["threads"], info["memory_bytes"]) == (1, 1_000_000)


def test_runs_are_compared_on_the_seeds_they_share(run: Run, root: Path) -> None:
    run("train", "--mixture", "all", "--algo", "bc", "--obs", "state", "--updates", "2", "--seed", "1")
    a, b = sorted(path.name for path in root.glob("runs/bc-all-*"))
    assert "no common environment and seed" in run("runs", "compare", a, b).error
    for name, seeds in ((a, "0:3"), (b, "1:4")):
        run("eval", name, "--env", PICK, "--seeds", seeds, "--workers", "1")
    rate = "0/2 = 0.000 [0.000, 0.658]"
    said = run("runs", "compare", a, b).out
    assert sorted(re.findall(r"\d+", said.split(", ")[1].split(" updates")[0])) == ["2", "3"]
    assert f" updates: {rate} against {rate} on the same seeds; only the first 0" in said


def test_lineage_is_one_query(run: Run, root: Path) -> None:
    name = _only(root, "runs/bc-all-*").name
    run("eval", name, "--env", PICK, "--seeds", "0:1", "--workers", "1")
    sql = """
        select distinct c.command from evaluations e join runs r using (run)
        join mixture_episodes m on m.mixture = r.mixture and m.version = r.mixture_version
        join episodes p using (episode_id) join collections c using (collection) order by 1
    """
    rows = json.loads(run("query", sql, "--format", "json").out)
    assert [row["command"].split(" --root")[0] for row in rows] == [
        "cog collect --policy place --episodes 8 --image-size 16 --horizon 3",
        "cog collect --policy weak_grasp --episodes 12 --image-size 16 --horizon 3",
    ]


def test_the_demo_in_small(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "demo"
    said = run("demo", "--root", str(root), "--prior", "8", "--task", "6", "--episodes", "2", "--updates", "2",
               "--workers", "1")  # fmt: skip
    assert said.code == 0, said
    assert "behaviour cloning" in said.out
    page = (root / "report.html").read_text()
    assert len(json.loads((root / "report.json").read_text())["scores"]) == 4
    assert page.count("data:image/png;base64,") == 2
    assert "place_in_tray@1" in page
    assert "cog/PlaceTray-v0" in page


# --- what is refused ---------------------------------------------------------------------------------------

EPISODES = "select episode_id from episodes"
MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("collect", "--policy", "weak_grap", "--episodes", "1"), "unknown policy 'weak_grap': did you mean 'weak_grasp'?"),
    (("collect", "--policy", "place", "--env", "cog/PlaceTry-v0", "--episodes", "1"), "did you mean 'cog/PlaceTray-v0'?"),
    (("collect", "--policy", "place", "--episodes", "0"), "--episodes is 0, must be at least 1"),
    (("collect", "--policy", "place", "--episodes", "3", "--workers", "-1"), "--workers is -1"),
    (("collect", "--policy", "place", "--episodes", "3", "--workers", "many"), "--workers is many"),
    (("collect", "--policy", "place", "--episodes", "99999999999", "--dry-run"), "must be at most 10,000,000"),
    (("train", "--mixture", "all", "--set", "batch_size=100000000000"), "batch_size"),
    (("train", "--mixture", "all", "--seed", "-1"), "--seed is -1"),
    (("collect", "--policy", "place", "--episodes", "three"), "Invalid value for '--episodes'"),
    (("collect", "--policy", "place", "--episodes", "3", "--noise", "nan"), "--noise is nan"),
    (("collect",), "how many episodes, for example `cog collect"),
    (("colect",), "No such command 'colect'. Did you mean 'collect'?"),
    (("list", "polices"), "did you mean 'policies'?"),
    (("query",), "give the SQL as an argument"),
    (("query", "--limt=3", "select 1"), "No such option"),
    (("query", "-f", "no-such-file.sql"), "cannot read no-such-file.sql: No such file or directory"),
    (("query", "select polcy from episodes"), "did you mean 'policy'?"),
    (("query", "select * from episods"), "did you mean 'episodes'"),
    (("query", "selec 1"), "selec"),
    (("query", "select 1; select 2"), "one statement"),
    (("query", "drop table episodes"), "DROP"),
    (("query", "copy (select 1) to '/tmp/x.csv'"), "COPY"),
    (("query", "with x as (insert into catalog.episodes select * from episodes returning *) select * from x"), "INSERT"),
    (("query", "select * from read_text('/etc/passwd')"), "/etc/passwd"),
    (("query", "select * from '/etc/passwd'"), "/etc/passwd"),
    (("query", "select 1", "--format", "xml"), "unknown format 'xml'"),
    (("query", EPISODES, "--weight", "a=1"), "add --as NAME"),
    (("query", EPISODES, "--as", "x", "--limit", "3"), "leave --limit and --format out"),
    (("query", EPISODES, "--as", "x", "--weight", "a"), "--weight 'a' must be SOURCE=SHARE"),
    (("query", EPISODES, "--as", "Bad Name"), "mixture name 'Bad Name'"),
    (("query", "select policy from episodes", "--as", "x"), "episode_id"),
    (("query", f"{EPISODES} union all {EPISODES}", "--as", "x"), "occurs 2 times"),
    (("query", f"{EPISODES} where false", "--as", "x"), "no rows"),
    (("mix", "show", "al"), "unknown mixture 'al': did you mean 'all'?"),
    (("mix", "show", "all@7"), "has no version 7"),
    (("mix", "rm", "nothing"), "unknown mixture 'nothing'"),
    (("train",), "name a mixture with --mixture"),
    (("train", "--mixture", "al"), "unknown mixture 'al': did you mean 'all'?"),
    (("train", "--mixture", "place_in_tray@3"), "place_in_tray"),
    (("train", "--mixture", "all", "--algo", "cqll"), "unknown algorithm 'cqll': did you mean 'cql'?"),
    (("train", "--mixture", "all", "--set", "discont=0.9"), "unknown key 'discont': did you mean 'discount'?"),
    (("train", "--mixture", "all", "--set", "updates=many"), "updates"),
    (("train", "--mixture", "all", "--preset", "fst"), "unknown preset 'fst': did you mean 'fast'?"),
    (("train", "--mixture", "all", "--obs", "depth"), "depth"),
    (("train", "--mixture", "all", "--memory", "lots"), "for example 500MB"),
    (("train", "--mixture", "all", "--device", "gpu9"), "gpu9"),
    (("train", "--resume", "bc-nothing"), "unknown run 'bc-nothing'"),
    (("train", "--resume", "bc-nothing", "--threads", "3"), "give only --updates or --root"),
    (("train", "--mixture", "all", "--threads", "0"), "threads is 0"),
    (("train", "--mixture", "all", "--seed", "99999999999999999999"), "--seed is"),
    (("collect", "--policy", "place", "--episodes", "3", "--seed", "99999999999999999999"), "--seed is"),
    (("query", EPISODES, "--as", "x", "--weight", "a=.5", "--weight", "a=.2"), "names source 'a' twice"),
    (("eval", "bc-nothing", "--env", PICK), "unknown run 'bc-nothing'"),
    (("eval", "bc-nothing", "--env", "cog/PickTry-v0"), "did you mean 'cog/PickTray-v0'?"),
    (("eval", "bc-nothing", "--env", PICK, "--seeds", "5:5"), "--seeds '5:5' must be START:STOP"),
    (("eval", "bc-nothing", "--env", PICK, "--seeds", "0:\u00b2"), "--seeds '0:\u00b2' must be START:STOP"),
    (("mix", "show", "all@\u00b2"), "all@\u00b2"),
    (("eval", "bc-nothing", "--env", PICK, "--episodes", "0"), "--episodes is 0"),
    (("runs", "show", "x"), "unknown run 'x'"),
    (("runs", "compare", "x", "y"), "unknown run 'x'"),
    (("data", "info", "weak"), "unknown collection 'weak'"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "expected"), MISTAKES, ids=lambda value: str(value)[:60])
def test_a_mistake_costs_one_line_and_nothing_else(
    run: Run, root: Path, command: tuple[str, ...], expected: str
) -> None:
    before = _bytes(root)
    assert expected.lower() in run(*command).error.lower()
    assert _bytes(root) == before


def test_images_of_two_sizes_are_left_out_of_a_mixture_or_resized(run: Run, root: Path) -> None:
    run(
        "collect",
        "--policy",
        "random",
        "--episodes",
        "1",
        "--image-size",
        "20",
        "--horizon",
        "2",
        "--workers",
        "1",
    )
    assert "left out: image differs between" in run("query", EPISODES, "--as", "x").out
    before = _bytes(root)
    error = run("query", EPISODES, "--as", "x", "--features", "image").error
    assert "uint8 (16, 16, 3)" in error
    assert "uint8 (20, 20, 3)" in error
    assert _bytes(root) == before
    assert "left out" not in run("query", EPISODES, "--as", "x", "--resize", "image=16x16").out


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_a_flipped_byte_is_found_by_verify_and_refused_by_train(run: Run, root: Path) -> None:
    shard = _only(root, "collections/weak_grasp-*/part-*/frames.tar")
    _flip(shard, 512 + 100)  # within the first member, behind its header
    said = run("data", "verify")
    assert "problem" in said.error
    assert "frames.tar" in said.out
    before = _bytes(root)
    error = run("train", "--mixture", "all", "--algo", "bc", "--obs", "image", "--updates", "1").error
    assert "is damaged" in error
    assert {k: v for k, v in _bytes(root).items() if not k.startswith("runs/")} == {
        k: v for k, v in before.items() if not k.startswith("runs/")
    }


def test_a_truncated_shard_is_found_and_refused(run: Run, root: Path) -> None:
    shard = _only(root, "collections/place-*/part-*/frames.tar")
    shard.write_bytes(shard.read_bytes()[:5000])
    assert "problem" in run("data", "verify").error
    assert (
        "truncated"
        in run(
            "train", "--mixture", "all", "--algo", "bc", "--obs", "state", "--updates", "4", "--seed", "9"
        ).error
    )


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the file system is read-only")]
)
def test_a_store_that_cannot_be_written_is_said(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    import cogdata.storage.store as module

    def refuse(target: Path, data: Any) -> None:
        raise OSError(number, "refused")

    before = _bytes(root)
    monkeypatch.setattr(module, "_replace", refuse)
    for command in (
        ("collect", "--policy", "random", "--episodes", "1", "--workers", "1", *TINY),
        ("query", f"{EPISODES} limit 3", "--as", "x"),
        ("train", "--mixture", "all", "--algo", "bc", "--obs", "state", "--updates", "1", "--seed", "5"),
    ):
        assert reason in run(*command).error
    assert _bytes(root) == before


def test_a_checkpoint_of_another_algorithm_is_refused(run: Run, root: Path) -> None:
    run(
        "train",
        "--mixture",
        "all",
        "--algo",
        "bfn",
        "--obs",
        "state",
        "--updates",
        "1",
        "--set",
        "batch_size=4",
    )
    clone, other = _only(root, "runs/bc-all-*"), _only(root, "runs/bfn-all-*")
    shutil.rmtree(clone / "checkpoints")
    shutil.copytree(other / "checkpoints", clone / "checkpoints")
    before = _bytes(root)
    for command in (("train", "--resume", clone.name, "--updates", "9"), ("eval", clone.name, "--env", PICK)):
        error = run(*command).error
        assert "'bc'" in error
        assert "'bfn'" in error
    after = _bytes(root)
    asked = f"runs/{clone.name}/run.json"  # says the new number of updates
    assert {k: v for k, v in after.items() if k != asked} == {k: v for k, v in before.items() if k != asked}


@pytest.mark.parametrize(
    "command", [("train", "--mixture", "x"), ("demo",), ("mix", "infer", "x", "--as", "y")]
)
def test_an_option_of_an_earlier_version_says_its_name_of_today(run: Run, command: tuple[str, ...]) -> None:
    said = run(*command, "--steps", "5")
    assert said.code == 2
    assert said.error.startswith("--steps is called --updates now: type --updates, see `cog ")


def test_the_alarm_of_an_earlier_version_is_the_guard_of_today(run: Run) -> None:
    said = run("train", "--mixture", "x", "--alarm", "off")
    assert said.error == "--alarm is called --guard now: type --guard, see `cog train --help`"


def test_a_key_of_an_earlier_version_says_its_name_of_today(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    file.write_text("mixture = 'x'\nsteps = 5\n")
    assert run("train", "--config", str(file)).error == (
        f"{file}: key 'steps' is called 'updates' now: write updates = …"
    )
