-- place_in_tray_solved: as place_in_tray, with a prior that sometimes solves the task without a reward.
-- prior: weak grasps, and pick-and-place episodes, half of them into the tray; every reward 0, also of those that
--        succeeded: `cog mix infer` finds them.
-- task:  placements that start with the object in the gripper, rewards as collected.
-- Shares of every batch: half prior, half task (set in the recipe's entry).
select episode_id, 'prior' as source, 0.0 as reward
from episodes
where policy in ('pick_place', 'weak_grasp') and env = 'cog/PickTray-v0'
union all by name
select episode_id, 'task' as source
from episodes
where policy = 'place' and env = 'cog/PlaceTray-v0'
