-- blocked_drawer_1: take the ball out of the bottom drawer while the open top drawer covers its handle.
-- prior: closing the top drawer and opening the bottom one, and pulls that reverse, every reward 0; episodes that
--        happened to lift the ball are left out, so that nothing in the prior solves the task.
-- task:  grasps of the ball that start with the drawer open, rewards as collected.
-- Shares of every batch: half prior, half task (set in the recipe's entry).
select episode_id, 'prior' as source, 0.0 as reward
from episodes
where not solved and (policy, env) in (
    ('close_top_then_open', 'cog/DrawerBlocked1-v0'),
    ('drawer_open_suboptimal', 'cog/DrawerBlocked1-v0')
)
union all by name
select episode_id, 'task' as source
from episodes
where policy = 'grasp_from_drawer' and env = 'cog/DrawerOpen-v0'
