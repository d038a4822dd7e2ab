//! A file per measurement, and what they share.

pub mod activate;
pub mod big;
pub mod calls;
pub mod estate;
pub mod install;
pub mod inventory;
pub mod material;
pub mod ours;
pub mod pace;
pub mod restart;
pub mod steps;
pub mod store;
pub mod table;
pub mod tokens;
