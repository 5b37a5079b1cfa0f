"""Names that a replication cannot have."""

RESERVED = frozenset(
    {"all", "data", "decide", "default", "evidence", "index", "judge", "render", "render_evidence", "restore", "show"}
)
"""rules of the workflow; each replication becomes a target beside them"""
