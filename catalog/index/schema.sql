-- The catalog: an index over the files of a store, rebuilt from them at any time.
-- Schema "base" holds one table per kind of file; every row names the file it was read from, so that a file
-- that has gone takes its rows with it. Schema "main" holds the views that users query; the comments below are
-- the one place that documents their columns (`describe episodes`, docs/catalog.md).
-- A change here needs a new CATALOG_VERSION in migrations.py: an older catalog is then rebuilt.

CREATE SCHEMA base;

CREATE TABLE base.meta (catalog_version INTEGER NOT NULL, cogdata_version VARCHAR NOT NULL);
-- problem: why the file could not be read; it is tried again when its fingerprint changes.
CREATE TABLE base.files (
    path VARCHAR NOT NULL, kind VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL, problem VARCHAR
);

CREATE TABLE base.collections (
    file VARCHAR, collection VARCHAR, policy VARCHAR, env VARCHAR, noise DOUBLE, root_seed BIGINT,
    image_size INTEGER, horizon INTEGER, success_low DOUBLE, success_high DOUBLE, part_size INTEGER,
    command VARCHAR, created_at TIMESTAMP, cogdata_version VARCHAR, code VARCHAR, libraries VARCHAR, host VARCHAR,
    localize VARCHAR, env_options VARCHAR, instruction VARCHAR
);
-- What a collection declares, in the order of its declaration; nothing for a collection of layout 1.
CREATE TABLE base.features (
    file VARCHAR, collection VARCHAR, position INTEGER, feature VARCHAR, role VARCHAR, per VARCHAR, dtype VARCHAR,
    shape INTEGER[], names VARCHAR[], low DOUBLE[], high DOUBLE[], privileged BOOLEAN, codec VARCHAR,
    rate_hz DOUBLE, source VARCHAR, help VARCHAR
);
-- What every collection of layout 1 has, written when the catalog is made.
CREATE TABLE base.layout1 AS SELECT * EXCLUDE (file, collection) FROM base.features;
CREATE TABLE base.parts (
    file VARCHAR, collection VARCHAR, part VARCHAR, start INTEGER, stop INTEGER, episodes INTEGER, steps BIGINT,
    frames BIGINT, bytes BIGINT, cogdata_version VARCHAR, code VARCHAR, driver VARCHAR, libraries VARCHAR
);
-- shadowed: another part of the collection holds the same episode and comes first by name.
CREATE TABLE base.episodes (
    file VARCHAR, shadowed BOOLEAN, episode_id VARCHAR, collection VARCHAR, part VARCHAR, episode_index INTEGER,
    env VARCHAR, policy VARCHAR, policy_params VARCHAR, noise DOUBLE, seed BIGINT, task VARCHAR, goal VARCHAR,
    image_height INTEGER, image_width INTEGER, scene_fields VARCHAR[], steps INTEGER, total_reward FLOAT,
    success BOOLEAN, solved BOOLEAN, terminated BOOLEAN, truncated BOOLEAN, digest VARCHAR, shard VARCHAR,
    frames_offset BIGINT, frames_size BIGINT, frames_crc32 BIGINT, steps_offset BIGINT, steps_size BIGINT,
    steps_crc32 BIGINT, observations INTEGER,
    members STRUCT(feature VARCHAR, file VARCHAR, "offset" BIGINT, size BIGINT, crc32 BIGINT, "first" INTEGER)[],
    extras VARCHAR
);
CREATE TABLE base.steps (
    episode_id VARCHAR, t INTEGER, robot FLOAT[], scene FLOAT[], action FLOAT[], reward FLOAT,
    terminated BOOLEAN, truncated BOOLEAN, phase VARCHAR, grasped BOOLEAN, placed BOOLEAN, drawer_open BOOLEAN,
    drawer_closed BOOLEAN, top_drawer_closed BOOLEAN, blocker_moved BOOLEAN
);
-- Versions of layers, what they declare, their commits, and the episodes that those hold.
CREATE TABLE base.layers (
    file VARCHAR, layer VARCHAR, version INTEGER, function VARCHAR, source VARCHAR, features VARCHAR[],
    command VARCHAR, created_at TIMESTAMP, cogdata_version VARCHAR
);
CREATE TABLE base.layer_features (
    file VARCHAR, layer VARCHAR, version INTEGER, position INTEGER, feature VARCHAR, per VARCHAR, dtype VARCHAR,
    shape INTEGER[], names VARCHAR[], help VARCHAR
);
CREATE TABLE base.layer_commits (
    file VARCHAR, layer VARCHAR, version INTEGER, collection VARCHAR, part VARCHAR, number INTEGER,
    episodes INTEGER, rows BIGINT, bytes BIGINT, episodes_file VARCHAR, steps_file VARCHAR
);
CREATE TABLE base.layer_episodes (
    file VARCHAR, layer VARCHAR, version INTEGER, episode_id VARCHAR, episode_digest VARCHAR, digest VARCHAR
);
CREATE TABLE base.mixtures (
    file VARCHAR, mixture VARCHAR, version INTEGER, digest VARCHAR, shape VARCHAR, episodes BIGINT,
    transitions BIGINT, rewarded_before BIGINT, rewarded_after BIGINT, weights VARCHAR, counts VARCHAR,
    image_height INTEGER, image_width INTEGER, scene_fields VARCHAR[], sql VARCHAR, created_at TIMESTAMP,
    cogdata_version VARCHAR
);
CREATE TABLE base.mixture_episodes (
    file VARCHAR, mixture VARCHAR, version INTEGER, episode_id VARCHAR, source VARCHAR, reward FLOAT,
    weight DOUBLE, t_start INTEGER, t_end INTEGER, steps INTEGER, digest VARCHAR, embodiment VARCHAR
);
CREATE TABLE base.runs (
    file VARCHAR, run VARCHAR, mixture VARCHAR, mixture_version INTEGER, mixture_digest VARCHAR, algo VARCHAR,
    preset VARCHAR, obs VARCHAR, seed BIGINT, updates BIGINT, batch_size INTEGER, config VARCHAR, device VARCHAR,
    threads INTEGER, memory_bytes BIGINT,
    created_at TIMESTAMP, cogdata_version VARCHAR, parent VARCHAR, parent_update BIGINT, parent_digest VARCHAR,
    method VARCHAR, stage VARCHAR, online VARCHAR, accelerator VARCHAR
);
CREATE TABLE base.run_states (
    file VARCHAR, run VARCHAR, status VARCHAR, updates_done BIGINT, seconds DOUBLE, updated_at TIMESTAMP
);
CREATE TABLE base.evaluations (
    file VARCHAR, run VARCHAR, evaluation VARCHAR, env VARCHAR, "update" BIGINT, checkpoint_digest VARCHAR,
    seed BIGINT, success BOOLEAN, solved BOOLEAN, first_reward_t INTEGER, steps INTEGER, total_reward FLOAT,
    stochastic BOOLEAN, created_at TIMESTAMP, purpose VARCHAR, predicates MAP(VARCHAR, BOOLEAN)
);

