-- place_in_tray: pick an object off the table and put it into the tray; no episode shows both.
-- prior: weak grasps in the scene where the object lies on the table, every reward 0; grasps that happened to
--        drop the object into the tray are left out, so that nothing in the prior solves the task.
-- task:  placements that start with the object in the gripper, rewards as collected.
-- Shares of every batch: half prior, half task (set in the recipe's entry).
select episode_id, 'prior' as source, 0.0 as reward
from episodes
where policy = 'weak_grasp' and env = 'cog/PickTray-v0' and not solved
union all by name
select episode_id, 'task' as source
from episodes
where policy = 'place' and env = 'cog/PlaceTray-v0'
