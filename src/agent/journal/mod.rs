//! The agent's durable memory: an append-only file of records, each on stable storage before anything rests on it.
//!
//! Owns: the file's format, its recovery and compaction, the thread that writes it with one fsync for all that waits.
//! Never: knows what a record means (that is `decide::agent`), leaves out a record in the middle, panics on a full disk.

pub mod file;
pub mod line;
pub mod rewriting;
pub mod writer;