CREATE VIEW collections AS SELECT * EXCLUDE (file) FROM base.collections;
CREATE VIEW parts AS SELECT * EXCLUDE (file) FROM base.parts;
-- A part of layout 1 does not say how many observations an episode has: one more than actions.
CREATE VIEW episodes AS
    SELECT * EXCLUDE (file, shadowed) REPLACE (coalesce(observations, steps + 1) AS observations)
    FROM base.episodes WHERE NOT shadowed;
-- The features of a collection of layout 1 have the image size and scene of its first episode.
CREATE VIEW features AS
    SELECT * EXCLUDE (file, position) FROM (
        SELECT * FROM base.features
        UNION ALL BY NAME
        SELECT e.collection, l.* REPLACE (
            CASE l.feature WHEN 'image' THEN [e.height, e.width, 3] WHEN 'scene' THEN [len(e.fields)::INTEGER]
                           ELSE l.shape END AS shape,
            CASE l.feature WHEN 'scene' THEN e.fields ELSE l.names END AS names)
        FROM base.layout1 l, (
            SELECT collection, arg_min(image_height, episode_id) AS height,
                   arg_min(image_width, episode_id) AS width, arg_min(scene_fields, episode_id) AS fields
            FROM base.episodes WHERE image_height IS NOT NULL
                AND collection NOT IN (SELECT collection FROM base.features) GROUP BY collection) e
    ) ORDER BY collection, position;
