//! The commands, a file per noun.

pub mod audit;
pub mod ca;
pub mod calendar;
pub mod differences;
pub mod found;
pub mod key;
pub mod keystore;
pub mod probe;
pub mod rotate_kek;
pub mod template;
pub mod vault;
pub mod words;
