-- drawer_no_prior: the task data of the drawer alone; what a learner reaches without prior data.
-- Every drawer recipe has the same task data, so closed_drawer_no_prior, blocked_drawer_1_no_prior,
-- blocked_drawer_2_no_prior and drawer_all_no_prior are this file.
-- task: grasps of the ball that start with the drawer open, rewards as collected.
select episode_id, 'task' as source
from episodes
where policy = 'grasp_from_drawer' and env = 'cog/DrawerOpen-v0'
