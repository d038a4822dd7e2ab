//! The commands, a file per noun.

pub mod ca;
