//! An in-memory token with scripted faults.
