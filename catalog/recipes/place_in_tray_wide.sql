-- place_in_tray_wide: place_in_tray for learning from images; its prior also has failed grasps.
-- prior: weak grasps where the object lies on the table, grasps at a random point near it, and grasps at a random
--        point in and around the tray, every reward 0; episodes that happened to drop the object into the tray are
--        left out, so that nothing in the prior solves the task.
-- task:  placements that start with the object in the gripper, rewards as collected.
-- Shares of every batch: half prior, half task (set in the recipe's entry).
select episode_id, 'prior' as source, 0.0 as reward
from episodes
where (policy, env) in (
    ('weak_grasp', 'cog/PickTray-v0'),
    ('near_grasp', 'cog/PickTray-v0'),
    ('blind_grasp', 'cog/PickTray-v0')
) and not solved
union all by name
select episode_id, 'task' as source
from episodes
where policy = 'place' and env = 'cog/PlaceTray-v0'
