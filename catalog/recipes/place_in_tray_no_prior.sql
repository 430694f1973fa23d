-- place_in_tray_no_prior: the task data of place_in_tray alone; what a learner reaches without prior data.
-- task: placements that start with the object in the gripper, rewards as collected.
select episode_id, 'task' as source
from episodes
where policy = 'place' and env = 'cog/PlaceTray-v0'
