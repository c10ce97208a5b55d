//! Counting under several threads, and its bounds.