-- Values of episodes that are gone, or have another content now, do not count.
CREATE VIEW layers AS
    SELECT l.layer, l.version, l.function, l.features, coalesce(c.episodes, 0) AS episodes, l.created_at, l.command,
        l.source, l.cogdata_version
    FROM base.layers l LEFT JOIN (
        SELECT h.layer, h.version, count(DISTINCT h.episode_id) AS episodes
        FROM base.layer_episodes h JOIN base.episodes e ON e.episode_id = h.episode_id AND e.digest = h.episode_digest
        WHERE NOT e.shadowed GROUP BY ALL) c ON c.layer = l.layer AND c.version = l.version
    ORDER BY l.layer, l.version;
-- Without rows here: a query that names steps gets a view over the Parquet files of the committed parts.
CREATE VIEW steps AS SELECT * FROM base.steps;
CREATE VIEW mixtures AS SELECT * EXCLUDE (file) FROM base.mixtures;
CREATE VIEW mixture_episodes AS SELECT * EXCLUDE (file) FROM base.mixture_episodes;
CREATE VIEW runs AS
    SELECT r.* EXCLUDE (file), s.status, s.updates_done, s.seconds, s.updated_at
    FROM base.runs r LEFT JOIN base.run_states s USING (run);
-- An episode is a function of its key: run, checkpoint, env, seed and whether actions are sampled. The same one
-- may be in several files (`--seeds 0:10`, then `0:250`); here it is one row, the newest. One that served both
-- purposes is an evaluation.
CREATE VIEW evaluations AS
    SELECT * EXCLUDE (file, purpose, predicates), predicates['grasped'] AS grasped,
        predicates['placed'] AS placed, predicates['drawer_open'] AS drawer_open,
        predicates['drawer_closed'] AS drawer_closed, predicates['top_drawer_closed'] AS top_drawer_closed,
        predicates['blocker_moved'] AS blocker_moved, purpose, predicates
    FROM base.evaluations
    QUALIFY row_number() OVER (
        PARTITION BY run, env, "update", checkpoint_digest, seed, stochastic
        ORDER BY coalesce(purpose = 'evaluation', false) DESC, created_at DESC, file
    ) = 1;

COMMENT ON VIEW collections IS 'one row per collection: a command that collected episodes';
COMMENT ON COLUMN collections.collection IS 'name, derived from everything that decides the bytes';
COMMENT ON COLUMN collections.policy IS 'policy that acted';
COMMENT ON COLUMN collections.env IS 'Gymnasium id of the world';
COMMENT ON COLUMN collections.noise IS 'standard deviation of the action noise, action units';
COMMENT ON COLUMN collections.root_seed IS 'episode i is a function of (root_seed, i)';
COMMENT ON COLUMN collections.image_size IS 'height and width of the images, px';
COMMENT ON COLUMN collections.horizon IS 'most actions per episode';
COMMENT ON COLUMN collections.success_low IS 'lowest success rate that the policy documents';
COMMENT ON COLUMN collections.success_high IS 'highest success rate that the policy documents';
COMMENT ON COLUMN collections.part_size IS 'episodes in a whole part';
COMMENT ON COLUMN collections.command IS 'what was typed';
COMMENT ON COLUMN collections.created_at IS 'UTC';
COMMENT ON COLUMN collections.cogdata_version IS 'version that collected';
COMMENT ON COLUMN collections.code IS 'git revision of the code; empty: unknown';
COMMENT ON COLUMN collections.libraries IS 'versions of the libraries that decide bytes, JSON';
COMMENT ON COLUMN collections.host IS 'machine that started it';
COMMENT ON COLUMN collections.localize IS 'source of object positions: simulator or camera';
COMMENT ON COLUMN collections.env_options IS 'options given to the environment, JSON; empty: none';
COMMENT ON COLUMN collections.instruction IS 'text given with --instruction; null: none';

