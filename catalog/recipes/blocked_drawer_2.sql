-- blocked_drawer_2: take the ball out of a closed drawer that a bottle stands in front of.
-- prior: taking the bottle away and opening the drawer, and moving the bottle alone, every reward 0; episodes that
--        happened to lift the ball are left out, so that nothing in the prior solves the task.
-- task:  grasps of the ball that start with the drawer open, rewards as collected.
-- Shares of every batch: half prior, half task (set in the recipe's entry).
select episode_id, 'prior' as source, 0.0 as reward
from episodes
where not solved and (policy, env) in (
    ('clear_blocker_then_open', 'cog/DrawerBlocked2-v0'),
    ('pick_place', 'cog/DrawerBlocked2-v0')
)
union all by name
select episode_id, 'task' as source
from episodes
where policy = 'grasp_from_drawer' and env = 'cog/DrawerOpen-v0'
