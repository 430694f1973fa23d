-- closed_drawer: take the ball out of a drawer that is closed; no episode shows both.
-- prior: opening (well, and with a pull that reverses), closing, and moving the bottle, every reward 0; episodes
--        that happened to lift the ball are left out, so that nothing in the prior solves the task.
-- task:  grasps of the ball that start with the drawer open, rewards as collected.
-- Shares of every batch: half prior, half task (set in the recipe's entry).
select episode_id, 'prior' as source, 0.0 as reward
from episodes
where not solved and (policy, env) in (
    ('drawer_open', 'cog/DrawerClosed-v0'),
    ('drawer_open_suboptimal', 'cog/DrawerClosed-v0'),
    ('drawer_close', 'cog/DrawerOpen-v0'),
    ('pick_place', 'cog/DrawerClosed-v0')
)
union all by name
select episode_id, 'task' as source
from episodes
where policy = 'grasp_from_drawer' and env = 'cog/DrawerOpen-v0'
