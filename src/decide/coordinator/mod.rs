//! A keystore session of the coordinator as a state machine.
