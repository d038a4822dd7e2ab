//! Scripted cases.
