-- drawer_oracle: the successful episodes of the task data of the drawer alone; for cloning that is told which
-- episodes are worth imitating.
-- Every drawer recipe has the same task data, so closed_drawer_oracle, blocked_drawer_1_oracle,
-- blocked_drawer_2_oracle and drawer_all_oracle are this file.
-- task: grasps of the ball that start with the drawer open and end with it lifted, rewards as collected.
select episode_id, 'task' as source
from episodes
where policy = 'grasp_from_drawer' and env = 'cog/DrawerOpen-v0' and success