COMMENT ON VIEW parts IS 'one row per committed part of a collection';
COMMENT ON COLUMN parts.collection IS 'collection it belongs to';
COMMENT ON COLUMN parts.part IS 'folder name';
COMMENT ON COLUMN parts.start IS 'first episode_index';
COMMENT ON COLUMN parts.stop IS 'one past the last episode_index';
COMMENT ON COLUMN parts.episodes IS 'episodes in it';
COMMENT ON COLUMN parts.steps IS 'actions in it';
COMMENT ON COLUMN parts.frames IS 'observations in it';
COMMENT ON COLUMN parts.bytes IS 'size of its files';
COMMENT ON COLUMN parts.cogdata_version IS 'version that collected it; null: not kept, by version 0.1';
COMMENT ON COLUMN parts.code IS 'git revision of the code that collected it; empty: unknown, null: not kept';
COMMENT ON COLUMN parts.driver IS 'first digits of the sha256 of env''s module; null: none of yours, or not kept';
COMMENT ON COLUMN parts.libraries IS 'versions of the libraries that decided its bytes, JSON; null: not kept';

COMMENT ON VIEW episodes IS 'one row per committed episode';
COMMENT ON COLUMN episodes.episode_id IS 'name in every table: <collection>/<index>';
COMMENT ON COLUMN episodes.collection IS 'collection it belongs to';
COMMENT ON COLUMN episodes.part IS 'part it lies in';
COMMENT ON COLUMN episodes.episode_index IS 'index within the collection, from 0';
COMMENT ON COLUMN episodes.env IS 'Gymnasium id of the world';
COMMENT ON COLUMN episodes.policy IS 'policy that acted, or the run id of a learned one';
COMMENT ON COLUMN episodes.policy_params IS 'what the policy drew for this episode, JSON';
COMMENT ON COLUMN episodes.noise IS 'standard deviation of the action noise, action units';
COMMENT ON COLUMN episodes.seed IS 'seed given to env.reset';
COMMENT ON COLUMN episodes.task IS 'predicate that the reward judges';
COMMENT ON COLUMN episodes.goal IS 'predicate that the policy tries to reach';
COMMENT ON COLUMN episodes.image_height IS 'px';
COMMENT ON COLUMN episodes.image_width IS 'px';
COMMENT ON COLUMN episodes.scene_fields IS 'names of the entries of steps.scene';
COMMENT ON COLUMN episodes.steps IS 'T, the number of actions';
COMMENT ON COLUMN episodes.total_reward IS 'sum of the rewards as collected';
COMMENT ON COLUMN episodes.success IS 'goal holds on the last observation; null: not judged';
COMMENT ON COLUMN episodes.solved IS 'task was rewarded at any step';
COMMENT ON COLUMN episodes.terminated IS 'last observation is absorbing';
COMMENT ON COLUMN episodes.truncated IS 'the clock stopped it';
COMMENT ON COLUMN episodes.digest IS 'sha256 of its contents, however stored';
COMMENT ON COLUMN episodes.shard IS 'path of its shard within the store';
COMMENT ON COLUMN episodes.frames_offset IS 'first byte of its frames within the shard';
COMMENT ON COLUMN episodes.frames_size IS 'bytes of its frames';
COMMENT ON COLUMN episodes.frames_crc32 IS 'checksum of these bytes';
COMMENT ON COLUMN episodes.steps_offset IS 'first byte of its step arrays within the shard';
COMMENT ON COLUMN episodes.steps_size IS 'bytes of its step arrays';
COMMENT ON COLUMN episodes.steps_crc32 IS 'checksum of these bytes';
COMMENT ON COLUMN episodes.observations IS 'number of observations: steps + 1, or steps where the last is unknown';
COMMENT ON COLUMN episodes.members IS 'where its coded features lie, with checksums; null: layout 1, see frames_offset';
COMMENT ON COLUMN episodes.extras IS 'values of the features per episode, JSON; null: none';

