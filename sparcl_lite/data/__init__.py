"""Where pixels come from (`sources`) and how a run sees them (`streams`)."""
