//! Folds repeated tracing events into summaries: an attack is a few lines, and nothing is lost.
