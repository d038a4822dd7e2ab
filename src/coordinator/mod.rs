//! PROCESS 2: the coordinator. Holds what each key should be, fans changes out, gathers what is, shows why it differs.

pub mod api;
pub mod config;
pub mod console;
pub mod ops;
pub mod reconcile;
pub mod restore;
pub mod seal;
pub mod store;
