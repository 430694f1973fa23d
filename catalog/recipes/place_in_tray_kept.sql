-- place_in_tray_kept: as place_in_tray_solved, but for the rewards of the prior, which are as collected: what a
--        simulator knows and a user would have to look for.
-- prior: weak grasps, and grasps that go on to a place of their own choice, which for half of them is the tray.
-- task:  placements that start with the object in the gripper, rewards as collected.
-- Shares of every batch: half prior, half task (set in the recipe's entry).
select episode_id, 'prior' as source
from episodes
where policy in ('pick_place', 'weak_grasp') and env = 'cog/PickTray-v0'
union all by name
select episode_id, 'task' as source
from episodes
where policy = 'place' and env = 'cog/PlaceTray-v0'
