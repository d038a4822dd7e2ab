//! The commands, a file per noun.

pub mod audit;
pub mod backup;
pub mod bulk;
pub mod ca;
pub mod calendar;
pub mod differences;
pub mod doctor;
pub mod found;
pub mod key;
pub mod keystore;
pub mod probe;
pub mod recover;
pub mod rotate_kek;
pub mod template;
pub mod vault;
pub mod words;
