-- closed_drawer_randomized: as closed_drawer, with a cabinet, a ball and colours that differ from episode to episode.
-- prior: opening (well, and with a pull that reverses), closing, and moving the bottle, every reward 0; episodes
--        that happened to lift the ball are left out, so that nothing in the prior solves the task.
-- task:  grasps of the ball that start with the drawer open, rewards as collected.
-- Shares of every batch: half prior, half task (set in the recipe's entry).
select episode_id, 'prior' as source, 0.0 as reward
from episodes
where not solved and (policy, env) in (
    ('drawer_open', 'cog/DrawerClosedRandomized-v0'),
    ('drawer_open_suboptimal', 'cog/DrawerClosedRandomized-v0'),
    ('drawer_close', 'cog/DrawerOpenRandomized-v0'),
    ('pick_place', 'cog/DrawerClosedRandomized-v0')
)
union all by name
select episode_id, 'task' as source
from episodes
where policy = 'grasp_from_drawer' and env = 'cog/DrawerOpenRandomized-v0'
