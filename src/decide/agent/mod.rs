//! The agent as a state machine: inputs to outputs.