COMMENT ON VIEW steps IS 'one row per observation, t = 0 … T, read from the committed parts';
COMMENT ON COLUMN steps.episode_id IS 'episode it belongs to';
COMMENT ON COLUMN steps.t IS 'observation number, 0 … T';
COMMENT ON COLUMN steps.robot IS '10 numbers: end effector x y z m, quaternion xyzw, fingers m, gripper flag';
COMMENT ON COLUMN steps.scene IS 'poses of the movable things, named by episodes.scene_fields';
COMMENT ON COLUMN steps.action IS '8 numbers in [-1, 1] done from here; null at t = T';
COMMENT ON COLUMN steps.reward IS 'of that action, judged on the next observation; null at t = T';
COMMENT ON COLUMN steps.terminated IS 'next observation is absorbing; null at t = T';
COMMENT ON COLUMN steps.truncated IS 'the clock stopped the episode at the next observation; null at t = T';
COMMENT ON COLUMN steps.phase IS 'what the policy was doing when it chose the action; null at t = T';
COMMENT ON COLUMN steps.grasped IS 'target is held up, on this observation; null: not in scene, or not judged';
COMMENT ON COLUMN steps.placed IS 'object is in the tray, on this observation; null: not in scene, or not judged';
COMMENT ON COLUMN steps.drawer_open IS 'bottom drawer is open, on this observation; null: not in scene, or not judged';
COMMENT ON COLUMN steps.drawer_closed IS 'bottom drawer is closed, on this observation; null: not in scene, or not judged';
COMMENT ON COLUMN steps.top_drawer_closed IS 'top drawer is closed, on this observation; null: not in scene, or not judged';
COMMENT ON COLUMN steps.blocker_moved IS 'blocking object is out of the way, on this observation; null: not in scene, or not judged';

COMMENT ON VIEW features IS 'one row per collection and name that it declares';
COMMENT ON COLUMN features.collection IS 'collection that declares it';
COMMENT ON COLUMN features.feature IS 'name: a column of steps, a column of episodes, or a member of the shard';
COMMENT ON COLUMN features.role IS 'observation, action, reward, extra or predicate';
COMMENT ON COLUMN features.per IS 'observation, transition or episode: what one value belongs to';
COMMENT ON COLUMN features.dtype IS 'type of its values';
COMMENT ON COLUMN features.shape IS 'shape of one value; []: a single number, truth value or text';
COMMENT ON COLUMN features.names IS 'names of the entries of the last axis; []: none';
COMMENT ON COLUMN features.low IS 'lowest allowed value of each entry; null: unbounded';
COMMENT ON COLUMN features.high IS 'highest allowed value of each entry; null: unbounded';
COMMENT ON COLUMN features.privileged IS 'whether only the simulator knows it';
COMMENT ON COLUMN features.codec IS 'how the shard stores it; empty: as a column of steps';
COMMENT ON COLUMN features.rate_hz IS 'values per second; null: unknown, or one per step';
COMMENT ON COLUMN features.source IS 'its name in the dataset it was imported from; empty: the same';
COMMENT ON COLUMN features.help IS 'what it is, in the words of the declaration';

