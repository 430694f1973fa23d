"""Layers: features that were derived later from episodes, stored beside them and never within them.

``layers/<name>/v<n>/layer.json`` (:class:`LayerInfo`) says what the layer holds and which function derived
it. ``layers/<name>/v<n>/<collection>/part-00007/`` holds its values for the episodes 700 … 799 of a
collection, in one or more commits, because they are derived in any order and not all at once:

* ``commit-0000.json`` (:class:`LayerCommit`), written last: a file that no commit names does not exist;
* ``episodes-<sha256>.parquet``, a row per episode, and ``steps-<sha256>.parquet``, a row per observation.

A commit is created, never overwritten, under the first number after those that its writer has read, and
leaves out the episodes that those hold. So a layer has an episode once, however many processes derive it at
once and whether or not its function gives the same twice. A row belongs to an episode by name and digest.
"""
