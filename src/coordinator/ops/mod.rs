//! Use cases: everything that people and programs can ask, a file per noun. REST, console and CLI enter here.
//!
//! Owns: authorising, asking `model` and `decide` whether and what, writing the change in one commit, waking keystores; and the
//! port [`fleet::Fleet`]. Never: speaks HTTP, SQL or gRPC; never sends anything before the commit.

pub mod fleet;
