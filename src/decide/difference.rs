//! Differences with their reasons.
