-- place_in_tray_oracle: the successful episodes of the task data of place_in_tray alone; for cloning that is
-- told which episodes are worth imitating.
-- task: placements that start with the object in the gripper and end with it in the tray, rewards as collected.
select episode_id, 'task' as source
from episodes
where policy = 'place' and env = 'cog/PlaceTray-v0' and success
