//! Folding, as its users see it.