COMMENT ON VIEW layers IS 'one row per version of a layer: features that were derived later';
COMMENT ON COLUMN layers.layer IS 'name of the layer';
COMMENT ON COLUMN layers.version IS 'version, from 1; the newest gives the columns of steps and episodes';
COMMENT ON COLUMN layers.function IS 'module:function that derives it';
COMMENT ON COLUMN layers.features IS 'names of its features: columns of steps, or of episodes';
COMMENT ON COLUMN layers.episodes IS 'episodes that it has values of';
COMMENT ON COLUMN layers.created_at IS 'UTC';
COMMENT ON COLUMN layers.command IS 'what was typed first';
COMMENT ON COLUMN layers.source IS 'sha256 of the source of the module';
COMMENT ON COLUMN layers.cogdata_version IS 'version that began it';

COMMENT ON VIEW mixtures IS 'one row per frozen version of a mixture';
COMMENT ON COLUMN mixtures.mixture IS 'name';
COMMENT ON COLUMN mixtures.version IS 'from 1';
COMMENT ON COLUMN mixtures.digest IS 'sha256 of its content';
COMMENT ON COLUMN mixtures.shape IS 'episode or step: what its SQL returned rows of';
COMMENT ON COLUMN mixtures.episodes IS 'episodes, over all sources';
COMMENT ON COLUMN mixtures.transitions IS 'transitions that take part';
COMMENT ON COLUMN mixtures.rewarded_before IS 'transitions with reward > 0 as collected';
COMMENT ON COLUMN mixtures.rewarded_after IS 'transitions with reward > 0 as frozen';
COMMENT ON COLUMN mixtures.weights IS 'exact share of every batch per source, JSON; {}: uniform over transitions';
COMMENT ON COLUMN mixtures.counts IS 'the four counts per source, JSON';
COMMENT ON COLUMN mixtures.image_height IS 'px';
COMMENT ON COLUMN mixtures.image_width IS 'px';
COMMENT ON COLUMN mixtures.scene_fields IS 'names of the entries of the scene vector';
COMMENT ON COLUMN mixtures.sql IS 'query it was frozen from';
COMMENT ON COLUMN mixtures.created_at IS 'UTC';
COMMENT ON COLUMN mixtures.cogdata_version IS 'version that froze it';

COMMENT ON VIEW mixture_episodes IS 'one row per episode and source of each mixture version';
COMMENT ON COLUMN mixture_episodes.mixture IS 'name of the mixture';
COMMENT ON COLUMN mixture_episodes.version IS 'version of the mixture';
COMMENT ON COLUMN mixture_episodes.episode_id IS 'episode';
COMMENT ON COLUMN mixture_episodes.source IS 'source it belongs to, for example prior or task';
COMMENT ON COLUMN mixture_episodes.reward IS 'reward of every step; null: as collected, or relabelled step by step';
COMMENT ON COLUMN mixture_episodes.weight IS 'relative weight of each of its transitions within the source';
COMMENT ON COLUMN mixture_episodes.t_start IS 'first transition that takes part';
COMMENT ON COLUMN mixture_episodes.t_end IS 'one past the last';
COMMENT ON COLUMN mixture_episodes.steps IS 'T of the whole episode';
COMMENT ON COLUMN mixture_episodes.digest IS 'sha256 of the episode when it was frozen';
COMMENT ON COLUMN mixture_episodes.embodiment IS 'robot whose statistics are its own; null: those of the mixture';

