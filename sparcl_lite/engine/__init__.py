"""Networks on their nonzero weights only: `accelerate` for any module, `engine_for` for the kit's own training loop."""

from sparcl_lite.engine.wrapping import accelerate, engine_for, engine_of

__all__ = ["accelerate", "engine_for", "engine_of"]