COMMENT ON VIEW runs IS 'one row per training run';
COMMENT ON COLUMN runs.run IS 'id and folder name';
COMMENT ON COLUMN runs.mixture IS 'mixture it learns from';
COMMENT ON COLUMN runs.mixture_version IS 'its version';
COMMENT ON COLUMN runs.mixture_digest IS 'its digest';
COMMENT ON COLUMN runs.algo IS 'algorithm';
COMMENT ON COLUMN runs.preset IS 'named configuration it started from';
COMMENT ON COLUMN runs.obs IS 'image, image+robot or state';
COMMENT ON COLUMN runs.seed IS 'root seed of weights, batches and noise';
COMMENT ON COLUMN runs.updates IS 'updates asked for';
COMMENT ON COLUMN runs.batch_size IS 'transitions per update';
COMMENT ON COLUMN runs.config IS 'whole resolved configuration, JSON';
COMMENT ON COLUMN runs.device IS 'torch device';
COMMENT ON COLUMN runs.threads IS 'torch threads on a CPU';
COMMENT ON COLUMN runs.memory_bytes IS 'budget of the pool that batches came from';
COMMENT ON COLUMN runs.created_at IS 'UTC';
COMMENT ON COLUMN runs.cogdata_version IS 'version that trains';
COMMENT ON COLUMN runs.parent IS 'run that it starts from; null: from fresh weights';
COMMENT ON COLUMN runs.parent_update IS 'updates behind the checkpoint that it starts from';
COMMENT ON COLUMN runs.parent_digest IS 'sha256 of the weights of that checkpoint';
COMMENT ON COLUMN runs.method IS 'named method that it is a stage of: cog list methods';
COMMENT ON COLUMN runs.stage IS 'which stage of the method';
COMMENT ON COLUMN runs.online IS 'settings of learning from its own episodes, JSON; null: offline';
COMMENT ON COLUMN runs.accelerator IS 'what the device calls itself; null: a CPU, or not kept';
COMMENT ON COLUMN runs.status IS 'running (also after a kill), stopped, failed, finished or diverged; null: not begun';
COMMENT ON COLUMN runs.updates_done IS 'updates behind the last checkpoint';
COMMENT ON COLUMN runs.seconds IS 'wall time spent in updates, s';
COMMENT ON COLUMN runs.updated_at IS 'UTC';

COMMENT ON VIEW evaluations IS 'one row per evaluated episode: run, checkpoint, env, seed, stochastic; of several files the newest row, an evaluation before a selection';
COMMENT ON COLUMN evaluations.run IS 'run that was evaluated';
COMMENT ON COLUMN evaluations.evaluation IS 'id of the evaluation that the row is from: run, update, env, seeds, purpose';
COMMENT ON COLUMN evaluations.env IS 'Gymnasium id of the world';
COMMENT ON COLUMN evaluations."update" IS 'updates behind the checkpoint';
COMMENT ON COLUMN evaluations.checkpoint_digest IS 'sha256 of its weights';
COMMENT ON COLUMN evaluations.seed IS 'seed given to env.reset; the same seeds pair runs';
COMMENT ON COLUMN evaluations.success IS 'task holds on the last observation';
COMMENT ON COLUMN evaluations.solved IS 'task was rewarded at any step';
COMMENT ON COLUMN evaluations.first_reward_t IS 't of the first reward; null: never';
COMMENT ON COLUMN evaluations.steps IS 'actions';
COMMENT ON COLUMN evaluations.total_reward IS 'sum of the rewards';
COMMENT ON COLUMN evaluations.stochastic IS 'whether actions were sampled';
COMMENT ON COLUMN evaluations.created_at IS 'UTC';
COMMENT ON COLUMN evaluations.grasped IS 'on the last observation; null: not in scene, or not judged';
COMMENT ON COLUMN evaluations.placed IS 'on the last observation; null: not in scene, or not judged';
COMMENT ON COLUMN evaluations.drawer_open IS 'on the last observation; null: not in scene, or not judged';
COMMENT ON COLUMN evaluations.drawer_closed IS 'on the last observation; null: not in scene, or not judged';
COMMENT ON COLUMN evaluations.top_drawer_closed IS 'on the last observation; null: not in scene, or not judged';
COMMENT ON COLUMN evaluations.blocker_moved IS 'on the last observation; null: not in scene, or not judged';
COMMENT ON COLUMN evaluations.purpose IS 'evaluation, or selection: compared checkpoints while training or for a curve';
COMMENT ON COLUMN evaluations.predicates IS 'what was judged on the last observation: name to truth value';
